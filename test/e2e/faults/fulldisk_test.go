package faults_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestFullDisk: the spool lies on a disk that is full at some moment: the application sees
// what it would see without us, and in particular no SIGBUS from a mapped file.
func TestFullDisk(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		s := harness.DirSite(t)
		lines := workload(journal)
		want, sum := stockOutput(s, lines)
		for _, kib := range []int{4, 40, 1100, 2500} {
			t.Run(fmt.Sprintf("%s/%dKiB", journal, kib), func(t *testing.T) {
				s.T = t
				anew(s)
				if err := os.Mkdir(s.Path("spool"), 0o700); err != nil {
					t.Fatal(err)
				}
				err := syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", 0,
					fmt.Sprintf("size=%dk,mode=700", kib))
				if err != nil {
					t.Skipf("cannot mount a small file system: %v", err)
				}
				mounted := true
				unmount := func() {
					if mounted {
						mounted = false
						if err := syscall.Unmount(s.Path("spool"), 0); err != nil {
							t.Errorf("unmount: %v", err)
						}
					}
				}
				defer unmount()
				r := calm(s)
				r.log = "off"
				got := r.run(script(s, "a.db", lines, true), harness.SQLiteShell(t), "-batch")
				if got.Code != 0 || got.Stdout != want || got.Stderr != "" {
					t.Fatalf("the application saw %q, %q, exit code %d; want %q", got.Stdout,
						got.Stderr, got.Code, want)
				}
				unmount()
				recovers(s, words("a full disk"), sum)
			})
		}
		s.T = t
	}
}

// TestFlushSaysThatSpoolIsFull: verneuilctl flush and status name the cause, whether the
// application lives or not, and a flush succeeds when there is room.
func TestFlushSaysThatSpoolIsFull(t *testing.T) {
	s := harness.DirSite(t)
	harness.Must(t, os.Mkdir(s.Path("spool"), 0o700))
	err := syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", 0, "size=1100k,mode=700")
	if err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer func() { harness.Must(t, syscall.Unmount(s.Path("spool"), 0)) }()
	shell := s.Shell("a.db")
	shell.Must("create table t(a);")
	shell.Must("insert into t select randomblob(10000) from generate_series(1, 300);")
	ctl := func(command string) harness.Result {
		return harness.Run(t, []string{s.Env()}, harness.Built(t, "VERNEUIL_CTL"), command)
	}
	says := func(when string) {
		t.Helper()
		r := ctl("flush")
		if status := ctl("status").Stdout; !strings.Contains(status, "nothing can be written") {
			t.Errorf("%s, and status says %s", when, status)
		}
		for _, part := range []string{"nothing can be written to the spool", "make room there",
			"no space left on device"} {
			if r.Code != 1 || !strings.Contains(r.Stderr, part) {
				t.Errorf("%s, want %q: exit code %d: %s", when, part, r.Code, r.Stderr)
			}
		}
	}
	says("the application lives")
	shell.End()
	says("it has ended")
	harness.Must(t, syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", syscall.MS_REMOUNT,
		"size=100m"))
	if r := ctl("flush"); r.Code != 0 {
		t.Errorf("there is room again, and flush: exit code %d: %s", r.Code, r.Stderr)
	}
	s.MustEqual("a.db")
}

const spoolIsFull, notRecorded = "no space left on device", "not recorded"

// statusOf returns all that verneuilctl status says.
func statusOf(s *harness.Site, args ...string) string {
	argv := append([]string{harness.Built(s.T, "VERNEUIL_CTL"), "status"}, args...)
	r := harness.Run(s.T, []string{s.Env()}, argv...)
	return r.Stdout + r.Stderr
}

// TestRoomIsMadeLater: a database that was opened while its spool could not be made is recorded
// while it stays open, once the spool can be: when somebody asks, and of itself. What was written
// before is sent, too.
func TestRoomIsMadeLater(t *testing.T) {
	s := harness.DirSite(t)
	harness.Must(t, os.Mkdir(s.Path("spool"), 0o700))
	if err := syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", 0, "size=4k,mode=700"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer func() { harness.Must(t, syscall.Unmount(s.Path("spool"), syscall.MNT_DETACH)) }()
	s.Write("spool/full", make([]byte, 4096))
	const write = "insert into t values(randomblob(20000));"
	shells := make(map[string]*harness.Process)
	var names []string
	for _, journal := range []string{"delete", "wal"} {
		for _, locking := range []string{"normal", "exclusive"} {
			for _, asked := range []string{"asked", ""} {
				db := journal + locking + asked
				names = append(names, db)
				s.Stock(db, "pragma journal_mode="+journal, "create table t(a)")
				shells[db] = s.Shell(db)
				shells[db].Want("pragma locking_mode="+locking+";", locking)
				shells[db].Must(write)
				shells[db].Refused()
				shells[db].Must(write)
			}
		}
	}
	all := statusOf(s)
	for _, db := range names {
		one := statusOf(s, s.Path(db))
		if !strings.Contains(all, db) || !strings.Contains(all, spoolIsFull) ||
			!strings.Contains(one, notRecorded) || !strings.Contains(one, spoolIsFull) {
			t.Errorf("%s, and status says %s; of all it says %s", db, one, all)
		}
	}
	harness.Must(t, syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", syscall.MS_REMOUNT,
		"size=100m,mode=700"))
	for _, db := range names {
		shell := shells[db]
		if strings.HasSuffix(db, "asked") {
			shell.Flush()
			continue
		}
		harness.Until(t, db+" is recorded of itself", func() bool {
			shell.Must(write)
			var status struct {
				Error string
				Not   []any `json:"not_replicated"`
			}
			shell.Status(&status)
			return status.Error == "" && len(status.Not) == 0
		})
	}
	for _, db := range names {
		shell := shells[db]
		shell.Must(write + "delete from t where rowid = 1;")
		shell.Ask("pragma wal_checkpoint;")
		shell.Must("begin;" + write + "rollback;")
		shell.Must(write)
		shell.Flush()
		one := statusOf(s, s.Path(db))
		if strings.Contains(one, notRecorded) || !strings.Contains(one, db) {
			t.Errorf("%s is recorded, and status says %s", db, one)
		}
		shell.EndsWith(1) // it was refused once
		s.MustEqual(db)
	}
}

// hindrances keep a spool from being made.
var hindrances = []struct {
	name, why    string
	hinder, mend func(s *harness.Site) error
	under        []string // runs the application
}{
	{name: "read-only", why: "Read-only file system",
		hinder: func(s *harness.Site) error {
			return errors.Join(os.Mkdir(s.Path("spool"), 0o700), syscall.Mount("tmpfs",
				s.Path("spool"), "tmpfs", syscall.MS_RDONLY, "size=100m,mode=700"))
		},
		mend: func(s *harness.Site) error {
			return syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", syscall.MS_REMOUNT,
				"size=100m,mode=700")
		}},
	{name: "a file", why: "Not a directory",
		hinder: func(s *harness.Site) error {
			return os.WriteFile(s.Path("spool"), nil, 0o600)
		},
		mend: func(s *harness.Site) error { return os.Remove(s.Path("spool")) }},
	{name: "denied", why: "Permission denied",
		hinder: func(s *harness.Site) error {
			s.Configure(map[string]any{"replication_spooling_dir": s.Path("spool/below")})
			return errors.Join(os.Mkdir(s.Path("spool"), 0), os.Chown(s.Path("spool"),
				harness.Nobody, harness.Nobody))
		},
		mend: func(s *harness.Site) error {
			return errors.Join(os.Chmod(s.Path("spool"), 0o700), os.Chown(s.Path("spool"),
				os.Geteuid(), os.Getegid()))
		},
		under: []string{"setpriv", "--bounding-set=-dac_override,-dac_read_search"}},
	{name: "another user's", why: "belongs to another user",
		hinder: func(s *harness.Site) error {
			return errors.Join(os.Mkdir(s.Path("spool"), 0), os.Chown(s.Path("spool"),
				harness.Nobody, harness.Nobody))
		},
		mend: func(s *harness.Site) error {
			return errors.Join(os.Chown(s.Path("spool"), os.Geteuid(), os.Getegid()),
				os.Chmod(s.Path("spool"), 0o700))
		}},
	{name: "a link", why: "is a symbolic link",
		hinder: func(s *harness.Site) error { return os.Symlink("spool", s.Path("spool")) },
		mend:   func(s *harness.Site) error { return os.Remove(s.Path("spool")) }},
}

// TestSpoolHinderedAtFirst: whatever keeps a spool from being made while a database is opened, the
// application works, the reason is told by who asks, and the database is recorded as soon as it is
// mended.
func TestSpoolHinderedAtFirst(t *testing.T) {
	for _, c := range hindrances {
		t.Run(c.name, func(t *testing.T) {
			s := harness.DirSite(t)
			if os.Geteuid() != 0 {
				t.Skip("only root can mount, and give files away")
			}
			s.Stock("a.db", "create table t(a)")
			harness.Must(t, c.hinder(s))
			t.Cleanup(func() { _ = syscall.Unmount(s.Path("spool"), syscall.MNT_DETACH) })
			shell := harness.Start(t, []string{s.Env()}, append(c.under, harness.SQLiteShell(t),
				"-batch")...)
			shell.Must(".load " + harness.Library(t))
			shell.Must(".open " + s.Path("a.db"))
			const write = "insert into t values(randomblob(20000));"
			shell.Must(write)
			shell.Refused()
			if said := shell.Ask("select verneuil_status();"); !strings.Contains(said, c.why) {
				t.Errorf("verneuil_status() does not say %q: %s", c.why, said)
			}
			shell.Must(write)
			harness.Must(t, c.mend(s))
			shell.Flush()
			shell.Must(write)
			shell.Flush()
			shell.EndsWith(1) // it was refused once
			s.MustEqual("a.db")
		})
	}
}
