package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/test/cephtest"
)

// radosSite is a site whose target is a namespace of a cluster.
func radosSite(t *testing.T) *site {
	c := cephtest.Shared(t)
	c.Setenv(t, "")
	s := dirSite(t)
	s.target = map[string]any{"rados": map[string]any{"pool": cephtest.Pool,
		"namespace": c.Namespace()}}
	return s
}

// TestStoreRemoved: a database is removed only if that is said, also from who holds it, and he is
// told; nobody finds it, and there may be another one of its name.
func TestStoreRemoved(t *testing.T) {
	lib := library(t)
	for name, of := range map[string]func(*testing.T) *site{
		"dir": dirSite, "s3": minioSite, "rados": radosSite,
	} {
		t.Run(name, func(t *testing.T) {
			s := of(t).withStores()
			const uri = "file:///s/x.db"
			s.ctl("import", s.database("y.db", 100_000), uri)
			s.ctl("create", "file:///s/other.db")
			s.ctl("verify", "--drill", uri)
			holder := startShell(t, nil, ctlCommand("-c", s.config(), "shell", uri, "--vfs", lib))
			holder.ask("BEGIN IMMEDIATE; CREATE TABLE held(x);")
			who := fmt.Sprintf("pid %d on %s", holder.command.Process.Pid, hostname)
			s.refuse(1, []string{who, "--force"}, "rm", uri)
			s.refuse(1, []string{"none.db", "there is", "/x.db"}, "rm", "file:///s/none.db")
			s.refuse(1, []string{"none.db", "there is", "/x.db"}, "rm", "--force",
				"file:///s/none.db")
			s.ctl("rm", "--force", uri)
			if said := strings.Join(holder.ask("COMMIT;"), "\n"); !strings.Contains(said,
				"taken the database over") {
				t.Errorf("the holder is told %q", said)
			}
			for _, args := range [][]string{{"rm", "--force", uri},
				{"export", uri, s.path("out")}, {"lock", "info", uri}} {
				s.refuse(1, []string{"x.db"}, args...)
			}
			list := s.ctl("ls", "file:///s")
			if strings.Contains(list, "x.db") || !strings.Contains(list, "other.db") {
				t.Errorf("ls: %s", list)
			}
			s.ctl("verify", "--store", "s", "--read")
			s.ctl("create", uri)
			shell := startShell(t, nil, ctlCommand("-c", s.config(), "shell", uri, "--vfs", lib))
			got := shell.ask("CREATE TABLE t(x); INSERT INTO t VALUES(7); SELECT * FROM t;")
			if !slices.Equal(got, []string{"7"}) {
				t.Errorf("a new one of that name: %q", got)
			}
		})
	}
}

// TestStoreProofGoesFirst: a removal that cannot take the proof of restore along takes nothing, so
// that no new database of that name shows it; and one that finds no database takes the proof that
// an earlier one has left.
func TestStoreProofGoesFirst(t *testing.T) {
	s := dirSite(t).withStores()
	const uri = "file:///s/x.db"
	s.ctl("import", s.database("y.db", 10_000), uri)
	s.ctl("verify", "--drill", uri)
	proofs, err := filepath.Glob(s.path("store/manifests/proof-*"))
	if err != nil || len(proofs) != 1 {
		t.Fatalf("proofs: %q, %v", proofs, err)
	}
	if err := os.Rename(proofs[0], s.path("proof")); err != nil {
		t.Fatal(err)
	}
	// What is no file cannot be deleted as one.
	if err := os.MkdirAll(proofs[0]+"/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	s.refuse(1, []string{"proof of restore"}, "rm", "--force", uri)
	s.ctl("export", uri, s.path("out.db"))
	if err := os.RemoveAll(proofs[0]); err != nil {
		t.Fatal(err)
	}
	s.ctl("rm", "--force", uri)
	if err := os.Rename(s.path("proof"), proofs[0]); err != nil {
		t.Fatal(err)
	}
	s.refuse(1, []string{"x.db"}, "rm", "--force", uri)
	s.ctl("create", uri)
	if list := line(t, s.ctl("ls", uri, "--json")); list["proven"] != nil {
		t.Errorf("a new database was proven at %v", list["proven"])
	}
}
