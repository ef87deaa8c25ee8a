package librados

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// arguments are what a client is made of: CEPH_ARGS, and what goes before that.
//
// librados reads CEPH_ARGS by itself when a client is made, but for which user and configuration it
// names. Then it ends the process if it finds some options, or others without a value, and aborts
// it for an address that is none (src/common/config.cc, parse_argv). Those are refused here.
type arguments struct {
	cluster, user, conf string
	options             []option
	timeout             time.Duration
}

type option struct{ name, value string }

// shorthands are the names of options that have others, too.
var shorthands = map[string]string{
	"-c": "conf", "-n": "name", "-i": "id", "--user": "id", "-m": "mon_host", "-M": "monmap",
	"-k": "keyring", "-K": "keyfile", "-r": "client_mountpoint",
}

// fatal are options that have Ceph's tools print something, and end, or abort.
var fatal = []string{"show_conf", "show_config", "show_config_value", "show_args", "version",
	"help", "bind"}

// valued are options without whose value librados ends the process.
var valued = []string{"monmap", "mon_host", "keyfile", "keyring", "client_mountpoint"}

// parseArgs reads CEPH_ARGS, as Ceph's tools do.
func parseArgs(text string) (*arguments, error) {
	a := new(arguments)
	words := strings.Fields(text)
	for i := 0; i < len(words) && words[i] != "--"; i++ {
		word, value, has := strings.Cut(words[i], "=")
		name := shorthands[word]
		if name == "" {
			if !strings.HasPrefix(word, "--") {
				continue
			}
			name = strings.ReplaceAll(word[2:], "-", "_")
		}
		if slices.Contains(fatal, name) {
			return nil, fmt.Errorf("CEPH_ARGS: %s is for Ceph's tools: remove it", word)
		}
		switch {
		case has:
		case i+1 < len(words) && !strings.HasPrefix(words[i+1], "-"):
			i++
			value = words[i]
		case strings.HasPrefix(name, "no_"):
			name, value = strings.TrimPrefix(name, "no_"), "false"
		case slices.Contains(valued, name):
			return nil, fmt.Errorf("CEPH_ARGS: %s has no value", word)
		default:
			value = "true"
		}
		if err := a.set(name, value); err != nil {
			return nil, fmt.Errorf("CEPH_ARGS: %s: %w", word, err)
		}
	}
	return a, nil
}

func (a *arguments) set(name, value string) error {
	switch name {
	case "cluster":
		a.cluster = value
	case "conf":
		a.conf = value
	case "name":
		a.user = value
	case "id":
		a.user = "client." + value
	case "keyfile":
		key, err := os.ReadFile(value)
		if err != nil {
			return err
		}
		a.options = append(a.options, option{"key", string(bytes.TrimSpace(key))})
	default:
		a.options = append(a.options, option{name, value})
	}
	return nil
}

func (a *arguments) has(name string) bool {
	return slices.ContainsFunc(a.options, func(o option) bool { return o.name == name })
}

// over has what o says go before CEPH_ARGS, and the rest be what it is by default.
func (a *arguments) over(o Options) {
	if o.User != "" {
		a.user = o.User
		if !strings.HasPrefix(o.User, "client.") {
			a.user = "client." + o.User
		}
	}
	a.user = cmp.Or(a.user, "client.admin")
	a.cluster = cmp.Or(o.Cluster, a.cluster, "ceph")
	a.conf = cmp.Or(o.Conf, a.conf, os.Getenv("CEPH_CONF"))
	keyring := o.Keyring
	if keyring == "" && !a.has("keyring") && !a.has("key") {
		keyring = os.Getenv("CEPH_KEYRING")
	}
	if keyring != "" {
		a.options = append(a.options, option{"keyring", keyring})
	}
	a.timeout = o.Timeout
}

// Resolved returns o with what CEPH_ARGS and CEPH_CONF say where it says nothing, and the defaults;
// Conf stays empty where Ceph's default places are looked at. CEPH_ARGS that Connect would refuse
// say nothing. It asks nobody.
func (o Options) Resolved() Options {
	a, err := parseArgs(os.Getenv("CEPH_ARGS"))
	if err != nil {
		a = new(arguments)
	}
	a.over(o)
	o.Cluster, o.User, o.Conf = a.cluster, a.user, a.conf
	return o
}
