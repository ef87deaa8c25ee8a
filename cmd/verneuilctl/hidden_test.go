package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
)

// mayNotList gives the test credentials that may get the objects of a minioSite, and no more, at a
// store that denies them what is not there, as AWS does.
func mayNotList(s *site) {
	s.t.Helper()
	s3 := s.target["s3"].(map[string]any)
	endpoint := s3["endpoint"].(string)
	proxy := faultproxy.Start(s.t, endpoint)
	proxy.Set(func(int, *http.Request) faultproxy.Fault { return faultproxy.Fault{Hide: true} })
	for _, variable := range miniotest.ReadOnly(s.t, endpoint, "chunks", "manifests") {
		name, value, _ := strings.Cut(variable, "=")
		s.t.Setenv(name, value)
	}
	s3["endpoint"] = proxy.URL
	s.withStores()
}

// TestStoreHidden: who may not list is told who holds a database, as far as the log says, that
// heartbeats are not known, and what a database that is denied may be.
func TestStoreHidden(t *testing.T) {
	s := minioSite(t).withStores()
	s.ctl("import", s.database("free.db", 10_000), "file:///s/free.db")
	s.ctl("create", "file:///s/held.db")
	shell := startShell(t, nil, ctlCommand("-c", s.config(), "shell", "file:///s/held.db",
		"--vfs", library(t)))
	shell.ask("CREATE TABLE t(x); BEGIN IMMEDIATE; INSERT INTO t VALUES(1);")
	mayNotList(s)
	for uri, who := range map[string]string{"file:///s/free.db": "nobody",
		"file:///s/held.db": fmt.Sprintf("pid %d on %s", shell.command.Process.Pid, hostname)} {
		said := s.ctl("lock", "info", uri)
		for _, part := range []string{who, "not known", "s3:ListBucket"} {
			if !strings.Contains(said, part) {
				t.Errorf("%s: %q is not in %s", uri, part, said)
			}
		}
		v := line(t, s.ctl("lock", "info", uri, "--json"))
		if v["held"] != (who != "nobody") || v["denied"] == nil {
			t.Errorf("%s: %v", uri, v)
		}
	}
	s.refuse(1, []string{"get, put and list"}, "lock", "break", "--force", "file:///s/held.db")
	// Once there is a heartbeat it is known; not who waits: nobody does, which is denied, too.
	for tries := 0; line(t, s.ctl("lock", "info", "file:///s/held.db",
		"--json"))["heartbeat_stored"] == nil; tries++ {
		if tries == 1000 {
			t.Fatal("there is no heartbeat")
		}
	}
	said := s.ctl("lock", "info", "file:///s/held.db")
	if !strings.Contains(said, fmt.Sprintf("pid %d on %s", shell.command.Process.Pid, hostname)) ||
		strings.Contains(said, "not known") {
		t.Errorf("with a heartbeat: %s", said)
	}
	for _, args := range [][]string{{"lock", "info"}, {"lock", "break"}, {"rm"},
		{"manifest", "--json"}, {"restore", "-o", s.path("out.db")}} {
		s.refuse(1, []string{"none.db", "s3:ListBucket", "is the name right"},
			append(args, "file:///s/none.db")...)
	}
	s.refuse(1, []string{"none.db", "s3:ListBucket", "is the name right"}, "restore",
		s.path("none.db"), "-o", s.path("out.db"))
}
