package hosts_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/test/e2e/harness"
)

// VFSes that other extensions bring, or the host, above ours and below it (spool I8).

// extension compiles a C file into a loadable extension.
func extension(s *harness.Site, source string, flags ...string) string {
	s.T.Helper()
	library := s.Compile(source, append(flags, "-shared", "-fPIC")...)
	harness.Must(s.T, os.Rename(library, library+".so"))
	return library + ".so"
}

// stacked starts a shell that has loaded extensions in that order, and has db open.
func stacked(s *harness.Site, db string, env []string, extensions ...string) *harness.Process {
	s.T.Helper()
	shell := harness.Start(s.T, append([]string{s.Env()}, env...), harness.SQLiteShell(s.T),
		"-batch")
	for _, extension := range extensions {
		shell.Must(".load " + extension)
	}
	shell.Must(".timeout 10000")
	shell.Must(".open " + db)
	return shell
}

// stackedWork is a workload that leaves count rows in t.
var stackedWork = []string{
	"create table if not exists t(a integer primary key, b);",
	"begin; insert into t(b) values(zeroblob(20000));" +
		" insert into t(b) values('PLAINTEXT'); commit;",
	"update t set b = 'PLAINTEXT' || a;",
	"begin; delete from t where a % 2; rollback;",
	"insert into t(b) select 'PLAINTEXT' from t;",
	"vacuum;",
}

// hasPlain returns the files of the spool and the target in which what SQLite wrote stands as it
// is.
func hasPlain(s *harness.Site) (files []string) {
	for _, root := range []string{"spool", "store"} {
		_ = filepath.WalkDir(s.Path(root), func(path string, e fs.DirEntry, err error) error {
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
	for _, journal := range harness.Journals {
		for _, header := range []string{"", "XOR_HEADER=1"} {
			for _, order := range []string{"below", "above"} {
				t.Run(strings.TrimSuffix(strings.Join([]string{journal, order, header}, "/"), "/"),
					func(t *testing.T) {
						encrypts(t, journal, order == "above", header)
					})
			}
		}
	}
}

func encrypts(t *testing.T, journal string, above bool, header string) {
	s, env := harness.DirSite(t), []string{header}
	if header == "" {
		env = nil
	}
	xor := extension(s, harness.InHosts("xorvfs.c"), "-Wall", "-Wextra", "-Werror")
	extensions := []string{xor, harness.Library(t)}
	if above {
		slices.Reverse(extensions)
	}
	// made with us; opened with us again; made without us, and changed with us
	for round := range 3 {
		db := s.Path([]string{"a.db", "a.db", "b.db"}[round])
		if round == 2 {
			shell := stacked(s, db, env, xor)
			shell.Want("pragma journal_mode="+journal+";", journal)
			for _, sql := range stackedWork {
				shell.Must(sql)
			}
			shell.EndsWith(0)
		}
		shell := stacked(s, db, env, extensions...)
		shell.Want("pragma journal_mode="+journal+";", journal)
		for _, sql := range stackedWork {
			if answer := shell.Ask(sql); answer != "" {
				t.Fatalf("%s: %s", sql, answer)
			}
			answer := shell.Ask("pragma verneuil_flush_replication_data;")
			if (answer == "1") != above {
				t.Fatalf("%s: flush answers %q: %s", sql, answer,
					shell.Ask("select verneuil_status();"))
			}
		}
		count := shell.Ask("select count(*) from t;")
		if said := strings.Contains(shell.Ask("select verneuil_status();"),
			"does not store the bytes"); said == above {
			t.Errorf("verneuil_status() says that it is not replicated: %v", said)
		}
		if n := strings.Count(shell.Stderr(), "does not store the bytes"); n != 1 && !above ||
			n != 0 && above {
			t.Errorf("it is said %d times: %s", n, shell.Stderr())
		}
		shell.EndsWith(0)
		if above {
			s.MustEqual(filepath.Base(db))
			s.Ctl("verify", "--drill", "--encrypted", db)
		}
		if files := hasPlain(s); len(files) > 0 {
			t.Errorf("in plain: %q", files)
		}
		without := stacked(s, db, env, xor)
		without.Want("pragma integrity_check;", "ok")
		without.Want("select count(*) from t;", count)
		without.EndsWith(0)
	}
}

// ciphers runs test/hosts/ciphers.py.
func ciphers(s *harness.Site, packages, library, vfs, db, journal, header string) string {
	s.T.Helper()
	r := harness.Run(s.T, []string{s.Env(), "VERNEUIL_LOG=warn"}, harness.Python,
		harness.InHosts("ciphers.py"), packages, library, vfs, s.Path(db), journal, header)
	if r.Code != 0 || r.Stderr != "" {
		s.T.Fatalf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	return trimmed(r)
}

// TestI8MultipleCiphers: with SQLite3MultipleCiphers, whose VFS is the default one, a database
// is encrypted as without us, replicated so, and opens without us. It was made by us, or before.
func TestI8MultipleCiphers(t *testing.T) {
	packages := os.Getenv("VERNEUIL_SQLITE3MC")
	if _, err := os.Stat(filepath.Join(packages, "apsw")); packages == "" || err != nil {
		t.Skip("no SQLite3MultipleCiphers (VERNEUIL_SQLITE3MC): make ciphers")
	}
	for _, journal := range harness.Journals {
		for _, header := range []string{"0", "32"} {
			for _, vfs := range []string{"-", "multipleciphers-verneuil"} {
				t.Run(journal+"/"+header+"/"+vfs, func(t *testing.T) {
					s := harness.DirSite(t)
					s.Configure(map[string]any{"make_default": vfs == "-"})
					want := func(ext, vfs, db, want string) {
						t.Helper()
						if got := ciphers(s, packages, ext, vfs, db, journal, header); got != want {
							t.Fatalf("%s: %q, want %q", db, got, want)
						}
					}
					restored := func(db, text string) {
						t.Helper()
						if journal != "wal" { // a WAL checkpoint encrypts pages anew
							s.MustEqual(db)
						}
						s.Ctl("restore", "-s", s.Path(db), "-o", s.Path("restored-"+db))
						want("-", "-", "restored-"+db, text)
					}
					want(harness.Library(t), vfs, "new.db", "10 ok "+journal+" 11111")
					want(harness.Library(t), vfs, "new.db", "20 ok "+journal+" 11111")
					restored("new.db", "30 ok "+journal)
					want("-", "-", "new.db", "30 ok "+journal)
					want("-", "-", "old.db", "10 ok "+journal)
					want(harness.Library(t), vfs, "old.db", "20 ok "+journal+" 11111")
					restored("old.db", "30 ok "+journal)
					want("-", "-", "old.db", "30 ok "+journal)
					if files := hasPlain(s); len(files) > 0 {
						t.Errorf("in plain: %q", files)
					}
				})
			}
		}
	}
}

// TestStackedVFSes: SQLite's own shims above ours and below it.
func TestStackedVFSes(t *testing.T) {
	misc := filepath.Join("..", "..", "..", ".tools", "sqlite-test", "src", "ext", "misc")
	for name, c := range map[string]struct{ source, entry, prepare, vfs string }{
		"cksumvfs":  {"cksumvfs.c", "sqlite3_cksumvfs_init", ".filectrl reserve_bytes 8", ""},
		"vfsstat":   {"vfsstat.c", "sqlite3_vfsstat_init", "", ""},
		"appendvfs": {"appendvfs.c", "sqlite3_appendvfs_init", "", "apndvfs"},
	} {
		for _, journal := range harness.Journals {
			for _, order := range []string{"below", "above"} {
				if c.vfs != "" && (order == "below" || journal == "wal") {
					continue // it is not the default VFS; it moves pages, but not those of a WAL
				}
				t.Run(name+"/"+journal+"/"+order, func(t *testing.T) {
					if _, err := os.Stat(filepath.Join(misc, c.source)); err != nil {
						t.Skip("no source of SQLite's: make sqlite-programs")
					}
					s := harness.DirSite(t)
					shim := extension(s, filepath.Join(misc, c.source)) + " " + c.entry
					extensions := []string{shim, harness.Library(t)}
					if order == "above" {
						slices.Reverse(extensions)
					}
					db := s.Path("a.db")
					if c.vfs != "" {
						db = "file://" + db + "?vfs=" + c.vfs
					}
					shell := stacked(s, db, nil, extensions...)
					if c.prepare != "" {
						shell.Ask(c.prepare)
					}
					shell.Must("vacuum;")
					shell.Want("pragma journal_mode="+journal+";", journal)
					for range 2 {
						for _, sql := range stackedWork {
							shell.Must(sql)
							shell.Flush()
						}
					}
					count := shell.Ask("select count(*) from t;")
					shell.EndsWith(0)
					s.Ctl("flush", s.Path("spool"))
					s.MustEqual("a.db")
					without := stacked(s, db, nil, shim)
					without.Want("pragma integrity_check;", "ok")
					without.Want("select count(*) from t;", count)
					without.EndsWith(0)
				})
			}
		}
	}
}
