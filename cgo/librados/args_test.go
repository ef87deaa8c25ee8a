package librados

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestArgs(t *testing.T) {
	keyfile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyfile, []byte("AQ==\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		over Options
		want arguments
	}{
		{"", Options{}, arguments{cluster: "ceph", user: "client.admin"}},
		{"--id app -c /etc/x.conf --cluster=west", Options{},
			arguments{cluster: "west", user: "client.app", conf: "/etc/x.conf"}},
		{"-n client.app --id=web", Options{User: "third", Conf: "/y", Timeout: time.Second},
			arguments{cluster: "ceph", user: "client.third", conf: "/y", timeout: time.Second}},
		{"-m 10.0.0.1 --ms-bind-ipv6 --no-ms-bind-ipv4 --debug_ms=1 -- --cluster x",
			Options{User: "client.a"}, arguments{cluster: "ceph", user: "client.a",
				options: []option{{"mon_host", "10.0.0.1"}, {"ms_bind_ipv6", "true"},
					{"ms_bind_ipv4", "false"}, {"debug_ms", "1"}}}},
		{"-K " + keyfile + " stray", Options{Keyring: "/k"}, arguments{cluster: "ceph",
			user: "client.admin", options: []option{{"key", "AQ=="}, {"keyring", "/k"}}}},
	} {
		t.Setenv("CEPH_KEYRING", "")
		t.Setenv("CEPH_CONF", "")
		got, err := parseArgs(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got.over(c.over); !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%q: %+v, want %+v", c.text, *got, c.want)
		}
	}
	for _, text := range []string{"--show_config", "--show-config-value=x", "--version",
		"--bind 127.0.0.1", "--id a -k", "--mon-host -x", "--keyfile", "-K /none"} {
		if _, err := parseArgs(text); err == nil || !strings.Contains(err.Error(), "CEPH_ARGS") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
