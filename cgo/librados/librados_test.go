package librados_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"verneuil/cgo/librados"
	"verneuil/test/cephtest"
)

// open returns a namespace of its own of the shared cluster's pool.
func open(t *testing.T) *librados.IO {
	t.Helper()
	c := cephtest.Shared(t)
	c.Setenv(t, "")
	client, err := librados.Connect(t.Context(), librados.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	id, err := client.PoolID(t.Context(), cephtest.Pool)
	if err != nil {
		t.Fatal(err)
	}
	io, err := client.IO(t.Context(), id, c.Namespace())
	if err != nil {
		t.Fatal(err)
	}
	return io
}

func mustBe(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func write(w ...func(*librados.WriteOp)) *librados.WriteOp {
	op := new(librados.WriteOp)
	for _, step := range w {
		step(op)
	}
	return op
}

// TestCompound: each step does what it says, and one that fails undoes the others.
func TestCompound(t *testing.T) {
	io := open(t)
	op := func() *librados.WriteOp { return new(librados.WriteOp) }
	put := func(w *librados.WriteOp) error {
		_, err := io.Write(t.Context(), "a", w)
		return err
	}
	mustBe(t, put(op().AssertExists().WriteFull(nil)), syscall.ENOENT)
	mustBe(t, put(op().Create(true).WriteFull([]byte("hello")).SetXattr("x", []byte("1")).
		SetOmap("k1", []byte("v1")).SetOmap("k2", nil).SetOmap("l", []byte("w"))), nil)
	mustBe(t, put(op().WriteFull([]byte("gone")).Create(true)), syscall.EEXIST)
	mustBe(t, put(op().WriteFull(nil).CompareXattr("x", []byte("2"))), syscall.ECANCELED)
	mustBe(t, put(op().WriteFull(nil).CompareOmap("k1", nil)), syscall.ECANCELED)
	mustBe(t, put(op().CompareOmap("k3", nil).CompareOmap("k1", []byte("v1"))), nil)
	mustBe(t, put(op().WriteFull(nil).RequireOmap("k3")), syscall.ECANCELED)
	mustBe(t, put(op().WriteFull(nil).RequireOmap("k2")), syscall.ECANCELED) // it is empty
	mustBe(t, put(op().RequireOmap("k1").RequireOmap("l")), nil)
	mustBe(t, put(op().CompareBytes([]byte("hello"), 0).RemoveOmap("k2")), nil)
	err := put(op().CompareBytes([]byte("lx"), 2).WriteFull(nil))
	mustBe(t, err, syscall.ECANCELED)
	if e := new(librados.Error); !errors.As(err, &e) || e.Offset != 1 {
		t.Errorf("%v: the offset is %d", err, e.Offset)
	}
	got, err := io.Read(t.Context(), "a", &librados.ReadOp{Stat: true, Xattrs: true, Off: 1,
		Len: 100, Omap: &librados.OmapRange{Prefix: "k", Most: 9}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Bytes != 5 || string(got.Data) != "ello" || string(got.Xattrs["x"]) != "1" ||
		len(got.Omap) != 1 || got.Omap[0].Key != "k1" || got.More || got.Modified == 0 {
		t.Errorf("read %+v", got)
	}
	mustBe(t, put(op().AssertVersion(got.Version+1).WriteFull(nil)), syscall.EOVERFLOW)
	mustBe(t, put(op().AssertVersion(got.Version).Append([]byte(" you")).
		Write([]byte("J"), 0)), nil)
	mustBe(t, put(op().AssertVersion(got.Version).WriteFull(nil)), syscall.ERANGE)
	mustBe(t, put(op().Truncate(7).Zero(4, 1).RemoveXattr("x")), nil)
	_, err = io.Read(t.Context(), "a", &librados.ReadOp{AssertVersion: got.Version, Stat: true})
	mustBe(t, err, syscall.ERANGE)
	got, err = io.Read(t.Context(), "a", &librados.ReadOp{Len: 9, Xattrs: true, OmapKey: "l"})
	if err != nil || string(got.Data) != "Jell\x00 y" || len(got.Xattrs) != 0 ||
		len(got.Omap) != 1 || string(got.Omap[0].Value) != "w" {
		t.Errorf("read %+v, %v", got, err)
	}
	differs := func(value string) error {
		_, err := io.Read(t.Context(), "a", &librados.ReadOp{Stat: true,
			DifferXattr: map[string][]byte{"y": []byte(value)}})
		return err
	}
	mustBe(t, put(op().SetXattr("y", []byte("1"))), nil)
	mustBe(t, differs("1"), syscall.ECANCELED)
	mustBe(t, differs("2"), nil)
	mustBe(t, put(op().Remove()), nil)
	_, err = io.Read(t.Context(), "a", &librados.ReadOp{Stat: true})
	mustBe(t, err, syscall.ENOENT)
}

// TestList: a list has each object of the namespace, and those alone.
// TestWriteHere: what waits in the caller's thread does what Write does, many at once, and fails
// alike.
func TestWriteHere(t *testing.T) {
	io := open(t)
	version, err := io.WriteHere(t.Context(), "o", new(librados.WriteOp).WriteFull([]byte("1")))
	mustBe(t, err, nil)
	_, err = io.WriteHere(t.Context(), "o", new(librados.WriteOp).Create(true))
	mustBe(t, err, syscall.EEXIST)
	_, err = io.WriteHere(t.Context(), "o", new(librados.WriteOp).CompareXattr("a", []byte("b")))
	mustBe(t, err, syscall.ECANCELED)
	_, err = io.WriteHere(t.Context(), "", new(librados.WriteOp).Create(true))
	if err == nil {
		t.Error("an object without a name was written")
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := io.WriteHere(t.Context(), "o", new(librados.WriteOp).Append([]byte("x")))
			mustBe(t, err, nil)
		})
	}
	all.Wait()
	got, err := io.Read(t.Context(), "o", &librados.ReadOp{Len: 100, Stat: true})
	mustBe(t, err, nil)
	if len(got.Data) != 21 || got.Version <= version {
		t.Errorf("%q at version %d, before %d", got.Data, got.Version, version)
	}
}

func TestList(t *testing.T) {
	io := open(t)
	want := make(map[string]bool)
	for i := range 300 {
		name := strings.Repeat("n", i%7+1) + string(rune('a'+i%26)) + time.Duration(i).String()
		want[name] = true
		if _, err := io.Write(t.Context(), name, new(librados.WriteOp).Create(false)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := io.List(t.Context(), func(string) bool { return true })
	slices.Sort(got)
	if err != nil || !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d names, %v", len(got), err)
	}
}

// TestLocks: a lock is exclusive, renewed, listed and broken.
func TestLocks(t *testing.T) {
	io := open(t)
	lock := func(cookie string, r librados.Renewal) error {
		return io.Lock(t.Context(), "o", "lock", cookie, "a test", time.Hour, r)
	}
	mustBe(t, lock("a", librados.MustRenew), syscall.ENOENT)
	mustBe(t, lock("a", librados.Take), nil)
	mustBe(t, lock("a", librados.Take), syscall.EEXIST)
	mustBe(t, lock("a", librados.MayRenew), nil)
	mustBe(t, lock("b", librados.Take), syscall.EBUSY)
	list, exclusive, _, err := io.Lockers(t.Context(), "o", "lock")
	if err != nil || len(list) != 1 || !exclusive || list[0].Cookie != "a" ||
		!strings.HasPrefix(list[0].Client, "client.") || list[0].Address == "" {
		t.Fatalf("%+v, %v, %v", list, exclusive, err)
	}
	mustBe(t, io.BreakLock(t.Context(), "o", "lock", list[0]), nil)
	mustBe(t, io.BreakLock(t.Context(), "o", "lock", list[0]), syscall.ENOENT)
	mustBe(t, lock("b", librados.Take), nil)
	mustBe(t, io.Unlock(t.Context(), "o", "lock", "a"), syscall.ENOENT)
	mustBe(t, io.Unlock(t.Context(), "o", "lock", "b"), nil)
}

// TestWatch: all who watch hear, until they close, or the object is removed.
func TestWatch(t *testing.T) {
	io := open(t)
	_, err := io.Watch(t.Context(), "o", 0, nil, nil)
	mustBe(t, err, syscall.ENOENT)
	notify := func(data string, listeners int, want error) {
		t.Helper()
		n, err := io.Notify(t.Context(), "o", []byte(data), time.Minute)
		if mustBe(t, err, want); n != listeners {
			t.Errorf("%d have heard, want %d", n, listeners)
		}
	}
	notify("", 0, syscall.ENOENT)
	_, err = io.Write(t.Context(), "o", new(librados.WriteOp).Create(true))
	mustBe(t, err, nil)
	heard, broken := make(chan string, 99), make(chan error, 1)
	watch := func() *librados.Watch {
		w, err := io.Watch(t.Context(), "o", 0, func(b []byte) { heard <- string(b) },
			func(err error) { broken <- err })
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	one, two := watch(), watch()
	notify("both", 2, nil)
	if a, b := <-heard, <-heard; a != "both" || b != "both" {
		t.Errorf("heard %q and %q", a, b)
	}
	one.Close()
	one.Close()
	if n, err := io.Notify(t.Context(), "o", nil, time.Minute); err != nil || n == 0 {
		t.Errorf("%d have heard, %v", n, err) // two, if the cluster knows not yet that one ended
	}
	if got := <-heard; got != "" {
		t.Errorf("heard %q", got)
	}
	_, err = io.Write(t.Context(), "o", new(librados.WriteOp).Remove())
	mustBe(t, err, nil)
	mustBe(t, <-broken, syscall.ENOTCONN)
	two.Close()
	if len(heard) > 0 {
		t.Errorf("heard %q besides", <-heard)
	}
}

// TestGivenUp: a call whose context ends returns, while the OSD is stopped, and what it has begun
// ends later; the client can be closed then.
func TestGivenUp(t *testing.T) {
	c := cephtest.Start(t, cephtest.Options{NoAuth: true})
	c.Setenv(t, "")
	client, err := librados.Connect(t.Context(), librados.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := client.PoolID(t.Context(), cephtest.Pool)
	mustBe(t, err, nil)
	io, err := client.IO(t.Context(), id, "")
	mustBe(t, err, nil)
	_, err = io.Write(t.Context(), "o", new(librados.WriteOp).WriteFull([]byte("x")))
	mustBe(t, err, nil)
	c.OSDs[0].Freeze(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := io.Write(ctx, "o", new(librados.WriteOp).Append(make([]byte, 1<<20)))
			mustBe(t, err, context.Canceled)
		})
		all.Go(func() {
			_, err := io.Read(ctx, "o", &librados.ReadOp{Len: 1 << 20})
			mustBe(t, err, context.Canceled)
		})
		all.Go(func() {
			_, err := io.Watch(ctx, "o", 0, func([]byte) {}, func(error) {})
			mustBe(t, err, context.Canceled)
		})
		all.Go(func() {
			_, err := io.Notify(ctx, "o", nil, time.Hour)
			mustBe(t, err, context.Canceled)
		})
	}
	all.Go(func() { // which waits in librados, surely
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := io.WriteHere(ctx, "o", new(librados.WriteOp).Append([]byte("x")))
		mustBe(t, err, context.DeadlineExceeded)
	})
	cancel()
	all.Wait()
	c.OSDs[0].Signal(t, syscall.SIGCONT)
	_, err = io.WriteHere(t.Context(), "o", new(librados.WriteOp).WriteFull([]byte("y")))
	mustBe(t, err, nil)
	client.Close()
	_, err = io.WriteHere(t.Context(), "o", new(librados.WriteOp).Remove())
	mustBe(t, err, librados.ErrClosed)
	_, err = io.Read(t.Context(), "o", &librados.ReadOp{Stat: true})
	mustBe(t, err, librados.ErrClosed)
}

// TestRefused: what would end or abort the process is an error, and so is what cannot be.
func TestRefused(t *testing.T) {
	io := open(t)
	for _, name := range []string{"", "a\x00b"} {
		if _, err := io.Write(t.Context(), name, new(librados.WriteOp).Create(true)); err == nil {
			t.Errorf("an object is called %q", name)
		}
		if _, err := io.Watch(t.Context(), name, 0, nil, nil); err == nil {
			t.Errorf("%q is watched", name)
		}
	}
	for _, w := range []*librados.WriteOp{write(func(w *librados.WriteOp) { w.SetXattr("", nil) }),
		write(func(w *librados.WriteOp) { w.SetOmap("\x00", nil) }),
		write(func(w *librados.WriteOp) { w.Exec("lock", "", nil) })} {
		if _, err := io.Write(t.Context(), "o", w); err == nil {
			t.Error("a name cannot be, and is")
		}
	}
	for _, r := range []*librados.ReadOp{{Len: -1}, {Len: librados.ReadMax + 1},
		{Omap: &librados.OmapRange{After: "\x00", Most: 1}}, {Omap: &librados.OmapRange{}}} {
		if _, err := io.Read(t.Context(), "o", r); err == nil {
			t.Errorf("%+v was read", r)
		}
	}
	_, err := io.Write(t.Context(), strings.Repeat("n", 100_000),
		new(librados.WriteOp).Create(true))
	mustBe(t, err, syscall.ENAMETOOLONG)
	_, err = io.Write(t.Context(), "o", new(librados.WriteOp).Write([]byte("x"), 1<<62))
	mustBe(t, err, syscall.EFBIG)
	_, err = io.Write(t.Context(), "o", new(librados.WriteOp).Exec("none", "none", nil))
	mustBe(t, err, syscall.EOPNOTSUPP)
	_, err = io.Cluster().PoolID(t.Context(), "none")
	mustBe(t, err, librados.ErrNoPool)
	_, err = io.Cluster().PoolName(t.Context(), 1<<40)
	mustBe(t, err, librados.ErrNoPool)
	_, err = io.Cluster().IO(t.Context(), -1, "")
	mustBe(t, err, librados.ErrNoPool)
	for _, command := range []string{"", "no JSON", `{"prefix":"none"}`} {
		if _, _, err := io.Cluster().MonCommand(t.Context(), command, nil); err == nil {
			t.Errorf("the command %q was carried out", command)
		}
	}
}

// TestAbortingOptions: values in ceph.conf that have librados abort the process are refused. It
// comes before TestConnectFails: librados keeps the first CEPH_ARGS that it sees, and puts them
// first.
func TestAbortingOptions(t *testing.T) {
	c := cephtest.Shared(t)
	c.Setenv(t, "")
	text, err := os.ReadFile(c.Conf)
	mustBe(t, err, nil)
	for line, says := range map[string]string{
		"ms type = simple":                          `ms_type of Ceph is "simple"`,
		"ms type =":                                 `ms_type of Ceph is ""`,
		"ms_public_type = async+rdma":               "ms_public_type",
		"objecter_completion_locks_per_session = 0": "objecter_completion_locks_per_session",
	} {
		name := filepath.Join(t.TempDir(), "ceph.conf")
		mustBe(t, os.WriteFile(name, append(text, "\n[client]\n"+line+"\n"...), 0o600), nil)
		client, err := librados.Connect(t.Context(), librados.Options{Conf: name})
		if err == nil {
			client.Close()
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v", line, err)
		}
	}
}

// TestConnectFails: each mistake has an error that names it.
func TestConnectFails(t *testing.T) {
	c := cephtest.Shared(t)
	c.Setenv(t, "")
	broken := t.TempDir() + "/broken.conf"
	if err := os.WriteFile(broken, []byte("[global\nx"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := t.TempDir() + "/keyring"
	key := "[client.admin]\n\tkey = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n"
	if err := os.WriteFile(stranger, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		o    librados.Options
		args string
		says string
	}{
		"no configuration": {o: librados.Options{Conf: "/none"}, says: "configuration /none"},
		"broken":           {o: librados.Options{Conf: broken}, says: broken},
		"no user":          {o: librados.Options{User: "nobody"}, says: "client.nobody"},
		// Ceph 16 says so at once, or, more rarely, tries until the time is over.
		"wrong key": {o: librados.Options{Keyring: stranger, Timeout: 2 * time.Second},
			says: "client.admin"},
		"no keyring": {o: librados.Options{Keyring: "/none"}, says: "client.admin"},
		"no monitor": {o: librados.Options{Timeout: time.Second}, args: "-m 127.0.0.1:1",
			says: "timed out"},
		"aborts": {args: "--bind nowhere", says: "CEPH_ARGS: --bind"},
		"exits":  {args: "--show_config", says: "CEPH_ARGS: --show_config"},
		"lacks":  {args: "--keyring", says: "CEPH_ARGS: --keyring"},
		"number": {args: "--ms_type=async --rados_osd_op_timeout many",
			says: "rados_osd_op_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CEPH_ARGS", try.args)
			try.o.Timeout = cmp.Or(try.o.Timeout, time.Minute)
			client, err := librados.Connect(t.Context(), try.o)
			if err == nil {
				client.Close()
			}
			if err == nil || !strings.Contains(err.Error(), try.says) {
				t.Errorf("error %v, which does not say %q", err, try.says)
			}
			t.Log(err)
		})
	}
}
