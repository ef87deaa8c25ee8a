package faults_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/test/crash"
	"verneuil/test/e2e/harness"
)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// ownMounts gives the test's goroutine, and the programs that it starts, mounts of their
// own, which end with it. It is for a test without subtests.
func ownMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread is not used again
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		t.Skipf("no mounts of our own: %v", err)
	}
}

// reboot has the kernel tell the programs that the test starts that it was booted anew.
func reboot(s *harness.Site) {
	s.T.Helper()
	name := filepath.Join(s.T.TempDir(), "boot_id")
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x\n", rand.Uint32(), rand.Uint64()>>16)
	harness.Must(s.T, os.WriteFile(name, []byte(id), 0o444))
	harness.Must(s.T, unix.Mount(name, bootIDFile, "", unix.MS_BIND, ""))
}

// image is what the files that match a pattern were at a moment.
type image map[string][]byte

func imageOf(s *harness.Site, patterns ...string) image {
	s.T.Helper()
	im := make(image)
	for _, pattern := range patterns {
		names, err := filepath.Glob(s.Path(pattern))
		harness.Must(s.T, err)
		for _, name := range names {
			harness.Must(s.T, filepath.WalkDir(name,
				func(path string, e fs.DirEntry, err error) error {
					if err != nil || !e.Type().IsRegular() {
						return err
					}
					im[path], err = os.ReadFile(path)
					return err
				}))
		}
	}
	return im
}

// back makes the files what they were, in place: as what the disk had, and memory did not.
func back(s *harness.Site, im image, patterns ...string) {
	s.T.Helper()
	for path := range imageOf(s, patterns...) {
		if _, ok := im[path]; !ok {
			harness.Must(s.T, os.Remove(path))
		}
	}
	for path, b := range im {
		harness.Must(s.T, os.MkdirAll(filepath.Dir(path), 0o700))
		harness.Must(s.T, os.WriteFile(path, b, 0o600))
	}
}

// crashed is what a machine's crash may leave of the database and the spool.
type crashed struct {
	name        string
	off         bool // only with synchronous=OFF: what was committed is lost
	wal         bool // only in WAL mode
	inside      bool // it crashes in the middle of a transaction
	junk        bool // the spool's files are of no use
	torn        bool // SQLite may find the database damaged
	damage      func(s *harness.Site, before image)
	unchangedBy bool // nothing is to be put again
}

var crashes = []crashed{
	{name: "all is there", unchangedBy: true, damage: func(*harness.Site, image) {}},
	{name: "in a transaction", inside: true, damage: func(*harness.Site, image) {}},
	{name: "the spool is older", damage: func(s *harness.Site,
		before image) {
		back(s, before.of("spool"), "spool")
	}},
	{name: "the spool is older, in a transaction", inside: true,
		damage: func(s *harness.Site, before image) { back(s, before.of("spool"), "spool") }},
	{name: "the spool is newer", off: true, damage: func(s *harness.Site,
		before image) {
		back(s, before.of("a.db"), "a.db*")
	}},
	{name: "the spool is zeros", junk: true, damage: func(s *harness.Site, _ image) {
		overwrite(s, "spool", func(b []byte) []byte { return make([]byte, len(b)) })
	}},
	{name: "the spool is empty files", junk: true,
		damage: func(s *harness.Site, _ image) {
			overwrite(s, "spool",
				func([]byte) []byte { return nil })
		}},
	{name: "the spool is half there", junk: true, damage: func(s *harness.Site,
		_ image) {
		overwrite(s, "spool", func(b []byte) []byte { return b[:len(b)/2] })
	}},
	{name: "the WAL is lost", off: true, wal: true, damage: func(s *harness.Site, _ image) {
		os.Remove(s.Path("a.db-wal"))
		os.Remove(s.Path("a.db-shm"))
	}},
	{name: "half of the WAL is lost", off: true, wal: true, damage: func(s *harness.Site, _ image) {
		os.Remove(s.Path("a.db-shm"))
		overwrite(s, "a.db-wal", func(b []byte) []byte { return b[:len(b)/2] })
	}},
	{name: "the database is partly older", off: true, torn: true,
		damage: func(s *harness.Site, before image) {
			old := before[s.Path("a.db")]
			overwrite(s, "a.db", func(b []byte) []byte {
				return append(append([]byte(nil), b[:min(len(b), 8192)]...),
					old[min(len(old), 8192):]...)
			})
		}},
}

// of returns the part of an image whose paths contain what.
func (im image) of(what string) image {
	part := make(image)
	for path, b := range im {
		if strings.Contains(path, "/"+what) && !strings.Contains(path, "store/") {
			part[path] = b
		}
	}
	return part
}

func overwrite(s *harness.Site, pattern string, change func([]byte) []byte) {
	s.T.Helper()
	for path, b := range imageOf(s, pattern) {
		harness.Must(s.T, os.WriteFile(path, change(b), 0o600))
	}
}

// rebootsEach: of so many combinations make test has one, a random one to begin with.
const rebootsEach = 31

// TestReboot: the machine crashes and boots anew. What it has left of the database,
// whoever opens or flushes it next finds out, and sends; what the spool was counts for nothing.
func TestReboot(t *testing.T) {
	turn := rand.IntN(rebootsEach)
	for _, journal := range []string{"delete", "wal", "persist+exclusive"} {
		for _, synchronous := range []string{"full", "off"} {
			for _, c := range crashes {
				if c.off && synchronous == "full" || c.wal && journal != "wal" {
					continue
				}
				for _, next := range []string{"shell", "flush", "sync"} {
					if turn++; !crash.Chosen() && turn%rebootsEach > 0 {
						continue
					}
					t.Run(journal+"/"+synchronous+"/"+c.name+"/"+next, func(t *testing.T) {
						s := harness.DirSite(t)
						ownMounts(t)
						crashAt(s, journal, synchronous, c)
						afterReboot(s, c, next)
					})
				}
			}
		}
	}
}

// crashAt writes, and has the machine crash.
func crashAt(s *harness.Site, journal, synchronous string, crash crashed) {
	s.T.Helper()
	shell := s.Shell("a.db", "VERNEUIL_LOG=off")
	mode, locking, _ := strings.Cut(journal, "+")
	if locking != "" {
		shell.Ask("pragma locking_mode=exclusive;")
	}
	shell.Want("pragma journal_mode="+mode+";", mode)
	// Each flush is of one transaction: of two a slow machine makes two versions, the second of
	// which may travel in its record; and of what does the next copy of the database makes chunks.
	shell.Must("pragma synchronous=" + synchronous + "; pragma cache_size=5; " +
		"begin; create table t(a integer primary key, b); " +
		"insert into t(b) values(randomblob(200000)); " +
		"insert into t(b) values(randomblob(100000)), (randomblob(3000)); commit;")
	shell.Flush()
	shell.Ask("pragma wal_checkpoint(truncate);") // without a WAL there is a table
	before := imageOf(s, "a.db*", "spool")
	shell.Must("begin; insert into t(b) values(randomblob(70000)); " +
		"update t set b = randomblob(200000) where a = 1; commit;")
	shell.Flush()
	if !crash.unchangedBy {
		shell.Must("delete from t where a = 2; insert into t(b) values('unsent');")
	}
	if crash.inside {
		shell.Must("begin; insert into t(b) values(randomblob(400000)); " +
			"update t set b = randomblob(90000) where a = 3;")
	}
	shell.Kill()
	crash.damage(s, before)
	reboot(s)
}

// afterReboot has somebody come next, and checks what he sends.
func afterReboot(s *harness.Site, crash crashed, next string) {
	s.T.Helper()
	for path, b := range imageOf(s, "a.db*") { // to ask what is in it, without having it recovered
		s.Write("copy"+strings.TrimPrefix(path, s.Path("a")), b)
	}
	// a database may be damaged by then
	sum := harness.Run(s.T, nil, harness.SQLiteShell(s.T), s.Path("copy.db"), sums).Stdout
	packs := packsOf(s)
	if next != "shell" {
		args := map[string][]string{"flush": {"flush", s.Path("spool")},
			"sync": {"sync", s.Path("a.db")}}[next]
		r := harness.Run(s.T, nil, append([]string{harness.Built(s.T, "VERNEUIL_CTL"), "-c",
			s.Config()}, args...)...)
		// A flush does not open the database, and knows it from the spool only.
		told := crash.inside && strings.Contains(r.Stderr, "hot journal") ||
			crash.junk && strings.Contains(r.Stderr, "source.json")
		told = told && next == "flush" || crash.torn && next == "sync" &&
			strings.Contains(r.Stderr, "malformed")
		if r.Code != 0 && !told {
			s.T.Fatalf("%s: exit code %d: %s%s", next, r.Code, r.Stdout, r.Stderr)
		}
		if r.Code == 0 && !crash.torn {
			restored := s.Path("restored.db")
			s.Ctl("restore", "--force", "-s", s.Path("a.db"), "-o", restored)
			if got := harness.Run(s.T, nil, harness.SQLiteShell(s.T), restored,
				sums).Stdout; got != sum {
				s.T.Fatalf("restored after %s: %q, want %q", next, got, sum)
			}
		}
	}
	if crash.torn {
		if r := calm(s).run(script(s, "a.db", []string{"pragma verneuil_flush_replication_data;"},
			true), harness.SQLiteShell(s.T), "-batch"); r.Stdout != "1\n" {
			s.T.Fatalf("flush: %q: %s", r.Stdout, r.Stderr)
		}
		// which it may not be able to
		harness.Run(s.T, nil, harness.SQLiteShell(s.T), s.Path("a.db"),
			"pragma wal_checkpoint(truncate)")
		s.MustEqual("a.db")
		return
	}
	recovers(s, words(crash.name), sum)
	if now := packsOf(s); crash.unchangedBy && now != packs {
		s.T.Fatalf("%d packs were put although the target had all", now-packs)
	}
}

// packsOf counts the packs in the target, and not what tells of versions, of which there may be a
// new one without new content.
func packsOf(s *harness.Site) (n int) {
	for path := range imageOf(s, "store/chunks") {
		if !strings.Contains(path, "/logs/") && !strings.Contains(path, "/kept/") {
			n++
		}
	}
	return n
}
