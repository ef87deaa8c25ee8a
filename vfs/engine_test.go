package vfs

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore/probe"
	"verneuil/spool"
)

// newTestEngine returns an engine that logs nothing.
func newTestEngine(cfg *Config) *Engine {
	return newEngine(cfg, nil, slog.New(slog.DiscardHandler))
}

// TestReplicatorsGetTheConfiguration: what the configuration says of replication reaches
// those who do it.
func TestReplicatorsGetTheConfiguration(t *testing.T) {
	db := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(t.TempDir(), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	for text, want := range map[string]struct {
		interval, period time.Duration
		concurrency      int
		host             string
	}{
		`{"hostname": "h"}`: {time.Second, 7 * 24 * time.Hour, 8, "h"},
		`{"hostname": "i", "patrol_days": 30,
			"manifest_interval_ms": 5, "upload_concurrency": 3}`: {
			5 * time.Millisecond, 30 * 24 * time.Hour, 3, "i"},
		`{"hostname": "j", "patrol_days": 0}`: {time.Second, 0, 8, "j"},
	} {
		cfg, err := ParseConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		o := newTestEngine(cfg).services.options(sp.Dir(), sp, nil)
		if o.ManifestInterval != want.interval || o.PatrolPeriod != want.period ||
			o.Concurrency != want.concurrency || o.Host != want.host {
			t.Errorf("%s: options %+v, want %+v", text, o, want)
		}
	}
}

// TestLeaveFiles: a database is closed here, and another VFS of this process has it open: its
// locks are the process's, and end with any descriptor that is closed.
func TestLeaveFiles(t *testing.T) {
	held := newSourceFiles()
	dir, files := t.TempDir(), []*source{}
	path := func(n int) string { return filepath.Join(dir, fmt.Sprint(n)) }
	open := func(n int) *os.File {
		t.Helper()
		f, err := os.OpenFile(path(n), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	leave := func(n int) {
		t.Helper()
		held.use(path(n))
		if _, err := held.openFile(path(n), path(n)); err != nil {
			t.Fatal(err)
		}
		files = append(files, held.of[path(n)].open...)
		held.leave(path(n))
	}
	isOpen := func(n int) bool { _, err := files[n].Stat(); return err == nil }

	theirs := open(0)
	leave(0)
	if !isOpen(0) {
		t.Fatal("a file was closed that another VFS has open")
	}
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 0x40000002, Len: 510}
	if err := unix.FcntlFlock(theirs.Fd(), unix.F_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	open(1).Close()
	leave(1)
	if locked, err := files[0].Locked(); !locked || err != nil || isOpen(1) {
		t.Fatalf("locked: %v, %v; the other file is open: %v", locked, err, isOpen(1))
	}
	theirs.Close()
	open(2)
	leave(2)
	if isOpen(0) || !isOpen(2) {
		t.Fatalf("open: %v, %v; want only the second", isOpen(0), isOpen(2))
	}
	for n := 3; n < 3+leftMost; n++ {
		open(n)
		leave(n)
	}
	if left := len(held.of); left != leftMost {
		t.Errorf("%d files are left open, want %d", left, leftMost)
	}
}

// TestLeaveWhatIsDrained: nothing is unsent of a database that was drained when the process
// came to end.
func TestLeaveWhatIsDrained(t *testing.T) {
	if err := newTestEngine(&Config{}).services.leave(t.Context(), "drained"); err != nil {
		t.Error(err)
	}
}

// TestDeletedDatabase: a database that was deleted after it was closed is not served for good,
// nor is its spool adopted, unless that has what can be sent without the file.
func TestDeletedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(t.TempDir(), path, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	cfg, err := ParseConfig(
		fmt.Sprintf(`{"replication_targets": [{"dir": {"path": %q}}]}`, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	e := newTestEngine(cfg)
	if !orphan(sp.Dir()) {
		t.Error("a spool that nobody serves is no orphan")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e.Opened(sp.Dir())
	e.services.mu.Lock()
	s := e.services.of[sp.Dir()]
	e.services.mu.Unlock()
	e.Closed(sp.Dir())
	select {
	case <-s.done:
	case <-time.After(20 * time.Minute):
		s.cancel()
		t.Error("a database that is closed and deleted is served")
	}
	st := sp.State()
	if orphan(sp.Dir()) {
		t.Error("a spool is an orphan that has nothing to send")
	}
	st.MirrorGeneration.Store(st.Generation.Load())
	if !orphan(sp.Dir()) {
		t.Error("a spool whose mirror has what was committed is no orphan")
	}
}

// TestSpoolOnNetwork: a spool that would be on a network file system is refused, with the words
// that
// verneuilctl doctor has for it.
func TestSpoolOnNetwork(t *testing.T) {
	was := local
	defer func() { local = was }()
	local = func(dir string) error { return fmt.Errorf("%s is far away", dir) }
	dir := t.TempDir()
	cfg := &Config{ReplicationSpoolingDir: dir}
	err := newTestEngine(cfg).Settings().Err
	if err == nil || err.Error() != dir+" is far away" {
		t.Fatalf("settings: %v", err)
	}
	for _, f := range cfg.CheckHost() {
		if f.Check == "replication_spooling_dir" && f.Level == probe.Unsafe &&
			f.Text == err.Error() {
			return
		}
	}
	t.Errorf("the doctor: %+v", cfg.CheckHost())
}
