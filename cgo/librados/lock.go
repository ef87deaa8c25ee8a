package librados

/*
#include "functions.h"
*/
import "C"

import (
	"bytes"
	"context"
	"time"
	"unsafe"
)

// Renewal says what a lock that the same client has under the same cookie means to [IO.Lock].
type Renewal int

// What it may mean.
const (
	Take      Renewal = 0 // EEXIST
	MayRenew  Renewal = C.LIBRADOS_LOCK_FLAG_MAY_RENEW
	MustRenew Renewal = C.LIBRADOS_LOCK_FLAG_MUST_RENEW // ENOENT if it has none
)

// Lock takes the exclusive lock of that name, for a time; 0: for ever. It fails with EBUSY if
// another has it. The lock is advice: who does not ask for it writes.
func (io *IO) Lock(ctx context.Context, object, name, cookie, description string,
	lease time.Duration, renewal Renewal) error {
	return io.locking(ctx, "lock", object, []string{object, name, cookie, description},
		func(z []*C.char) C.int {
			return C.lockTake(io.handle, z[0], z[1], z[2], z[3], C.int64_t(lease.Microseconds()),
				C.int(renewal))
		})
}

// Unlock gives a lock back. It fails with ENOENT if the client has none.
func (io *IO) Unlock(ctx context.Context, object, name, cookie string) error {
	return io.locking(ctx, "unlock", object, []string{object, name, cookie},
		func(z []*C.char) C.int { return C.lockGive(io.handle, z[0], z[1], z[2]) })
}

// BreakLock takes a lock from another client, which is not told. It fails with ENOENT if that has
// none.
func (io *IO) BreakLock(ctx context.Context, object, name string, l Locker) error {
	return io.locking(ctx, "break the lock of", object, []string{object, name, l.Client, l.Cookie},
		func(z []*C.char) C.int { return C.lockBreak(io.handle, z[0], z[1], z[2], z[3]) })
}

// locking runs f with texts for C.
func (io *IO) locking(ctx context.Context, request, object string, texts []string,
	f func(z []*C.char) C.int) error {
	if err := checkName(object); err != nil {
		return err
	}
	for _, text := range texts {
		if err := checkName(text + "."); err != nil { // cookies and descriptions may be empty
			return err
		}
	}
	return detached(ctx, io.cluster.scope, func() error {
		z := make([]*C.char, len(texts))
		for i, text := range texts {
			z[i] = C.CString(text)
			defer C.free(unsafe.Pointer(z[i]))
		}
		if rc := f(z); rc < 0 {
			return io.fail(request, object, int(rc))
		}
		return nil
	})
}

// Locker is who has a lock.
type Locker struct {
	Client  string // such as "client.4123"
	Cookie  string
	Address string // of the client, by which it stands in a blocklist
}

// Lockers returns who has the lock of that name, and its tag.
func (io *IO) Lockers(ctx context.Context, object, name string) (
	list []Locker, exclusive bool, tag string, err error,
) {
	type answer struct {
		list      []Locker
		exclusive bool
		tag       string
	}
	got := make(chan answer, 1)
	err = io.locking(ctx, "list who locks", object, []string{object, name},
		func(z []*C.char) C.int {
			for size := C.size_t(4 << 10); ; size *= 4 {
				var bufs [4]unsafe.Pointer // the clients, cookies and addresses, and the tag
				for i := range bufs {
					if bufs[i] = C.calloc(1, size); bufs[i] == nil {
						return -C.ENOMEM
					}
					defer C.free(bufs[i])
				}
				lists := (*[3]*C.char)(C.malloc(C.size_t(3 * unsafe.Sizeof((*C.char)(nil)))))
				defer C.free(unsafe.Pointer(lists))
				for i := range lists {
					lists[i] = (*C.char)(bufs[i])
				}
				sizes, tagBytes := [3]C.size_t{size, size, size}, size
				var exclusive C.int
				n := C.lockList(io.handle, z[0], z[1], &exclusive, (*C.char)(bufs[3]), &tagBytes,
					&lists[0], &sizes[0])
				if n == -C.ERANGE && size < 64<<20 {
					continue
				} else if n < 0 {
					return C.int(n)
				}
				var texts [3][]string
				for i := range texts {
					texts[i] = split(C.GoBytes(bufs[i], C.int(sizes[i])), int(n))
				}
				a := answer{exclusive: exclusive != 0, tag: C.GoString((*C.char)(bufs[3]))}
				for i := range int(n) {
					a.list = append(a.list, Locker{texts[0][i], texts[1][i], texts[2][i]})
				}
				got <- a
				return 0
			}
		})
	if err != nil {
		return nil, false, "", err
	}
	a := <-got
	return a.list, a.exclusive, a.tag, nil
}

// split returns the first n of the texts in b, each of which ends in a zero byte.
func split(b []byte, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		text, rest, _ := bytes.Cut(b, []byte{0})
		texts[i], b = string(text), rest
	}
	return texts
}
