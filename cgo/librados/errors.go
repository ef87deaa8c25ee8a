package librados

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

var (
	// ErrClosed: the cluster's client was closed.
	ErrClosed = errors.New("the client of the cluster is closed")
	// ErrNoPool: there is no such pool, or not any more.
	ErrNoPool = errors.New("no such pool")
)

// Error is what the cluster, or librados, said to a request. It is its Errno, or [ErrNoPool].
type Error struct {
	Request   string // such as "write"
	Object    string // empty: it is not about one
	Pool      string // likewise
	Namespace string
	Errno     syscall.Errno
	// Offset is where the first byte differs of those that [WriteOp.CompareBytes] compared, which
	// failed; then Errno is ECANCELED. Else it is -1.
	Offset int
	noPool bool
}

// mismatch is where the errors begin by which a comparison of bytes says where they differ.
const mismatch = 4095

func newError(request string, rc int) *Error {
	e := &Error{Request: request, Errno: syscall.Errno(-rc), Offset: -1}
	if -rc >= mismatch {
		e.Errno, e.Offset = syscall.ECANCELED, -rc-mismatch
	}
	return e
}

// failed returns the error of a request that [scope.ask] has answered with err.
func failed(request string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return newError(request, -int(errno))
	}
	return err
}

// meanings are what the cluster means by some errors.
var meanings = map[syscall.Errno]string{
	syscall.ESHUTDOWN: "this client is on the cluster's blocklist",
	syscall.EDQUOT:    "the pool has reached its quota, or is full",
	syscall.ENOSPC:    "the cluster is full",
	syscall.EPERM:     "the user's capabilities do not allow it",
	syscall.EACCES:    "the user, its key or its capabilities are wrong",
	syscall.ECANCELED: "a comparison failed",
	syscall.EMSGSIZE:  "too large for one operation",
	syscall.EFBIG:     "larger than the cluster's osd_max_object_size",
	// of a pool with erasure coding
	syscall.EOPNOTSUPP: "the pool does not support it",
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Request)
	if e.Object != "" {
		fmt.Fprintf(&b, " %q", e.Object)
	}
	if e.Pool != "" {
		fmt.Fprintf(&b, " in pool %q", e.Pool)
		if e.Namespace != "" {
			fmt.Fprintf(&b, ", namespace %q", e.Namespace)
		}
	}
	b.WriteString(": ")
	if e.noPool {
		b.WriteString(ErrNoPool.Error())
		return b.String()
	}
	if meaning := meanings[e.Errno]; meaning != "" {
		fmt.Fprintf(&b, "%s (%v)", meaning, e.Errno)
	} else {
		b.WriteString(e.Errno.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error {
	if e.noPool {
		return ErrNoPool
	}
	return e.Errno
}
