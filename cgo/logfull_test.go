package cgo_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"verneuil/spool"
)

// holdReplicator takes a spool's lock in another process, which replicates nothing, like a
// replicator that is stopped. It returns a function that gives the lock back.
func holdReplicator(t *testing.T, path string) (release func()) {
	t.Helper()
	dir := spoolOf(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", `
import fcntl, sys
f = open(sys.argv[1], "a")
fcntl.lockf(f, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()`, filepath.Join(dir, "lock"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("holder said %q", line)
	}
	return func() {
		in.Close()
		cmd.Wait()
	}
}

// spoolOf is where the spool of a database is, in this process's configuration.
func spoolOf(path string) string {
	return spool.Dir(filepath.Join(filepath.Dir(targetDir), "spool"), path)
}

// logBytes is how much the segments of a spool take.
func logBytes(dir string) (n int64, err error) {
	names, err := os.ReadDir(dir)
	for _, name := range names {
		if st, err := name.Info(); err == nil && strings.HasPrefix(name.Name(), "log.") {
			n += st.Size()
		}
	}
	return n, err
}

const fillEnv = "VERNEUIL_TEST_FILL" // what a child does: "path journal-mode"

// fill writes far more than the log may hold, and prints what the log took at most.
func fill() int {
	args := strings.Fields(os.Getenv(fillEnv))
	db, err := sql.Open("sqlite3", "file:"+args[0]+"?vfs=verneuil")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	db.SetMaxOpenConns(1)
	most := int64(0)
	run := func(query string, args ...any) {
		if err == nil {
			_, err = db.Exec(query, args...)
		}
		if err == nil {
			var n int64
			n, err = logBytes(os.Getenv("VERNEUIL_TEST_SPOOL"))
			most = max(most, n)
		}
	}
	run("pragma journal_mode=" + args[1])
	run("pragma synchronous=off")
	run("create table t(a integer primary key, b)")
	for i := range 70 {
		run("insert or replace into t values(?, randomblob(1000000))", i%10)
	}
	run("begin")
	for i := range 80 { // one transaction that is more than the log may hold
		run("insert or replace into t values(?, randomblob(1000000))", i)
	}
	run("commit")
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(most)
	return 0
}

// TestLogFull: nobody takes anything from the log. It stays within its allowance of
// 64 MiB and a segment, no commit fails, and when the replicator comes all is replicated.
func TestLogFull(t *testing.T) {
	const limit = 65 << 20
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "full.db")
			release := holdReplicator(t, path)
			// in another process, as this one compares each commit with what is replicated
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fillEnv+"="+path+" "+journal,
				"VERNEUIL_TEST_SPOOL="+spoolOf(path), "VERNEUIL_VALIDATE=0")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("child: %v: %s", err, out)
			}
			most, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if most > limit || most < limit/2 {
				t.Errorf("the log took %d bytes", most)
			}
			release()
			c := open(t, path, "")
			flush(t, c)
			mustBeValid(t, c)
			closeConn(t, c)
			mustEqual(t, path)
		})
	}
}

// TestReopen: what a database takes while it is open, it gives back, if not at once.
func TestReopen(t *testing.T) {
	count := func() (fds, maps int) {
		runtime.GC() // it gives back the states' mappings, of which slow cycles make one each
		runtime.GC()
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b {
			if c == '\n' {
				maps++
			}
		}
		return len(list), maps
	}
	for _, journal := range []string{"delete", "wal"} {
		t.Run(journal, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "reopened.db")
			cycle := func(n int) {
				for range n {
					c := open(t, path, "")
					query(t, c, "pragma journal_mode="+journal)
					mustExec(t, c, "create table if not exists t(a)")
					mustExec(t, c, "insert into t values(1)")
					closeConn(t, c)
				}
			}
			cycle(20)
			fds, maps := count()
			cycle(60)
			fds2, maps2 := count()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for k := 0; (fds2 > fds+8 || maps2 > maps+20) && k < 6000; k++ {
				<-tick.C // what the replicator still has open on a busy machine, it closes
				fds2, maps2 = count()
			}
			if fds2 > fds+8 || maps2 > maps+20 {
				t.Errorf("%d descriptors and %d mappings, after 60 cycles %d and %d",
					fds, maps, fds2, maps2)
			}
		})
	}
}
