package vfs_test

import (
	"bytes"
	"strings"
	"testing"

	"verneuil/vfs"
)

func TestNewLogger(t *testing.T) {
	for level, want := range map[string]string{
		"error": "E", "warn": "EW", "info": "EWI", "debug": "EWID", "off": "",
		"": "EW", "DEBUG": "EWID",
	} {
		var out bytes.Buffer
		log, err := vfs.NewLogger(level, &out)
		if err != nil {
			t.Errorf("NewLogger(%q): %v", level, err)
			continue
		}
		log.Error("msgE")
		log.Warn("msgW")
		log.Info("msgI")
		log.Debug("msgD")
		got := ""
		for _, letter := range "EWID" {
			if strings.Contains(out.String(), "msg="+"msg"+string(letter)) {
				got += string(letter)
			}
		}
		if got != want {
			t.Errorf("level %q logs %q, want %q", level, got, want)
		}
	}
}

func TestNewLoggerUnknownLevel(t *testing.T) {
	var out bytes.Buffer
	log, err := vfs.NewLogger("loud", &out)
	if err == nil || !strings.Contains(err.Error(), `"loud"`) {
		t.Errorf("error %v, want one that names the level", err)
	}
	if log.Warn("still heard"); !strings.Contains(out.String(), "still heard") {
		t.Error("the logger returned with the error drops warnings")
	}
}

func TestLevelFromEnv(t *testing.T) {
	for _, c := range []struct{ verneuil, rust, want string }{
		{"", "", "warn"},
		{"debug", "warn", "debug"},
		{"", "error", "error"},
		{"", "hyper=debug", "warn"},
		{"", "hyper=debug,info", "info"},
		{"", "info, verneuil=debug", "debug"},
	} {
		t.Setenv("VERNEUIL_LOG", c.verneuil)
		t.Setenv("RUST_LOG", c.rust)
		if got := vfs.LevelFromEnv(); got != c.want {
			t.Errorf("VERNEUIL_LOG=%q RUST_LOG=%q: level %q, want %q", c.verneuil, c.rust, got,
				c.want)
		}
	}
}
