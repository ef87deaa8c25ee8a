package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/test/crash"
)

// These tests run verneuilctl as its users do, as a program: the one that make has
// built (VERNEUIL_CTL), else this test binary, which is one too.

const actAsProgram = "VERNEUILCTL_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(actUnderFilter) != "" {
		fmt.Fprintln(os.Stderr, underFilter(os.Args[1:]))
		os.Exit(1)
	}
	if os.Getenv(actAsProgram) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(crash.Main(m, TestFlushAfterKill))
}

// result is what a program left behind.
type result struct {
	stdout, stderr string
	code           int
}

// slowStore is what the log says of a store that takes seconds, as one may on a busy machine.
var slowStore = regexp.MustCompile(
	`(?m)^verneuil: time=\S+ level=WARN msg="store (does not answer|answers again)" .*\n`)

// said returns what it says on stderr, but for how slow a store is.
func (r result) said() string { return slowStore.ReplaceAllString(r.stderr, "") }

// program runs argv with the environment of the test and env on top.
func program(t *testing.T, env []string, argv ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	command.Env = append(os.Environ(), env...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// ctl runs verneuilctl.
func ctl(t *testing.T, args ...string) result {
	t.Helper()
	if built := os.Getenv("VERNEUIL_CTL"); built != "" {
		return program(t, nil, append([]string{built}, args...)...)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program(t, []string{actAsProgram + "=1"}, append([]string{self}, args...)...)
}

// must runs verneuilctl, which must succeed and say nothing on stderr, and returns
// its stdout.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := ctl(t, args...)
	if r.code != 0 || r.said() != "" {
		t.Fatalf("verneuilctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout,
			r.stderr)
	}
	return r.stdout
}

// sqlite runs the sqlite3 shell, which must succeed.
func sqlite(t *testing.T, env []string, args ...string) string {
	t.Helper()
	r := program(t, env, append([]string{sqliteShell(t)}, args...)...)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("sqlite3 %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout,
			r.stderr)
	}
	return r.stdout
}

// sqliteShell finds the sqlite3 shell. make test has seen to it that there is one.
func sqliteShell(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("sqlite3")
	if err == nil {
		return path
	}
	if os.Getenv("VERNEUIL_CTL") != "" {
		t.Fatal("no sqlite3 shell (Debian, Ubuntu: apt-get install sqlite3)")
	}
	t.Skip("no sqlite3 shell; make test installs one")
	return ""
}

// library returns the built extension.
func library(t *testing.T) string {
	t.Helper()
	path := os.Getenv("VERNEUIL_LIB")
	if path == "" {
		t.Skip("VERNEUIL_LIB names no extension; make test does")
	}
	return path
}

// site is a place to try things in: a directory of its own, a configuration, a target.
type site struct {
	t      *testing.T
	dir    string
	target map[string]any
	caches []any
}

const hostname = "test-host"

// dirSite has a target in a directory.
func dirSite(t *testing.T) *site {
	s := emptySite(t)
	s.target = map[string]any{"dir": map[string]any{"path": s.path("store")}}
	s.configure(nil)
	return s
}

// minioSite has a target in a MinIO server of its own.
func minioSite(t *testing.T) *site {
	s := emptySite(t)
	s.target = map[string]any{"s3": map[string]any{
		"region": "minio", "endpoint": miniotest.Start(t), "chunk_bucket": "chunks",
		"manifest_bucket":   "manifests",
		"domain_addressing": false, "create_buckets_on_demand": true,
	}}
	s.configure(nil)
	return s
}

// oneBucketSite has a minioSite's target in one bucket, under a prefix.
func oneBucketSite(t *testing.T) *site {
	s := minioSite(t)
	s.inBucket("shared", "app/one")
	return s
}

// inBucket moves a minioSite's target to that bucket and prefix.
func (s *site) inBucket(bucket, prefix string) {
	s.t.Helper()
	s3 := s.target["s3"].(map[string]any)
	delete(s3, "chunk_bucket")
	delete(s3, "manifest_bucket")
	s3["bucket"], s3["prefix"] = bucket, prefix
	s.configure(nil)
}

func emptySite(t *testing.T) *site {
	t.Helper()
	// The test's environment must not decide what happens.
	for _, name := range []string{"VERNEUIL_CONFIG", "VERNEUIL_LOG", "RUST_LOG"} {
		t.Setenv(name, "")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, dir: dir}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// config is the argument of -c.
func (s *site) config() string { return "@" + s.path("verneuil.json") }

// configure writes the configuration, with changes on top of it; nil: without that key.
func (s *site) configure(changes map[string]any) {
	s.t.Helper()
	config := map[string]any{
		"make_default":             true,
		"hostname":                 hostname,
		"replication_spooling_dir": s.path("spool"),
		"replication_targets":      append([]any{s.target}, s.caches...),
		"api_calls_per_second":     10000,
		"manifest_interval_ms":     50,
	}
	for key, value := range changes {
		if config[key] = value; value == nil {
			delete(config, key)
		}
	}
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("verneuil.json", b)
}

// addTarget adds a directory to the targets.
func (s *site) addTarget(name string) {
	s.t.Helper()
	s.caches = append(s.caches, map[string]any{"dir": map[string]any{"path": s.path(name)}})
	s.configure(nil)
}

func (s *site) write(name string, b []byte) string {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

// database makes a database of about that many bytes of random data.
func (s *site) database(name string, size int) string {
	s.t.Helper()
	db, err := openDatabase(s.path(name), "rwc")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	statement := fmt.Sprintf(`CREATE TABLE t(x); INSERT INTO t SELECT randomblob(10000) FROM (
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT %d) SELECT i FROM n)`, 1+size/10000)
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

// sum returns the SHA-256 of a file.
func (s *site) sum(path string) string {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// packs returns the files of the chunk bucket of a dir target.
func (s *site) packs() []string { return s.packsIn("store/chunks") }

// packsIn returns the packs in a bucket of chunks.
func (s *site) packsIn(chunks string) []string {
	return slices.DeleteFunc(s.files(chunks), func(name string) bool {
		return strings.HasPrefix(name, s.path(chunks+"/logs/")) ||
			strings.HasPrefix(name, s.path(chunks+"/kept/"))
	})
}

// files returns the regular files below name, those of the store itself excepted.
func (s *site) files(name string) []string {
	s.t.Helper()
	var files []string
	err := filepath.WalkDir(s.path(name), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && entry.Name()[0] != '.' &&
			entry.Name() != chunkstore.MarkerKey {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// TestProgressFits: a bar's line is no longer than the terminal is wide, is shown only of a phase
// that takes its time, and is gone at the end.
func TestProgressFits(t *testing.T) {
	terminal, name := openTerminal(t)
	tty, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = tty
	defer func() { os.Stderr = stderr; tty.Close() }()
	for _, columns := range []int{20, 39, 40, 69, 70, 200} {
		if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ,
			&unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
			t.Fatal(err)
		}
		for _, total := range []int64{1000, 1_234_567_890, 9_994_000_000_000} {
			p := &progress{}
			p.set("copy", total/2, total) // too early to be shown
			p.since = p.since.Add(-time.Hour)
			p.set("copy and push", total, total)
			p.end()
			tty.WriteString("|end")
			shown := ""
			for b := make([]byte, 1<<16); !strings.HasSuffix(shown, "|end"); {
				n, err := terminal.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				shown += string(b[:n])
			}
			if !strings.HasSuffix(shown, "\r\x1b[2K|end") ||
				!strings.Contains(shown, "uploading 100%") || strings.Contains(shown, " 50%") {
				t.Errorf("%d columns, %d bytes: %q", columns, total, shown)
			}
			if columns >= 40 && !strings.Contains(shown, "B/s") {
				t.Errorf("%d columns: no rate in %q", columns, shown)
			}
			for line := range strings.SplitSeq(shown, "\r") {
				line = strings.NewReplacer("\x1b[2K", "", "\x1b[0K", "", "|end", "").Replace(line)
				if width := utf8.RuneCountInString(line); width > columns {
					t.Errorf("%d columns: a line of %d: %q", columns, width, line)
				}
			}
		}
	}
}

// TestProgress: what was done is said on a terminal, and nothing in a pipe (which every other test
// sees).
func TestProgress(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 3<<20)
	terminal, name := openTerminal(t)
	command := exec.CommandContext(t.Context(), "sh", "-c", `exec "$@" 2>"$TERMINAL"`, "sh")
	command.Args = append(command.Args, ctlCommand("-c", s.config(), "sync", db)...)
	command.Env = append(os.Environ(), "TERMINAL="+name)
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	shown := ""
	for b := make([]byte, 1<<16); !strings.HasSuffix(shown, "\n"); {
		n, err := terminal.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		shown += string(b[:n])
	}
	if !strings.Contains(shown, "backed up 3.") || !strings.Contains(shown, "MB uploaded") {
		t.Errorf("the terminal shows %q", shown)
	}
}

// openTerminal returns a new terminal's master side, and the name of its other side.
func openTerminal(t *testing.T) (*os.File, string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	// Held open, so that what was written can be read after the program has ended.
	other, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	return master, name
}
