package faults_test

import (
	"cmp"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// restartable is a MinIO server that keeps its storage and its port over a restart.
type restartable struct {
	t                *testing.T
	program, storage string
	port             int
	server           *miniotest.Server
}

func newRestartable(t *testing.T) *restartable {
	t.Helper()
	miniotest.Start(t) // for its credentials in the environment, and its skip without a MinIO
	program, err := miniotest.Find()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &restartable{t: t, program: program, storage: t.TempDir(),
		port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	r.start()
	t.Cleanup(func() { r.server.Stop() })
	return r
}

func (r *restartable) start() {
	r.t.Helper()
	var err error
	if r.server, err = miniotest.StartAt(r.program, r.storage, r.port); err != nil {
		r.t.Fatal(err)
	}
}

// TestTargetDown: commits go on while the target is away; a flush says that it failed;
// when the target is back, it gets what it has missed.
func TestTargetDown(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			minio := newRestartable(t)
			s := harness.S3Site(t, minio.server.Endpoint)
			shell := s.Written("a.db", journal)
			shell.Flush()
			minio.server.Stop()
			for range 50 {
				shell.Must("insert into t(b) values(randomblob(20000));")
			}
			shell.Want("pragma verneuil_flush_replication_data;", "0")
			shell.Must("insert into t(b) values('after the flush that failed');")
			minio.start()
			shell.Flush()
			shell.Want("select count(*) from t;", "52")
			shell.EndsWith(0)
			s.MustEqual("a.db")
		})
	}
}

// TestTargetDownAtExit: a host that cannot send ends in time with its own exit code; the
// spool has what it committed.
func TestTargetDownAtExit(t *testing.T) {
	minio := newRestartable(t)
	s := harness.S3Site(t, minio.server.Endpoint)
	shell := s.Written("a.db", "delete")
	shell.Flush()
	minio.server.Stop()
	shell.Must("update t set b = 'last words';")
	shell.EndsWith(0)
	minio.start()
	s.Ctl("flush", s.Path("spool"))
	s.MustEqual("a.db")
}

// TestSpoolDeleted: rm -rf of the spool directory, or of the database's part of it, under
// a writer, which goes on.
func TestSpoolDeleted(t *testing.T) {
	for _, journal := range harness.Journals {
		for name, pattern := range map[string]string{"all": "spool", "one": "spool/*"} {
			t.Run(journal+"/"+name, func(t *testing.T) {
				s := harness.DirSite(t)
				shell := s.Written("a.db", journal)
				shell.Flush()
				for range 3 {
					remove(s, pattern)
					for range 20 {
						shell.Must("insert into t(b) values(randomblob(20000));")
					}
					shell.Flush()
				}
				shell.Want("select count(*) from t;", "61")
				shell.EndsWith(0)
				s.MustEqual("a.db")
			})
		}
	}
}

// TestSpoolDeletedWithoutFlush: what a writer commits after its spool was deleted goes out
// in the background as ever.
func TestSpoolDeletedWithoutFlush(t *testing.T) {
	for _, journal := range harness.Journals {
		t.Run(journal, func(t *testing.T) {
			s := harness.DirSite(t)
			shell := s.Written("a.db", journal)
			shell.Flush()
			remove(s, "spool")
			shell.Must("insert into t(b) values('first');")
			harness.Until(t, "the spool is made anew", func() bool {
				states, err := filepath.Glob(s.Path("spool/*/state"))
				return err == nil && len(states) == 1
			})
			for _, text := range []string{"second", "third"} {
				shell.Must("insert into t(b) values('" + text + "');")
			}
			harness.Until(t, "the last commit is in the target", func() bool {
				out := filepath.Join(t.TempDir(), "restored.db")
				s.Ctl("restore", "--force", "-s", s.Path("a.db"), "-o", out)
				r := harness.Run(t, nil, harness.SQLiteShell(t), out,
					"select b from t order by a desc limit 1")
				return r.Stdout == "third\n"
			})
			shell.EndsWith(0)
			s.MustEqual("a.db")
		})
	}
}

// remove removes the directories that match, and there must be some.
func remove(s *harness.Site, pattern string) {
	s.T.Helper()
	dirs, err := filepath.Glob(s.Path(pattern))
	if err != nil || len(dirs) == 0 {
		s.T.Fatalf("%s: %v, %v", pattern, dirs, err)
	}
	for _, dir := range dirs {
		// A replicator may make files in it meanwhile.
		harness.Until(s.T, "removal of "+dir, func() bool { return os.RemoveAll(dir) == nil })
	}
}

// loseOne takes away one of the packs: one that the newest version names.
func loseOne(s *harness.Site, packs []string) {
	s.T.Helper()
	ctl := harness.Built(s.T, "VERNEUIL_CTL")
	for _, name := range packs {
		harness.Must(s.T, os.Rename(name, name+"x"))
		if r := harness.Run(s.T, nil, ctl, "-c", s.Config(), "verify"); r.Code == 1 {
			return
		}
		harness.Must(s.T, os.Rename(name+"x", name))
	}
	s.T.Fatal("the version names none of the packs")
}

// TestPatrol: what a target has lost is put again, and what a version names is made young,
// when a database is open whose patrol is late.
func TestPatrol(t *testing.T) {
	t.Run("chunks", func(t *testing.T) { patrols(t, false) })
	t.Run("leaf", func(t *testing.T) { patrols(t, true) })
}

// makePatrolLate has the files of packs, and the note of the last patrol, be of long ago, and
// returns when that was.
func makePatrolLate(s *harness.Site, packs []string) (old time.Time) {
	s.T.Helper()
	old = time.Now().Add(-40 * 24 * time.Hour).Truncate(time.Second)
	for _, name := range packs {
		harness.Must(s.T, os.Chtimes(name, old, old))
	}
	if out := s.Ctl("verify"); !strings.Contains(out, "missing or damaged: 0") {
		s.T.Fatal(out)
	}
	store := s.Path("store")
	spools, err := filepath.Glob(s.Path("spool/*/state"))
	if err != nil || len(spools) != 1 {
		s.T.Fatalf("spools %q, %v", spools, err)
	}
	target := "directory " + store + " | directory " + store + "/chunks | directory " + store +
		"/manifests"
	note, err := json.Marshal(map[string]any{target: map[string]any{"until": old, "since": old}})
	harness.Must(s.T, err)
	s.Write(strings.TrimPrefix(filepath.Dir(spools[0]), s.Dir+"/")+"/patrol.json", note)
	return old
}

// patrols loses a pack of chunks, or the one with the only leaf. Without the leaf nobody knows what
// else there is to touch: the patrol waits until it is put again.
func patrols(t *testing.T, leaf bool) {
	s := harness.DirSite(t)
	shell := s.Written("a.db", "wal")
	for range 3 { // a pack has 4 MiB of a database
		shell.Must("insert into t(b) values(randomblob(4000000));")
	}
	shell.Flush()
	shell.EndsWith(0)
	packs, err := filepath.Glob(s.Path("store/chunks/??/[^.]*"))
	if err != nil || len(packs) < 4 {
		t.Fatalf("packs %q, %v", packs, err)
	}
	size := func(name string) int64 {
		info, err := os.Stat(name)
		harness.Must(t, err)
		return info.Size()
	}
	slices.SortFunc(packs, func(a, b string) int {
		if leaf { // it is the smallest of those that the version names
			a, b = b, a
		}
		return cmp.Compare(size(b), size(a))
	})
	old := makePatrolLate(s, packs)
	loseOne(s, packs)
	began := time.Now()
	shell = s.Shell("a.db")
	shell.Want("select count(*) from t;", "4")
	var status struct {
		Databases []struct {
			Targets []struct {
				Patrolled time.Time
				Healed    int
			}
		}
	}
	harness.Until(t, "the patrol ends", func() bool {
		shell.Status(&status)
		if len(status.Databases) != 1 || len(status.Databases[0].Targets) != 1 {
			return false
		}
		target := status.Databases[0].Targets[0]
		return leaf && target.Healed > 0 || target.Patrolled.After(began)
	})
	shell.Flush()
	shell.Status(&status)
	if status.Databases[0].Targets[0].Healed != 1 {
		t.Errorf("status %+v", status)
	}
	// lost is there again, or, where it was overridden by inline pages, its successor
	s.Ctl("verify")
	if leaf { // where its chunks stood was lost with it: they are put again, in other packs
		packs, err = filepath.Glob(s.Path("store/chunks/??/[^.]*"))
		harness.Must(t, err)
	}
	young := 0
	for _, name := range packs {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(old) {
			young++
		}
	}
	if young < 2 {
		t.Errorf("%d of %d packs are young", young, len(packs))
	}
	shell.EndsWith(0)
	s.MustEqual("a.db")
}
