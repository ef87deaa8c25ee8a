package main_test

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
func (s *site) reboot() {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "boot_id")
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x\n", rand.Uint32(), rand.Uint64()>>16)
	must(s.t, os.WriteFile(name, []byte(id), 0o444))
	must(s.t, unix.Mount(name, bootIDFile, "", unix.MS_BIND, ""))
}

// image is what the files that match a pattern were at a moment.
type image map[string][]byte

func (s *site) image(patterns ...string) image {
	s.t.Helper()
	im := make(image)
	for _, pattern := range patterns {
		names, err := filepath.Glob(s.path(pattern))
		must(s.t, err)
		for _, name := range names {
			must(s.t, filepath.WalkDir(name, func(path string, e fs.DirEntry, err error) error {
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
func (s *site) back(im image, patterns ...string) {
	s.t.Helper()
	for path := range s.image(patterns...) {
		if _, ok := im[path]; !ok {
			must(s.t, os.Remove(path))
		}
	}
	for path, b := range im {
		must(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(s.t, os.WriteFile(path, b, 0o600))
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
	damage      func(s *site, before image)
	unchangedBy bool // nothing is to be put again
}

var crashes = []crashed{
	{name: "all is there", unchangedBy: true, damage: func(*site, image) {}},
	{name: "in a transaction", inside: true, damage: func(*site, image) {}},
	{name: "the spool is older", damage: func(s *site, before image) { s.back(before.of("spool"), "spool") }},
	{name: "the spool is older, in a transaction", inside: true, damage: func(s *site, before image) { s.back(before.of("spool"), "spool") }},
	{name: "the spool is newer", off: true, damage: func(s *site, before image) { s.back(before.of("a.db"), "a.db*") }},
	{name: "the spool is zeros", junk: true, damage: func(s *site, _ image) { s.overwrite("spool", func(b []byte) []byte { return make([]byte, len(b)) }) }},
	{name: "the spool is empty files", junk: true, damage: func(s *site, _ image) { s.overwrite("spool", func([]byte) []byte { return nil }) }},
	{name: "the spool is half there", junk: true, damage: func(s *site, _ image) { s.overwrite("spool", func(b []byte) []byte { return b[:len(b)/2] }) }},
	{name: "the WAL is lost", off: true, wal: true, damage: func(s *site, _ image) {
		os.Remove(s.path("a.db-wal"))
		os.Remove(s.path("a.db-shm"))
	}},
	{name: "half of the WAL is lost", off: true, wal: true, damage: func(s *site, _ image) {
		os.Remove(s.path("a.db-shm"))
		s.overwrite("a.db-wal", func(b []byte) []byte { return b[:len(b)/2] })
	}},
	{name: "the database is partly older", off: true, torn: true, damage: func(s *site, before image) {
		old := before[s.path("a.db")]
		s.overwrite("a.db", func(b []byte) []byte {
			return append(append([]byte(nil), b[:min(len(b), 8192)]...), old[min(len(old), 8192):]...)
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

func (s *site) overwrite(pattern string, change func([]byte) []byte) {
	s.t.Helper()
	for path, b := range s.image(pattern) {
		must(s.t, os.WriteFile(path, change(b), 0o600))
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
			for _, crash := range crashes {
				if crash.off && synchronous == "full" || crash.wal && journal != "wal" {
					continue
				}
				for _, next := range []string{"shell", "flush", "sync"} {
					if turn++; os.Getenv("VERNEUIL_FAULT_STRIDE") == "" && turn%rebootsEach > 0 {
						continue
					}
					t.Run(journal+"/"+synchronous+"/"+crash.name+"/"+next, func(t *testing.T) {
						s := dirSite(t)
						ownMounts(t)
						s.crash(journal, synchronous, crash)
						s.afterReboot(crash, next)
					})
				}
			}
		}
	}
}

// crash writes, and has the machine crash.
func (s *site) crash(journal, synchronous string, crash crashed) {
	s.t.Helper()
	shell := s.shell("a.db", "VERNEUIL_LOG=off")
	mode, locking, _ := strings.Cut(journal, "+")
	if locking != "" {
		shell.ask("pragma locking_mode=exclusive;")
	}
	shell.want("pragma journal_mode="+mode+";", mode)
	shell.must("pragma synchronous=" + synchronous + "; pragma cache_size=5; create table t(a integer primary key, b);")
	shell.must("insert into t(b) values(randomblob(200000)); insert into t(b) values(randomblob(100000)), (randomblob(3000));")
	shell.flush()
	shell.ask("pragma wal_checkpoint(truncate);") // without a WAL there is a table
	before := s.image("a.db*", "spool")
	shell.must("insert into t(b) values(randomblob(70000)); update t set b = randomblob(200000) where a = 1;")
	shell.flush()
	if !crash.unchangedBy {
		shell.must("delete from t where a = 2; insert into t(b) values('unsent');")
	}
	if crash.inside {
		shell.must("begin; insert into t(b) values(randomblob(400000)); update t set b = randomblob(90000) where a = 3;")
	}
	shell.kill()
	crash.damage(s, before)
	s.reboot()
}

// afterReboot has somebody come next, and checks what he sends.
func (s *site) afterReboot(crash crashed, next string) {
	s.t.Helper()
	for path, b := range s.image("a.db*") { // to ask what is in it, without having it recovered
		s.write("copy"+strings.TrimPrefix(path, s.path("a")), b)
	}
	sum := run(s.t, nil, sqliteShell(s.t), s.path("copy.db"), sums).stdout // a database may be damaged by then
	chunks := len(s.image("store/chunks"))
	if next != "shell" {
		args := map[string][]string{"flush": {"flush", s.path("spool")}, "sync": {"sync", s.path("a.db")}}[next]
		r := run(s.t, nil, append([]string{built(s.t, "VERNEUIL_CTL"), "-c", s.config()}, args...)...)
		// A flush does not open the database, and knows it from the spool only.
		told := crash.inside && strings.Contains(r.stderr, "hot journal") || crash.junk && strings.Contains(r.stderr, "source.json")
		told = told && next == "flush" || crash.torn && next == "sync" && strings.Contains(r.stderr, "malformed")
		if r.code != 0 && !told {
			s.t.Fatalf("%s: exit code %d: %s%s", next, r.code, r.stdout, r.stderr)
		}
		if r.code == 0 && !crash.torn {
			restored := s.path("restored.db")
			s.ctl("restore", "--force", "-s", s.path("a.db"), "-o", restored)
			if got := run(s.t, nil, sqliteShell(s.t), restored, sums).stdout; got != sum {
				s.t.Fatalf("restored after %s: %q, want %q", next, got, sum)
			}
		}
	}
	if crash.torn {
		if r := s.calm().run(s.script("a.db", []string{"pragma verneuil_flush_replication_data;"}, true), sqliteShell(s.t), "-batch"); r.stdout != "1\n" {
			s.t.Fatalf("flush: %q: %s", r.stdout, r.stderr)
		}
		run(s.t, nil, sqliteShell(s.t), s.path("a.db"), "pragma wal_checkpoint(truncate)") // which it may not be able to
		s.mustEqual("a.db")
		return
	}
	s.recovers(words(crash.name), sum)
	if now := len(s.image("store/chunks")); crash.unchangedBy && now != chunks {
		s.t.Fatalf("%d objects were put although the target had all", now-chunks)
	}
}
