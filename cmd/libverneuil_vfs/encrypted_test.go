package main_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// VFSes that other extensions bring, or the host, above ours and below it (spool I8).

// extension compiles a C file into a loadable extension.
func (s *site) extension(source string, flags ...string) string {
	s.t.Helper()
	library := s.path(strings.TrimSuffix(filepath.Base(source), ".c") + ".so")
	argv := append([]string{"gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-I" + goSQLite(s.t), "-o", library, source}, flags...)
	if r := run(s.t, nil, argv...); r.code != 0 {
		s.t.Fatalf("compile %s: %s%s", source, r.stdout, r.stderr)
	}
	return library
}

// stacked starts a shell that has loaded extensions in that order, and has db open.
func (s *site) stacked(db string, env []string, extensions ...string) *session {
	s.t.Helper()
	shell := start(s.t, append([]string{s.env()}, env...), sqliteShell(s.t), "-batch")
	for _, extension := range extensions {
		shell.must(".load " + extension)
	}
	shell.must(".timeout 10000")
	shell.must(".open " + db)
	return shell
}

// stackedWork is a workload that leaves count rows in t.
var stackedWork = []string{
	"create table if not exists t(a integer primary key, b);",
	"begin; insert into t(b) values(zeroblob(20000)); insert into t(b) values('PLAINTEXT'); commit;",
	"update t set b = 'PLAINTEXT' || a;",
	"begin; delete from t where a % 2; rollback;",
	"insert into t(b) select 'PLAINTEXT' from t;",
	"vacuum;",
}

// hasPlain returns the files of the spool and the target in which what SQLite wrote stands as it is.
func (s *site) hasPlain() (files []string) {
	for _, root := range []string{"spool", "store"} {
		_ = filepath.WalkDir(s.path(root), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("PLAINTEXT")) {
					files = append(files, path)
				}
			}
			return nil
		})
	}
	return files
}

// TestI8VFSThatEncrypts: a VFS stores other bytes than SQLite gives it, and changes a WAL's only
// where the database's methods are its own. Below ours it is left alone: the database is what it
// would be without us, nothing of it in plain is anywhere else, and it is said that it is not
// replicated. Above ours it is replicated as it is stored.
func TestI8VFSThatEncrypts(t *testing.T) {
	for _, journal := range journals {
		for _, header := range []string{"", "XOR_HEADER=1"} {
			for _, order := range []string{"below", "above"} {
				t.Run(strings.TrimSuffix(strings.Join([]string{journal, order, header}, "/"), "/"), func(t *testing.T) {
					encrypts(t, journal, order == "above", header)
				})
			}
		}
	}
}

func encrypts(t *testing.T, journal string, above bool, header string) {
	s, env := dirSite(t), []string{header}
	if header == "" {
		env = nil
	}
	xor := s.extension(inHosts("xorvfs.c"), "-Wall", "-Wextra", "-Werror")
	extensions := []string{xor, library(t)}
	if above {
		slices.Reverse(extensions)
	}
	for round := range 3 { // made with us; opened with us again; made without us, and changed with us
		db := s.path([]string{"a.db", "a.db", "b.db"}[round])
		if round == 2 {
			shell := s.stacked(db, env, xor)
			shell.want("pragma journal_mode="+journal+";", journal)
			for _, sql := range stackedWork {
				shell.must(sql)
			}
			shell.endsWith(0)
		}
		shell := s.stacked(db, env, extensions...)
		shell.want("pragma journal_mode="+journal+";", journal)
		for _, sql := range stackedWork {
			if answer := shell.ask(sql); answer != "" {
				t.Fatalf("%s: %s", sql, answer)
			}
			if answer := shell.ask("pragma verneuil_flush_replication_data;"); (answer == "1") != above {
				t.Fatalf("%s: flush answers %q: %s", sql, answer, shell.ask("select verneuil_status();"))
			}
		}
		count := shell.ask("select count(*) from t;")
		if said := strings.Contains(shell.ask("select verneuil_status();"), "stores other bytes"); said == above {
			t.Errorf("verneuil_status() says that it is not replicated: %v", said)
		}
		if n := strings.Count(shell.stderr(), "stores other bytes"); n != 1 && !above || n != 0 && above {
			t.Errorf("it is said %d times: %s", n, shell.stderr())
		}
		shell.endsWith(0)
		if above {
			s.mustEqual(filepath.Base(db))
		}
		if files := s.hasPlain(); len(files) > 0 {
			t.Errorf("in plain: %q", files)
		}
		without := s.stacked(db, env, xor)
		without.want("pragma integrity_check;", "ok")
		without.want("select count(*) from t;", count)
		without.endsWith(0)
	}
}
