package cephsqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"verneuil/cgo/librados"
	"verneuil/replicate/remote/cephsqlite"
	"verneuil/test/cephtest"
)

// world is a namespace of the shared cluster, and one database in it.
type world struct {
	*testing.T
	cluster *cephtest.Cluster
	library string
	name    cephsqlite.Name
}

func newWorld(t *testing.T) *world {
	c := cephtest.Shared(t)
	c.Setenv(t, "")
	return &world{t, c, c.Programs.Library(t, "libcephsqlite.so"),
		cephsqlite.Name{Pool: cephtest.Pool, Namespace: c.Namespace(), File: "app.db"}}
}

// command starts the sqlite3 shell with the database open through libcephsqlite.
func (w *world) command() *exec.Cmd {
	uri := fmt.Sprintf("file:///%s:%s/%s?vfs=ceph", w.name.Pool, w.name.Namespace, w.name.File)
	return exec.Command("sqlite3", "-batch", "-bail", "-cmd", ".load "+w.library,
		"-cmd", ".open "+uri)
}

// sql runs statements through libcephsqlite.
func (w *world) sql(statements string) string {
	w.Helper()
	command := w.command()
	command.Stdin = strings.NewReader(statements)
	out, err := command.CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v: %s", statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

// dies runs statements through libcephsqlite, and kills the process then; its lock is broken at
// once, which ends in 30 s otherwise.
func (w *world) dies(statements string) {
	w.Helper()
	command := w.command()
	stdin, err := command.StdinPipe()
	must(w.T, err)
	stdout, err := command.StdoutPipe()
	must(w.T, err)
	must(w.T, command.Start())
	defer command.Wait()
	defer command.Process.Kill()
	_, err = io.WriteString(stdin, statements+"\nselect 'ready' || '.';\n")
	must(w.T, err)
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready."; {
	}
	command.Process.Kill()
	list := w.lockers()
	if len(list) != 1 {
		w.Fatalf("the lock's holders are %v", list)
	}
	must(w.T, w.io().BreakLock(w.Context(), w.object(""), "striper.lock", list[0]))
}

func (w *world) object(suffix string) string {
	return w.name.File + suffix + ".0000000000000000"
}

func (w *world) lockers() []librados.Locker {
	w.Helper()
	list, _, _, err := w.io().Lockers(w.Context(), w.object(""), "striper.lock")
	must(w.T, err)
	return list
}

// io is a client of its own.
func (w *world) io() *librados.IO {
	w.Helper()
	c, err := librados.Connect(w.Context(), librados.Options{})
	must(w.T, err)
	w.Cleanup(c.Close)
	id, err := c.PoolID(w.Context(), w.name.Pool)
	must(w.T, err)
	io, err := c.IO(w.Context(), id, w.name.Namespace)
	must(w.T, err)
	return io
}

func (w *world) fetch(o cephsqlite.Options) (file string, err error) {
	file = filepath.Join(w.TempDir(), "copy")
	return file, cephsqlite.Fetch(w.Context(), w.name, file, o)
}

// local runs statements on a local file, with SQLite as it is.
func (w *world) local(file, statements string) string {
	w.Helper()
	out, err := exec.Command("sqlite3", file, statements).CombinedOutput()
	if err != nil {
		w.Fatalf("%s: %v: %s", statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const content = "select count(*), sum(length(v)), sum(k * length(v)) from t;" +
	"pragma integrity_check;"

// TestFetch: what libcephsqlite wrote is fetched as it is, in each of its modes.
func TestFetch(t *testing.T) {
	const fill = `create table t(k integer primary key, v blob);
		with n(i) as (select 1 union all select i + 1 from n where i < 2000)
		insert into t select i, randomblob(1000 + i) from n;`
	for name, pragmas := range map[string]string{
		"delete":    "",
		"persist":   "pragma page_size = 65536; pragma journal_mode = persist;",
		"exclusive": "pragma locking_mode = exclusive; pragma journal_mode = truncate;",
		"wal":       "pragma locking_mode = exclusive; pragma journal_mode = wal;",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			lines := strings.Split(w.sql(pragmas+fill+content), "\n")
			want := strings.Join(lines[len(lines)-2:], "\n")
			var mu sync.Mutex // it is told by several
			var done, total int64
			file, err := w.fetch(cephsqlite.Options{Progress: func(d, of int64) {
				mu.Lock()
				defer mu.Unlock()
				done, total = max(done, d), of
			}})
			must(t, err)
			if got := w.local(file, content); got != want || !strings.HasSuffix(got, "ok") {
				t.Errorf("got %q, want %q", got, want)
			}
			if done == 0 || done != total {
				t.Errorf("%d of %d bytes", done, total)
			}
			if list := w.lockers(); len(list) != 0 {
				t.Errorf("still locked by %v", list)
			}
			// whose database it still is
			if got := w.sql("pragma locking_mode = exclusive;" + content); !strings.HasSuffix(got,
				want) {
				t.Errorf("libcephsqlite reads %q, want %q", got, want)
			}
		})
	}
}

// TestFetchPageSizes: with each size of pages, from a database, and from a WAL that the process
// that wrote it has left.
func TestFetchPageSizes(t *testing.T) {
	w := newWorld(t)
	file := w.name.File
	for size := 512; size <= 65536; size *= 2 {
		fill := fmt.Sprintf("pragma page_size = %d;", size) + `
			pragma locking_mode = exclusive; pragma journal_mode = %s;
			create table t(k integer primary key, v blob);
			with n(i) as (select 1 union all select i + 1 from n where i < 300)
			insert into t select i, randomblob(1000 + i) from n;`
		for _, mode := range []string{"delete", "wal"} {
			w.name.File = fmt.Sprintf("%s-%d-%s", file, size, mode)
			if mode == "wal" {
				w.dies(fmt.Sprintf(fill, mode))
			} else {
				w.sql(fmt.Sprintf(fill, mode))
			}
			copied, err := w.fetch(cephsqlite.Options{})
			must(t, err)
			const want = "300|345150|"
			if got := w.local(copied, "pragma page_size;"+content); !strings.HasPrefix(got,
				fmt.Sprintf("%d\n%s", size, want)) || !strings.HasSuffix(got, "\nok") {
				t.Errorf("%d, %s: %q", size, mode, got)
			}
		}
	}
}

// TestFetchByPoolNumber: and zeros are where nothing was written.
func TestFetchByPoolNumber(t *testing.T) {
	w := newWorld(t)
	w.sql("create table t(k integer primary key, v blob);" +
		"insert into t values(1, zeroblob(9000000));" +
		"delete from t; insert into t values(7, x'01');")
	io := w.io()
	id, _ := io.Pool()
	w.name.Pool = fmt.Sprintf("*%d", id)
	_, err := io.Write(t.Context(), w.name.File+".0000000000000001",
		new(librados.WriteOp).Remove())
	must(t, err)
	file, err := w.fetch(cephsqlite.Options{})
	must(t, err)
	info, err := os.Stat(file)
	must(t, err)
	if got := w.local(file, "select k from t"); got != "7" || info.Size() < 9000000 {
		t.Errorf("got %q of %d bytes", got, info.Size())
	}
}

// TestDiedInTransaction: a rollback journal is fetched with the database, and rolled back. The
// client that died is refused by the cluster from then on.
func TestDiedInTransaction(t *testing.T) {
	w := newWorld(t)
	w.sql(`create table t(k integer primary key, v blob);
		with n(i) as (select 1 union all select i + 1 from n where i < 2000)
		insert into t select i, zeroblob(1000) from n;`)
	w.dies("pragma cache_size = 10; pragma cache_spill = 10;" +
		"begin; update t set v = zeroblob(1001);")
	var blocked []string
	file, err := w.fetch(cephsqlite.Options{Blocked: func(address string) {
		blocked = append(blocked, address)
	}})
	must(t, err)
	if _, err := os.Stat(file + "-journal"); err != nil {
		t.Errorf("the journal was not fetched: %v", err)
	}
	if got := w.local(file, content); got != "2000|2000000|2001000000\nok" {
		t.Errorf("got %q", got)
	}
	list := w.cluster.Run(t, "ceph", "osd", "blocklist", "ls")
	if len(blocked) != 1 || !strings.Contains(list, blocked[0]) {
		t.Errorf("refused %q; the cluster refuses %q", blocked, list)
	}
}

// TestDiedWithWAL: what is committed in the WAL only is in the copy.
func TestDiedWithWAL(t *testing.T) {
	w := newWorld(t)
	w.dies(`pragma locking_mode = exclusive; pragma journal_mode = wal;
		pragma wal_autocheckpoint = 0;
		create table t(k integer primary key, v blob); insert into t values(1, 'one');
		begin; insert into t values(2, 'two');`)
	file, err := w.fetch(cephsqlite.Options{})
	must(t, err)
	if got := w.local(file, content); got != "1|3|3\nok" {
		t.Errorf("got %q", got)
	}
}

// TestDiedWithoutCapability: without the right to have the dead client refused nothing is read, and
// the error says what to do.
func TestDiedWithoutCapability(t *testing.T) {
	w := newWorld(t)
	w.dies(`create table t(k integer primary key, v blob); begin immediate;`)
	keyring := w.cluster.User(t, "narrow", "mon", "allow r", "osd", "allow rwx")
	_, err := w.fetch(cephsqlite.Options{
		Cluster: librados.Options{User: "narrow", Keyring: keyring},
	})
	if err == nil || !strings.Contains(err.Error(), "ceph osd blocklist add 127.0.0.1:0/") {
		t.Errorf("fetched: %v", err)
	}
	if list := w.lockers(); len(list) != 0 {
		t.Errorf("still locked by %v", list)
	}
}

// TestBusy: who uses the database is named, and so is what to do about it.
func TestBusy(t *testing.T) {
	w := newWorld(t)
	w.sql("create table t(k integer primary key, v blob);")
	io := w.io()
	must(t, io.Lock(t.Context(), w.object(""), "striper.lock", "mine", "", time.Hour,
		librados.Take))
	_, err := w.fetch(cephsqlite.Options{Patience: time.Millisecond})
	client := fmt.Sprintf("client.%d", io.Cluster().ID())
	if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), client) ||
		!strings.Contains(err.Error(), "lock break") {
		t.Errorf("fetched: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	err = cephsqlite.Fetch(ctx, w.name, filepath.Join(t.TempDir(), "copy"), cephsqlite.Options{})
	if err == nil {
		t.Error("fetched after the end")
	}
	must(t, io.Unlock(t.Context(), w.object(""), "striper.lock", "mine"))
	if _, err := w.fetch(cephsqlite.Options{}); err != nil {
		t.Errorf("nobody uses it: %v", err)
	}
}

// TestLockLost: a lock that is broken while we read fails the copy, even if all was read.
func TestLockLost(t *testing.T) {
	w := newWorld(t)
	w.sql("create table t(k integer primary key, v blob);" +
		"insert into t values(1, zeroblob(9000000));")
	var once sync.Once
	var broken error
	_, err := w.fetch(cephsqlite.Options{Progress: func(done, total int64) {
		once.Do(func() {
			broken = w.io().BreakLock(t.Context(), w.object(""), "striper.lock", w.lockers()[0])
		})
	}})
	must(t, broken)
	if err == nil || !strings.Contains(err.Error(), "lock was lost") {
		t.Errorf("fetched: %v", err)
	}
}

// TestNoDatabase: what is not there, or is not libcephsqlite's, is said to be so.
func TestNoDatabase(t *testing.T) {
	w := newWorld(t)
	if _, err := w.fetch(cephsqlite.Options{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("fetched what is not there: %v", err)
	}
	if list, err := w.io().List(t.Context(), func(string) bool { return true }); err != nil ||
		len(list) != 0 {
		t.Errorf("made %v (%v)", list, err)
	}
	_, err := w.io().Write(t.Context(), w.object(""), new(librados.WriteOp).WriteFull([]byte("x")))
	must(t, err)
	if _, err := w.fetch(cephsqlite.Options{}); err == nil ||
		!strings.Contains(err.Error(), "no attribute striper.size") {
		t.Errorf("fetched what is not libcephsqlite's: %v", err)
	}
	w.name.Pool = "nosuchpool"
	if _, err := w.fetch(cephsqlite.Options{}); !errors.Is(err, librados.ErrNoPool) ||
		!strings.Contains(err.Error(), "nosuchpool") {
		t.Errorf("fetched from no pool: %v", err)
	}
}

// TestSeveralDatabases: a journal that names a super-journal is not taken (C2).
func TestSeveralDatabases(t *testing.T) {
	w := newWorld(t)
	w.sql("pragma journal_mode = persist; create table t(k integer primary key, v blob);")
	const magic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
	journal := magic + strings.Repeat("\x00", 512) + "/p:n/x-mj0" +
		"\x00\x00\x00\x0a\x00\x00\x00\x00" + magic
	_, err := w.io().Write(t.Context(), w.object("-journal"), new(librados.WriteOp).
		WriteFull([]byte(journal)).
		SetXattr("striper.size", fmt.Appendf(nil, "%016d", len(journal))))
	must(t, err)
	if _, err := w.fetch(cephsqlite.Options{}); !errors.Is(err, cephsqlite.ErrMultiple) {
		t.Errorf("fetched: %v", err)
	}
}
