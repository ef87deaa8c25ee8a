// Package ceph_test has programs that were written for libcephsqlite, Ceph's own SQLite VFS, use
// ours, on a real cluster. program_test.go runs one program on both; cases_test.go has the cases of
// Ceph's own tests. The sections of libcephsqlite's documentation are in sections_test.go, each of
// which does what that shows:
//
//	Usage                       TestUsage
//	User                        TestUser
//	Page Size                   TestPageSize
//	Cache                       TestCache
//	Journal Persistence         TestJournalPersistence
//	Exclusive Lock Mode         TestExclusiveLockMode
//	WAL Journal                 TestWALJournal
//	Performance Notes           none: make bench, part rados
//	Parallel Access             TestParallelAccess
//	Export or Extract Database  TestExport
//	Temporary Tables            TestTemporaryTables
//	Breaking Locks              TestBreakingLocks
//	How to Corrupt              TestHowToCorrupt, TestStatusFunction
//	Performance Statistics      TestPerformanceFunction
//
// What may go wrong with a cluster:
//
//	an OSD, or all, killed      TestKilledCluster, and TestRounds in test/e2e/remote
//	no answer, full, no monitor, pool deleted   TestFaults
//	wrong key, no keyring       TestNoAccess
//	a capability is missing     TestUser
//	blocklisted by hand         TestBlocklisted
//	clocks that are wrong       TestClockSkew
//	no librados                 TestNoLibrados
//	names that cannot be        TestNoSuchPlace, and TestRefused in cgo/librados
//	options that abort          TestAbortingOptions in cgo/librados
//	exit() meanwhile            TestShutdown in cgo/librados, TestExitWithRADOS in test/e2e/hosts
//	a pool's quota              TestQuota, where there is a manager
package ceph_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// world is a namespace of a cluster, where a test keeps databases.
type world struct {
	*testing.T
	cluster   *cephtest.Cluster
	namespace string
	site      *harness.Site
}

// newWorld is a namespace of the cluster that all tests share.
func newWorld(t *testing.T) *world {
	t.Helper()
	harness.Library(t) // or the test is skipped
	return worldIn(t, cephtest.Shared(t))
}

func worldIn(t *testing.T, c *cephtest.Cluster) *world {
	t.Helper()
	s := harness.EmptySite(t)
	c.Setenv(t, "")
	w := &world{t, c, c.Namespace(), s}
	w.configure(nil)
	return w
}

// configure writes the configuration: the VFS is called ceph, too.
func (w *world) configure(more map[string]any) {
	w.Helper()
	all := map[string]any{"ceph_vfs": true, "tempdir": w.site.Dir}
	for key, value := range more {
		all[key] = value
	}
	w.site.Configure(all)
}

// uri names a database as libcephsqlite's documentation does.
func (w *world) uri(name string) string {
	return fmt.Sprintf("file:///%s:%s/%s?vfs=ceph", cephtest.Pool, w.namespace, name)
}

// shell starts a sqlite3 shell with our library loaded and a database open; env is on top of the
// test's.
func (w *world) shell(uri string, env ...string) *harness.Process {
	w.Helper()
	s := harness.Start(w.T, append([]string{w.site.Env()}, env...), harness.SQLiteShell(w.T),
		"-batch", "-cmd", ".load "+harness.Library(w.T), "-cmd", ".timeout 0",
		"-cmd", ".open "+uri)
	return s
}

// fails sends a line that must fail, and returns what the shell, and our log, say of it.
func fails(s *harness.Process, line string, want ...string) string {
	s.T.Helper()
	before := len(s.Stderr())
	s.Ask(line)
	said := s.Stderr()[before:]
	for _, text := range append(want, "rror") {
		if !strings.Contains(said, text) {
			s.T.Errorf("%s: %q does not say %q", line, said, text)
		}
	}
	return said
}

// theirs runs the sqlite3 shell with libcephsqlite and the database of that URI.
func (w *world) theirs(uri, sql string) harness.Result {
	w.Helper()
	return harness.Run(w.T, nil, harness.SQLiteShell(w.T), "-batch", "-bail",
		"-cmd", ".load "+w.cluster.Programs.Library(w.T, "libcephsqlite.so"),
		"-cmd", ".open "+uri, ":memory:", "-cmd", sql)
}

// objects returns the names of the namespace's objects, by the rados tool.
func (w *world) objects() string {
	w.Helper()
	return w.cluster.Run(w.T, "rados", "-p", cephtest.Pool, "-N", w.namespace, "ls")
}

// ctl runs verneuilctl, which must succeed.
func (w *world) ctl(args ...string) string { w.Helper(); return w.site.Ctl(args...) }

// database is how verneuilctl names one.
func (w *world) database(name string) string {
	uri, _, _ := strings.Cut(w.uri(name), "?")
	return uri
}
