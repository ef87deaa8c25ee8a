package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"verneuil/test/cephtest"
)

// TestImportOfLibcephsqlite: what Ceph's own VFS has stored comes into a store, and is as it was.
func TestImportOfLibcephsqlite(t *testing.T) {
	c := cephtest.Shared(t)
	c.Setenv(t, "")
	s := dirSite(t).withStores()
	place := fmt.Sprintf("/%s:%s/app.db", cephtest.Pool, c.Namespace())
	command := exec.Command(sqliteShell(t), "-batch", "-bail", "-cmd",
		".load "+c.Programs.Library(t, "libcephsqlite.so"),
		"-cmd", ".open file://"+place+"?vfs=ceph")
	command.Stdin = strings.NewReader("pragma page_size = 65536; pragma journal_mode = persist;" +
		"create table t(v); with n(i) as (select 1 union all select i + 1 from n where i < 5000)" +
		"insert into t select randomblob(1000) from n;")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	source := "cephsqlite://" + place
	s.ctl("import", source, "file:///s/app.db")
	s.ctl("export", "file:///s/app.db", s.path("out.db"))
	if n := rows(t, s.path("out.db")); n != 5000 {
		t.Errorf("%d rows", n)
	}
	s.ctl("import", "--replace", source+"?vfs=ceph", "file:///s/app.db")
	s.refuse(1, []string{"cephsqlite:///", "/none.db", "no such file"}, "import",
		strings.Replace(source, "app.db", "none.db", 1), "file:///s/b.db")
	s.refuse(1, []string{"nosuchpool", "no such pool"}, "import", "cephsqlite:///nosuchpool:/a.db",
		"file:///s/b.db")
	s.refuse(2, []string{"cephsqlite:///POOL:NAMESPACE/NAME"}, "import", "cephsqlite:///a.db",
		"file:///s/b.db")
	s.refuse(2, []string{"has no versions"}, "import", "--at", "2026-01-01", source,
		"file:///s/b.db")
}
