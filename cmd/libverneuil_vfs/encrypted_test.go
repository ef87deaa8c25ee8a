package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVFSThatEncrypts: the default VFS, which is the one below ours, stores other bytes than
// SQLite gives it. Every version is the file as it was stored: what SQLite wrote is in none.
func TestVFSThatEncrypts(t *testing.T) {
	s := dirSite(t)
	encrypting := s.path("xorvfs.so")
	r := run(t, nil, "gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"+goSQLite(t),
		"-o", encrypting, inHosts("xorvfs.c"))
	if r.code != 0 {
		t.Fatalf("compile xorvfs.c: %s%s", r.stdout, r.stderr)
	}
	shell := start(t, []string{s.env()}, sqliteShell(t), "-batch")
	shell.must(".load " + encrypting)
	shell.must(".load " + library(t))
	shell.must(".open " + s.path("a.db"))
	shell.must("create table t(a integer primary key, b);")
	shell.flush()
	for _, sql := range []string{"insert into t(b) values(zeroblob(20000));", "update t set b = 'secret';", "insert into t(b) values('more');"} {
		if answer := shell.ask(sql); answer != "" {
			t.Fatalf("%s: %s", sql, answer)
		}
		shell.flush()
	}
	shell.endsWith(0)
	s.mustEqual("a.db")
	first, err := os.ReadFile(s.path("a.db"))
	if err != nil {
		t.Fatal(err)
	}
	versions := strings.Split(s.ctl("versions", "-s", s.path("a.db")), "\n")
	for _, version := range versions[:len(versions)-1] {
		to := filepath.Join(t.TempDir(), "version.db")
		s.ctl("restore", "--force", "-s", s.path("a.db"), "--version-id", strings.Fields(version)[1], "-o", to)
		b, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:16], first[:16]) || bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("more")) {
			t.Errorf("version %s is not what was stored: %q", version, b[:16])
		}
	}
}
