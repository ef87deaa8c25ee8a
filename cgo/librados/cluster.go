package librados

/*
#include "functions.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Options say which cluster, and as whom. What is empty is what Ceph's tools take: what CEPH_ARGS,
// CEPH_CONF and CEPH_KEYRING say, and else the user admin of the cluster ceph, by the first of
// /etc/ceph/ceph.conf, ~/.ceph/ceph.conf and ./ceph.conf.
type Options struct {
	Cluster string
	User    string // with or without "client."
	Conf    string // the name of a file
	Keyring string // likewise

	// Timeout bounds connecting, and what monitors are asked, unless the configuration does; 0: as
	// librados has it, which is 300 s, and for ever.
	Timeout time.Duration
}

// Cluster is a client of a cluster, with connections and threads of its own. It is safe for
// concurrent use.
type Cluster struct {
	handle C.rados_t
	scope  *scope
	down   chan struct{} // closed once it is shut down
	user   string

	mu  sync.Mutex
	ios map[place]*IO
}

type place struct {
	pool      int64
	namespace string
}

// Connect makes a client, and connects it. It fails with [ErrNoLibrary], or an [Error], which is
// ENOENT if there is no configuration or keyring, EACCES or EPERM if the key is wrong, and
// ETIMEDOUT if no monitor answers.
func Connect(ctx context.Context, o Options) (*Cluster, error) {
	// librados cannot be told to give up: who comes late shuts down what nobody waits for any more
	var given sync.Mutex
	var connected *Cluster
	late := false
	err := detached(ctx, connects, func() error {
		c, err := connect(o)
		given.Lock()
		defer given.Unlock()
		if err == nil && !late {
			if err = c.add(); err == nil {
				connected = c
				return nil
			}
		}
		if c != nil {
			C.radosShutdown(c.handle)
		}
		return err
	})
	given.Lock()
	defer given.Unlock()
	if err != nil && connected != nil { // it had just connected
		go connected.Close()
	}
	late = true
	if err != nil {
		return nil, err
	}
	return connected, nil
}

// connect is Connect, for as long as librados takes. What it returns is to be shut down, also
// together with an error, if it is not nil.
func connect(o Options) (*Cluster, error) {
	if err := Load(); err != nil {
		return nil, err
	}
	args, err := parseArgs(os.Getenv("CEPH_ARGS"))
	if err != nil {
		return nil, err
	}
	args.over(o)
	c, err := configured(args)
	if err != nil {
		return nil, err
	}
	if rc := C.radosConnect(c.handle); rc < 0 {
		return c, fmt.Errorf("connect as %s: %w", c.user, newError("connect", int(rc)))
	}
	return c, nil
}

// configured returns a client that has its configuration, and is not connected.
func configured(a *arguments) (c *Cluster, err error) {
	c = &Cluster{scope: newScope(), down: make(chan struct{}), user: a.user,
		ios: make(map[place]*IO)}
	for _, s := range []string{a.cluster, a.user, a.conf} {
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("%q contains a zero byte", s)
		}
	}
	cluster, user := C.CString(a.cluster), C.CString(a.user)
	defer C.free(unsafe.Pointer(cluster))
	defer C.free(unsafe.Pointer(user))
	if rc := C.radosCreate(&c.handle, cluster, user); rc < 0 {
		return nil, fmt.Errorf("user %q of cluster %q: %w", a.user, a.cluster,
			newError("create a client", int(rc)))
	}
	handle := c.handle
	defer func() {
		if err != nil {
			C.radosShutdown(handle)
		}
	}()
	var conf *C.char
	if a.conf != "" {
		conf = C.CString(a.conf)
		defer C.free(unsafe.Pointer(conf))
	}
	rc := C.radosConfReadFile(c.handle, conf)
	// As Ceph's tools do, go on without a file if none is named: all may stand in CEPH_ARGS.
	if rc < 0 && (rc != -C.ENOENT || a.conf != "") {
		return nil, fmt.Errorf("configuration %s: %w", a.conf, newError("read", int(rc)))
	}
	for _, option := range a.options {
		if err := c.set(option.name, option.value); err != nil {
			return nil, err
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	// librados speaks through our errors, not on the host's stderr.
	for _, name := range []string{"log_to_stderr", "err_to_stderr"} {
		if !a.has(name) {
			if err := c.set(name, "false"); err != nil {
				return nil, err
			}
		}
	}
	if a.timeout > 0 {
		seconds := strconv.Itoa(int(max(1, (a.timeout+time.Second-1)/time.Second)))
		for name, otherwise := range map[string]string{"client_mount_timeout": "300",
			"rados_mon_op_timeout": "0"} {
			if c.Config(name) == otherwise {
				if err := c.set(name, seconds); err != nil {
					return nil, err
				}
			}
		}
	}
	return c, nil
}

// check refuses values of options, wherever they stand, that have librados abort the process when
// it connects. (Those that the monitors have for all clients it gets to know only then.)
func (c *Cluster) check() error {
	for _, name := range []string{"ms_type", "ms_public_type"} {
		value := c.Config(name)
		if value != "" && value != "random" && !strings.Contains(value, "async") ||
			value == "" && name == "ms_type" ||
			strings.Contains(value, "rdma") || strings.Contains(value, "dpdk") {
			return fmt.Errorf("option %s of Ceph is %q: want async+posix", name, value)
		}
	}
	const locks = "objecter_completion_locks_per_session"
	if c.Config(locks) == "0" {
		return fmt.Errorf("option %s of Ceph is 0: want 1 or more", locks)
	}
	return nil
}

// set sets an option, unless there is none of that name: then it does nothing, as Ceph's tools do.
func (c *Cluster) set(name, value string) error {
	n, v := C.CString(name), C.CString(value)
	defer C.free(unsafe.Pointer(n))
	defer C.free(unsafe.Pointer(v))
	if rc := C.radosConfSet(c.handle, n, v); rc < 0 && rc != -C.ENOENT {
		return fmt.Errorf("option %s of Ceph: %w", name,
			newError(fmt.Sprintf("set to %q", value), int(rc)))
	}
	return nil
}

// Config returns the value of an option, as the client has it; empty: there is none, or the client
// is closed.
func (c *Cluster) Config(name string) string {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	b := make([]byte, 4096)
	err := c.scope.ask(func() C.int {
		return C.radosConfGet(c.handle, n, (*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b)))
	})
	if err != nil {
		return ""
	}
	value, _, _ := strings.Cut(string(b), "\x00")
	return value
}

// Close disconnects the client. It waits for the calls that are under way, and for watches, which
// their owners end; no other may begin. Another call of it does nothing.
func (c *Cluster) Close() {
	if !c.scope.close() {
		return
	}
	<-c.scope.idle // never, if the process is ending
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scope.end() == nil {
		return // the process is ending
	}
	for _, io := range c.ios {
		C.radosIODestroy(io.handle)
	}
	C.radosShutdown(c.handle)
	close(c.down)
	clients.mu.Lock()
	defer clients.mu.Unlock()
	delete(clients.all, c)
}

// User returns the client's name, such as "client.admin".
func (c *Cluster) User() string { return c.user }

// FSID returns the cluster's UUID.
func (c *Cluster) FSID() (string, error) {
	var b [64]byte
	err := c.scope.ask(func() C.int {
		return C.radosFSID(c.handle, (*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b)))
	})
	if err != nil {
		return "", failed("ask for the cluster's UUID", err)
	}
	text, _, _ := strings.Cut(string(b[:]), "\x00")
	return text, nil
}

// Addr returns the client's addresses, by which it stands in a blocklist.
func (c *Cluster) Addr() (string, error) {
	var addrs string
	err := c.scope.ask(func() C.int {
		var z *C.char
		rc := C.radosAddrs(c.handle, &z)
		if rc >= 0 {
			addrs = C.GoString(z)
			C.radosBufferFree(z)
		}
		return rc
	})
	if err != nil {
		return "", failed("ask for the client's address", err)
	}
	return addrs, nil
}

// ID returns the client's number, which no other client of the cluster has, or has had; 0: the
// client is closed.
func (c *Cluster) ID() (id uint64) {
	_ = c.scope.ask(func() C.int {
		id = uint64(C.radosInstance(c.handle))
		return 0
	})
	return id
}

// MonCommand has a monitor carry out a command, which is JSON, and returns what it answers. input
// is what the command reads; nil: nothing. After an error status may say more.
func (c *Cluster) MonCommand(ctx context.Context, command string, input []byte) (
	out []byte, status string, err error,
) {
	type answer struct {
		out    []byte
		status string
	}
	got := make(chan answer, 1)
	err = detached(ctx, c.scope, func() error {
		cmd := C.CString(command)
		defer C.free(unsafe.Pointer(cmd))
		var o, s *C.char
		var on, sn C.size_t
		rc := C.radosMonCommand(c.handle, cmd, pointer(input), C.size_t(len(input)),
			&o, &on, &s, &sn)
		var a answer
		if o != nil {
			a.out = C.GoBytes(unsafe.Pointer(o), C.int(on))
			C.radosBufferFree(o)
		}
		if s != nil {
			a.status = C.GoStringN(s, C.int(sn))
			C.radosBufferFree(s)
		}
		got <- a
		if rc < 0 {
			return newError("command "+command, int(rc))
		}
		return nil
	})
	select {
	case a := <-got:
		return a.out, a.status, err
	default:
		return nil, "", err
	}
}

// WaitForLatestMap waits until the client has the newest map of the cluster.
func (c *Cluster) WaitForLatestMap(ctx context.Context) error {
	return detached(ctx, c.scope, func() error {
		if rc := C.radosWaitMap(c.handle); rc < 0 {
			return newError("wait for the newest map", int(rc))
		}
		return nil
	})
}

// PoolID returns the number of the pool called name. It fails with [ErrNoPool].
func (c *Cluster) PoolID(ctx context.Context, name string) (id int64, err error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return 0, fmt.Errorf("%w: %q", ErrNoPool, name)
	}
	got := make(chan int64, 1)
	err = detached(ctx, c.scope, func() error {
		n := C.CString(name)
		defer C.free(unsafe.Pointer(n))
		id := int64(C.radosPoolLookup(c.handle, n))
		if id == -C.ENOENT { // perhaps it was made a moment ago
			C.radosWaitMap(c.handle)
			id = int64(C.radosPoolLookup(c.handle, n))
		}
		if id < 0 {
			e := newError("look up", int(id))
			e.Pool, e.noPool = name, e.Errno == syscall.ENOENT
			return e
		}
		got <- id
		return nil
	})
	if err != nil {
		return 0, err
	}
	return <-got, nil
}

// PoolName returns the name of the pool of that number. It fails with [ErrNoPool].
func (c *Cluster) PoolName(ctx context.Context, id int64) (name string, err error) {
	got := make(chan string, 1)
	err = detached(ctx, c.scope, func() error {
		name, rc := c.poolName(id)
		if rc == -C.ENOENT {
			C.radosWaitMap(c.handle)
			name, rc = c.poolName(id)
		}
		if rc < 0 {
			e := newError("look up", rc)
			e.Pool, e.noPool = fmt.Sprint(id), e.Errno == syscall.ENOENT
			return e
		}
		got <- name
		return nil
	})
	if err != nil {
		return "", err
	}
	return <-got, nil
}

// poolName is PoolName by the map that the client has. The caller is in the scope.
func (c *Cluster) poolName(id int64) (name string, rc int) {
	var b [1024]byte
	got := C.radosPoolName(c.handle, C.int64_t(id), (*C.char)(unsafe.Pointer(&b[0])),
		C.size_t(len(b)-1))
	name, _, _ = strings.Cut(string(b[:]), "\x00")
	return name, int(got)
}

// IO returns what reads and writes objects of a pool, in a namespace, which may be empty. It ends
// with the cluster.
func (c *Cluster) IO(ctx context.Context, pool int64, namespace string) (*IO, error) {
	if strings.ContainsRune(namespace, 0) {
		return nil, fmt.Errorf("namespace %q contains a zero byte", namespace)
	}
	name, err := c.PoolName(ctx, pool)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := place{pool, namespace}
	if io := c.ios[at]; io != nil {
		return io, nil
	}
	io := &IO{cluster: c, pool: pool, name: name, namespace: namespace}
	if err := io.open(); err != nil {
		return nil, err
	}
	c.ios[at] = io
	return io, nil
}

// open opens io, which ends with the cluster: that may have been closed by now.
func (io *IO) open() error {
	ns := C.CString(io.namespace)
	defer C.free(unsafe.Pointer(ns))
	err := io.cluster.scope.ask(func() C.int {
		rc := C.radosIOCreate(io.cluster.handle, C.int64_t(io.pool), &io.handle)
		if rc >= 0 {
			C.radosIONamespace(io.handle, ns)
		}
		return rc
	})
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return io.fail("open", "", -int(errno))
	}
	return err
}
