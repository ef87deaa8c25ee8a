package harness

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"verneuil/chunkstore/miniotest"
)

// Hostname is the "hostname" of every site: names in a target begin with it.
const Hostname = "test-host"

// Site is a place to try things in: a directory, a configuration, a target. It belongs to one
// test, and its files go when that ends.
type Site struct {
	T       *testing.T
	Dir     string // absolute, without symbolic links
	Targets []any  // what Configure writes as replication_targets
}

// EmptySite has a directory, and neither configuration nor target. Our variables are unset in the
// test's environment. Without an extension the test is skipped.
func EmptySite(t *testing.T) *Site {
	t.Helper()
	Library(t)
	ours := []string{"VERNEUIL_CONFIG", "VERNEUIL_LOG", "RUST_LOG", "VERNEUIL_VALIDATE"}
	for _, name := range ours {
		t.Setenv(name, "")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Site{T: t, Dir: dir}
}

// DirSite has a target in a directory, Path("store").
func DirSite(t *testing.T) *Site {
	t.Helper()
	s := EmptySite(t)
	s.Targets = []any{map[string]any{"dir": map[string]any{"path": s.Path("store")}}}
	s.Configure(nil)
	return s
}

// S3Site has a target in the MinIO server at endpoint.
func S3Site(t *testing.T, endpoint string) *Site {
	t.Helper()
	s := EmptySite(t)
	s.Targets = []any{map[string]any{"s3": map[string]any{
		"region": "minio", "endpoint": endpoint, "create_buckets_on_demand": true,
		"chunk_bucket": "chunks", "manifest_bucket": "manifests",
	}}}
	s.Configure(nil)
	return s
}

// MinioSite has a target in a MinIO server of its own, which ends with the test.
func MinioSite(t *testing.T) *Site { t.Helper(); return S3Site(t, miniotest.Start(t)) }

// Path returns the absolute path of a file in the site.
func (s *Site) Path(name string) string { return filepath.Join(s.Dir, name) }

// Config is what VERNEUIL_CONFIG and verneuilctl -c are to say.
func (s *Site) Config() string { return "@" + s.Path("verneuil.json") }

// Env is the variable that names the configuration.
func (s *Site) Env() string { return "VERNEUIL_CONFIG=" + s.Config() }

// Configure writes the configuration, with changes on top of it.
func (s *Site) Configure(changes map[string]any) {
	s.T.Helper()
	config := map[string]any{
		"make_default":             true,
		"hostname":                 Hostname,
		"replication_spooling_dir": s.Path("spool"),
		"replication_targets":      s.Targets,
		"api_calls_per_second":     10000,
		"manifest_interval_ms":     50,
	}
	for key, value := range changes {
		config[key] = value
	}
	b, err := json.Marshal(config)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Write("verneuil.json", b)
}

// Write writes a file in the site.
func (s *Site) Write(name string, b []byte) {
	s.T.Helper()
	if err := os.WriteFile(s.Path(name), b, 0o600); err != nil {
		s.T.Fatal(err)
	}
}

// Ctl runs verneuilctl, which must succeed, and returns what it printed.
func (s *Site) Ctl(args ...string) string {
	s.T.Helper()
	r := Run(s.T, nil, append([]string{Built(s.T, "VERNEUIL_CTL"), "-c", s.Config()}, args...)...)
	if r.Code != 0 {
		s.T.Fatalf("verneuilctl %s: exit code %d\n%s%s",
			strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// MustEqual restores the newest version of the database, and compares it with the file, byte for
// byte.
func (s *Site) MustEqual(db string) {
	s.T.Helper()
	out := filepath.Join(s.T.TempDir(), "restored.db")
	defer os.Remove(out)
	s.Ctl("restore", "--force", "-s", s.Path(db), "-o", out)
	got, err := os.ReadFile(out)
	if err != nil {
		s.T.Fatal(err)
	}
	want, err := os.ReadFile(s.Path(db))
	if err != nil {
		s.T.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	s.T.Fatalf("restored %d bytes, database %s has %d; they differ at %d",
		len(got), db, len(want), at)
}

// UntilRestored waits until the newest version of db, restored, answers sql with want, one line.
func (s *Site) UntilRestored(db, sql, want string) {
	s.T.Helper()
	out := filepath.Join(s.T.TempDir(), "restored.db")
	Until(s.T, db+" in the target says "+want, func() bool {
		r := Run(s.T, nil, Built(s.T, "VERNEUIL_CTL"), "-c", s.Config(),
			"restore", "--force", "-s", s.Path(db), "-o", out)
		return r.Code == 0 && Run(s.T, nil, SQLiteShell(s.T), out, sql).Stdout == want+"\n"
	})
}

// Stock asks the sqlite3 shell, without the extension, which must not complain.
func (s *Site) Stock(db string, sql ...string) string {
	s.T.Helper()
	r := Run(s.T, nil, append([]string{SQLiteShell(s.T), s.Path(db)}, sql...)...)
	if r.Code != 0 || r.Stderr != "" {
		s.T.Fatalf("sqlite3 %s %q: exit code %d\n%s%s", db, sql, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Shell starts a sqlite3 shell that has the extension loaded and db open; none, if db is empty.
func (s *Site) Shell(db string, env ...string) *Process {
	s.T.Helper()
	shell := Start(s.T, append([]string{s.Env()}, env...), SQLiteShell(s.T), "-batch")
	shell.Must(".load " + Library(s.T))
	if db != "" {
		shell.Must(".open " + s.Path(db))
	}
	shell.Must(".timeout 10000") // .open forgets it
	return shell
}

// Host starts the program that HostProgram compiles, with the extension loaded.
func (s *Site) Host() *Process {
	s.T.Helper()
	return Start(s.T, []string{s.Env()}, HostProgram(s.T), Library(s.T))
}

// Written starts a shell that has created db, in that journal mode, with a table t of one row.
func (s *Site) Written(db, journal string) *Process {
	s.T.Helper()
	shell := s.Shell(db)
	shell.Want("pragma journal_mode="+journal+";", journal)
	shell.Must("create table t(a integer primary key, b);")
	shell.Must("insert into t(b) values(randomblob(200000));")
	return shell
}

// ForNobody makes the site a directory of Nobody, who can use nothing else, and returns copies of
// host and extension in it. Only root can do that.
func (s *Site) ForNobody() (program, library string) {
	s.T.Helper()
	program, library = s.Path("host"), s.Path("libverneuil_vfs.so")
	copies := map[string]string{program: HostProgram(s.T), library: Library(s.T)}
	for to, from := range copies {
		b, err := os.ReadFile(from)
		Must(s.T, err)
		Must(s.T, os.WriteFile(to, b, 0o755))
	}
	Must(s.T, os.Chmod(filepath.Dir(s.Dir), 0o711))
	Must(s.T, os.Chmod(s.Path("verneuil.json"), 0o644))
	Must(s.T, os.Chown(s.Dir, Nobody, Nobody))
	return program, library
}

// Compile compiles a program in C, with those flags after it, and returns its path in the site.
func (s *Site) Compile(source string, flags ...string) string {
	s.T.Helper()
	program := s.Path(strings.TrimSuffix(filepath.Base(source), ".c"))
	argv := append([]string{"gcc", "-std=gnu11", "-O2", "-Wall", "-I" + GoSQLite(s.T),
		"-o", program, source}, flags...)
	if r := Run(s.T, nil, argv...); r.Code != 0 {
		s.T.Fatalf("compile %s: %s%s", source, r.Stdout, r.Stderr)
	}
	return program
}

// Glob returns the one path in the site that matches.
func (s *Site) Glob(pattern string) string {
	s.T.Helper()
	found, err := filepath.Glob(s.Path(pattern))
	if err != nil || len(found) != 1 {
		s.T.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// Blocks returns how many bytes of disk a file or directory takes.
func (s *Site) Blocks(name string) (sum int64) {
	s.T.Helper()
	err := filepath.WalkDir(s.Path(name), func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // the replicator deletes meanwhile
		}
		if info, err := e.Info(); err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return sum
}

// Same fails the test unless two files, by absolute path, are equal.
func (s *Site) Same(a, b string) {
	s.T.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		s.T.Fatal(err)
	}
	if y, err := os.ReadFile(b); err != nil || !bytes.Equal(x, y) {
		s.T.Fatalf("%s and %s differ: %v", a, b, err)
	}
}
