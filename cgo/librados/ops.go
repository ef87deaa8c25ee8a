package librados

/*
#include "functions.h"
*/
import "C"

import (
	"fmt"
	"strings"
	"unsafe"
)

// WriteOp is a compound write of one object: its steps are carried out in order, all of them or
// none. Steps that compare or assert fail the whole. It is made by one goroutine, may then be
// written several times, and retains what it was given until then. The zero value has no steps.
type WriteOp struct {
	steps []func(*C.Call)
	err   error
}

// start begins to carry out w, as a call.
func (w *WriteOp) start(io *IO) func(c *C.Call, object *C.char) C.int {
	return func(c *C.Call, object *C.char) C.int {
		C.writeBegin(c)
		for _, step := range w.steps {
			step(c)
		}
		return C.callWrite(c, io.handle, object)
	}
}

func (w *WriteOp) add(step func(*C.Call)) *WriteOp {
	w.steps = append(w.steps, step)
	return w
}

// named adds a step that has a name for C, which is free of zero bytes.
func (w *WriteOp) named(name string, step func(c *C.Call, name *C.char)) *WriteOp {
	if err := checkName(name); err != nil && w.err == nil {
		w.err = err
	}
	return w.add(func(c *C.Call) {
		z := C.CString(name)
		defer C.free(unsafe.Pointer(z))
		step(c, z)
	})
}

func checkName(name string) error {
	if name == "" || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%q cannot be a name", name)
	}
	return nil
}

// Create makes the object, if there is none; with exclusive, EEXIST if there is.
func (w *WriteOp) Create(exclusive bool) *WriteOp {
	var x C.int
	if exclusive {
		x = 1
	}
	return w.add(func(c *C.Call) { C.writeCreate(c, x) })
}

// AssertExists fails with ENOENT.
func (w *WriteOp) AssertExists() *WriteOp {
	return w.add(func(c *C.Call) { C.writeAssertExists(c) })
}

// AssertVersion fails with ERANGE or EOVERFLOW unless the object is at that version, which a call
// has returned. It must be the first step.
func (w *WriteOp) AssertVersion(version uint64) *WriteOp {
	return w.add(func(c *C.Call) { C.writeAssertVersion(c, C.uint64_t(version)) })
}

// CompareBytes fails with ECANCELED unless b stands at off. An absent object, and what lies behind
// the end of one, is zeros.
func (w *WriteOp) CompareBytes(b []byte, off uint64) *WriteOp {
	return w.add(func(c *C.Call) {
		C.writeCompareBytes(c, pointer(b), C.size_t(len(b)), C.uint64_t(off))
	})
}

// CompareXattr fails with ECANCELED unless the attribute has that value. One that is absent is
// empty.
func (w *WriteOp) CompareXattr(name string, value []byte) *WriteOp {
	return w.named(name, func(c *C.Call, z *C.char) {
		C.writeCompareXattr(c, z, pointer(value), C.size_t(len(value)))
	})
}

// CompareOmap is CompareXattr for an entry of the object's map. The object must be there, or made
// by a step before.
func (w *WriteOp) CompareOmap(key string, value []byte) *WriteOp {
	return w.named(key, func(c *C.Call, z *C.char) {
		C.writeCompareOmap(c, z, C.size_t(len(key)), pointer(value), C.size_t(len(value)))
	})
}

// RequireOmap fails with ECANCELED if the object's map has no entry of that key, or an empty one:
// see CompareOmap.
func (w *WriteOp) RequireOmap(key string) *WriteOp {
	return w.named(key, func(c *C.Call, z *C.char) { C.writeRequireOmap(c, z, C.size_t(len(key))) })
}

// Write writes b at off.
func (w *WriteOp) Write(b []byte, off uint64) *WriteOp {
	return w.add(func(c *C.Call) {
		C.writeData(c, pointer(b), C.size_t(len(b)), C.uint64_t(off))
	})
}

// WriteFull makes b all that the object's data is.
func (w *WriteOp) WriteFull(b []byte) *WriteOp {
	return w.add(func(c *C.Call) { C.writeFull(c, pointer(b), C.size_t(len(b))) })
}

// Append writes b at the end.
func (w *WriteOp) Append(b []byte) *WriteOp {
	return w.add(func(c *C.Call) { C.writeAppend(c, pointer(b), C.size_t(len(b))) })
}

// Truncate makes the object n bytes long.
func (w *WriteOp) Truncate(n uint64) *WriteOp {
	return w.add(func(c *C.Call) { C.writeTruncate(c, C.uint64_t(n)) })
}

// Zero makes n bytes from off on zeros, and frees their space.
func (w *WriteOp) Zero(off, n uint64) *WriteOp {
	return w.add(func(c *C.Call) { C.writeZero(c, C.uint64_t(off), C.uint64_t(n)) })
}

// Remove removes the object: ENOENT if there is none.
func (w *WriteOp) Remove() *WriteOp {
	return w.add(func(c *C.Call) { C.writeRemove(c) })
}

// SetXattr sets an attribute.
func (w *WriteOp) SetXattr(name string, value []byte) *WriteOp {
	return w.named(name, func(c *C.Call, z *C.char) {
		C.writeSetXattr(c, z, pointer(value), C.size_t(len(value)))
	})
}

// RemoveXattr removes an attribute.
func (w *WriteOp) RemoveXattr(name string) *WriteOp {
	return w.named(name, func(c *C.Call, z *C.char) { C.writeRemoveXattr(c, z) })
}

// SetOmap sets an entry of the object's map. A pool with erasure coding has none: EOPNOTSUPP.
func (w *WriteOp) SetOmap(key string, value []byte) *WriteOp {
	return w.named(key, func(c *C.Call, z *C.char) {
		C.writeSetOmap(c, z, C.size_t(len(key)), pointer(value), C.size_t(len(value)))
	})
}

// RemoveOmap removes an entry of the object's map, if there is one.
func (w *WriteOp) RemoveOmap(key string) *WriteOp {
	return w.named(key, func(c *C.Call, z *C.char) { C.writeRemoveOmap(c, z, C.size_t(len(key))) })
}

// Exec calls a method of an object class, which may fail the whole.
func (w *WriteOp) Exec(class, method string, input []byte) *WriteOp {
	if err := checkName(method); err != nil && w.err == nil {
		w.err = err
	}
	return w.named(class, func(c *C.Call, z *C.char) {
		m := C.CString(method)
		defer C.free(unsafe.Pointer(m))
		C.writeExec(c, z, m, pointer(input), C.size_t(len(input)))
	})
}

// ReadOp is a compound read of one object, at one moment. What is compared or asserted comes first.
type ReadOp struct {
	AssertVersion uint64            // as [WriteOp.AssertVersion]; 0: any
	CompareXattr  map[string][]byte // as [WriteOp.CompareXattr]
	DifferXattr   map[string][]byte // the opposite: ECANCELED if the attribute has that value
	Stat          bool
	Xattrs        bool
	Off           uint64 // of the data that is read
	Len           int    // 0: none; at most [ReadMax]
	Omap          *OmapRange
	OmapKey       string // one entry; excludes Omap
}

// ReadMax bounds what is read at once: 1 GiB.
const ReadMax = 1 << 30

// OmapRange is a part of an object's map: keys after After that begin with Prefix, in their order,
// and at most Most of them. The cluster has a limit of its own, as a rule 1,024.
type OmapRange struct {
	After, Prefix string
	Most          int
}

// OmapEntry is one of an object's map.
type OmapEntry struct {
	Key   string
	Value []byte
}

// Result is what a ReadOp has read, which is the caller's.
type Result struct {
	Bytes    int64 // of the object, and Modified: if Stat
	Modified int64 // in seconds since 1970, by the clock of who wrote it
	Data     []byte
	Xattrs   map[string][]byte
	Omap     []OmapEntry
	More     bool   // in the map
	Version  uint64 // of the object
}

func (r *ReadOp) check() error {
	if r.Len < 0 || r.Len > ReadMax {
		return fmt.Errorf("a read of %d bytes", r.Len)
	}
	for _, compared := range []map[string][]byte{r.CompareXattr, r.DifferXattr} {
		for name := range compared {
			if err := checkName(name); err != nil {
				return err
			}
		}
	}
	if r.OmapKey != "" {
		return checkName(r.OmapKey)
	}
	if o := r.Omap; o != nil && (strings.ContainsRune(o.After+o.Prefix, 0) || o.Most <= 0) {
		return fmt.Errorf("%d keys after %q with %q: not a part of a map", o.Most, o.After,
			o.Prefix)
	}
	return nil
}

// prepare has c carry out r. It reports whether there is memory.
func (r *ReadOp) prepare(c *C.Call) bool {
	C.readBegin(c)
	if r.AssertVersion > 0 {
		C.readAssertVersion(c, C.uint64_t(r.AssertVersion))
	}
	compare := func(attributes map[string][]byte, how C.int) {
		for name, value := range attributes {
			z := C.CString(name)
			C.readCompareXattr(c, z, how, pointer(value), C.size_t(len(value)))
			C.free(unsafe.Pointer(z))
		}
	}
	compare(r.CompareXattr, C.LIBRADOS_CMPXATTR_OP_EQ)
	compare(r.DifferXattr, C.LIBRADOS_CMPXATTR_OP_NE)
	if r.Stat {
		C.readStat(c)
	}
	if r.Xattrs {
		C.readXattrs(c)
	}
	if r.Len > 0 && C.readData(c, C.uint64_t(r.Off), C.size_t(r.Len)) == 0 {
		return false
	}
	if r.OmapKey != "" {
		z := C.CString(r.OmapKey)
		defer C.free(unsafe.Pointer(z))
		C.readOmapKey(c, z, C.size_t(len(r.OmapKey)))
	} else if o := r.Omap; o != nil {
		after, prefix := C.CString(o.After), C.CString(o.Prefix)
		defer C.free(unsafe.Pointer(after))
		defer C.free(unsafe.Pointer(prefix))
		C.readOmap(c, after, prefix, C.uint64_t(o.Most))
	}
	return true
}

// result takes what c has read.
func (r *ReadOp) result(c *C.Call) *Result {
	got := &Result{Version: uint64(c.version), More: c.more != 0}
	if r.Stat {
		got.Bytes, got.Modified = int64(c.nObject), int64(c.modified)
	}
	if r.Len > 0 {
		got.Data = C.GoBytes(unsafe.Pointer(c.pData), C.int(c.nData))
	}
	if c.xattrs != nil {
		got.Xattrs = make(map[string][]byte)
		for {
			var name, value *C.char
			var n C.size_t
			if C.nextXattr(c, &name, &value, &n) < 0 || name == nil {
				break
			}
			got.Xattrs[C.GoString(name)] = C.GoBytes(unsafe.Pointer(value), C.int(n))
		}
	}
	for c.omap != nil {
		var key, value *C.char
		var keyBytes, n C.size_t
		if C.nextOmap(c, &key, &value, &keyBytes, &n) < 0 || key == nil {
			break
		}
		got.Omap = append(got.Omap, OmapEntry{C.GoStringN(key, C.int(keyBytes)),
			C.GoBytes(unsafe.Pointer(value), C.int(n))})
	}
	return got
}
