package replica

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

func newTestSlots(t *testing.T) *slots {
	t.Helper()
	s, err := newSlots(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func constant(b byte, n int) func() ([]byte, error) {
	return func() ([]byte, error) { return bytes.Repeat([]byte{b}, n), nil }
}

// TestLayout holds the structs to the offsets that cgo/versiontable.h asserts.
func TestLayout(t *testing.T) {
	var h tableHead
	for name, o := range map[string][2]uintptr{
		"fileBytes":   {unsafe.Offsetof(h.fileBytes), 0},
		"chunks":      {unsafe.Offsetof(h.chunks), 8},
		"counter":     {unsafe.Offsetof(h.counter), 12},
		"extents":     {unsafe.Offsetof(h.extents), 16},
		"headerBytes": {unsafe.Offsetof(h.headerBytes), 24},
		"header":      {unsafe.Offsetof(h.header), 28},
		"patches":     {unsafe.Offsetof(h.patches), 128},
		"patched":     {unsafe.Offsetof(h.patched), 136},
		"parts":       {unsafe.Sizeof(h), 144},
		"row.run":     {unsafe.Offsetof(patchRow{}.run), 8},
		"row":         {unsafe.Sizeof(patchRow{}), 16},
		"run.n":       {unsafe.Offsetof(patchRun{}.n), 4},
		"run.data":    {unsafe.Offsetof(patchRun{}.data), 8},
		"run":         {unsafe.Sizeof(patchRun{}), 16},
		"extent":      {unsafe.Sizeof(extent{}), 40},
	} {
		if o[0] != o[1] {
			t.Errorf("%s is at %d, C expects %d", name, o[0], o[1])
		}
	}
}

// TestCConstants compares what cgo/versiontable.h defines with what it is here.
func TestCConstants(t *testing.T) {
	header, err := os.ReadFile("../../cgo/versiontable.h")
	if err != nil {
		t.Fatal(err)
	}
	inC := map[string]uint64{}
	number := regexp.MustCompile(`(?m)^#define ((?:VERSION|ENTRY)_\w+) ` +
		`(?:(\d+)\b|\(\(uint64_t\)1 << (\d+)\))`)
	for _, m := range number.FindAllStringSubmatch(string(header), -1) {
		n, _ := strconv.ParseUint(m[2], 10, 64)
		if shift, err := strconv.Atoi(m[3]); err == nil {
			n = 1 << shift
		}
		inC[m[1]] = n
	}
	if want := map[string]uint64{
		"VERSION_CHUNK_BYTES": slotBytes, "VERSION_EXTENT_SLOTS": extentSlots,
		"VERSION_HEADER_BYTES": uint64(len(tableHead{}.header)),
		"ENTRY_AHEAD":          uint64(entryAhead), "ENTRY_COMING": uint64(entryComing),
		"ENTRY_AWAITED": uint64(entryAwaited), "ENTRY_PATCHED": uint64(entryPatched),
		"VERSION_PART_CHUNKS": partChunks,
	}; !maps.Equal(inC, want) {
		t.Errorf("cgo/versiontable.h has %v, Go %v", inC, want)
	}
}

// TestZerosAreNoHole: on tmpfs the first look at a hole through a mapping takes a block,
// and where there is none is a SIGBUS.
func TestZerosAreNoHole(t *testing.T) {
	s := newTestSlots(t)
	e, err := s.zeros()
	if err != nil {
		t.Fatal(err)
	}
	hole, err := unix.Seek(int(s.file.Fd()), int64(e.slot())*slotBytes, unix.SEEK_HOLE)
	if err != nil || hole < int64(e.slot()+1)*slotBytes {
		t.Errorf("the slot of zeros has a hole at %d (%v)", hole, err)
	}
}

func TestSlotsShareByKey(t *testing.T) {
	s := newTestSlots(t)
	ctx := context.Background()
	a, err := s.acquire(ctx, slotKey{1}, constant('a', slotBytes))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.acquire(ctx, slotKey{1},
		func() ([]byte, error) { return nil, errors.New("fetched twice") })
	if err != nil || a != b {
		t.Fatalf("second acquire: %x, %v; want %x", b, err, a)
	}
	s.release([]entry{a})
	p := make([]byte, 10)
	if err := s.copyOut(p, b, slotBytes-10); err != nil || string(p) != "aaaaaaaaaa" {
		t.Fatalf("after one of two releases: %q, %v", p, err)
	}
	s.release([]entry{b})
	if n := s.inUse(); n != 0 {
		t.Errorf("%d slots in use, want 0", n)
	}
}

// A released slot is used again, clean, and entries of its former content are refused.
func TestSlotsReuse(t *testing.T) {
	s := newTestSlots(t)
	ctx := context.Background()
	old, err := s.acquire(ctx, slotKey{1}, constant('a', slotBytes))
	if err != nil {
		t.Fatal(err)
	}
	s.release([]entry{old})
	p := make([]byte, slotBytes)
	if err := s.copyOut(p, old, 0); !errors.Is(err, errReused) {
		t.Errorf("an entry that was released: %v, want %v", err, errReused)
	}
	e, err := s.acquire(ctx, slotKey{2}, constant('b', 100))
	if err != nil {
		t.Fatal(err)
	}
	if e.slot() != old.slot() || e == old {
		t.Errorf("entry %x after %x: want the same slot, another generation", e, old)
	}
	if err := s.copyOut(p, old, 0); !errors.Is(err, errReused) {
		t.Errorf("an entry of the former content: %v, want %v", err, errReused)
	}
	if err := s.copyOut(p, e, 0); err != nil ||
		!bytes.Equal(p, append(bytes.Repeat([]byte{'b'}, 100), make([]byte, slotBytes-100)...)) {
		t.Errorf("a short chunk in a used slot is not followed by zeros: %v", err)
	}
}

func TestSlotsZeros(t *testing.T) {
	s := newTestSlots(t)
	e, err := s.zeros()
	if err != nil || e == 0 {
		t.Fatalf("zeros: %x, %v", e, err)
	}
	p := bytes.Repeat([]byte{1}, slotBytes)
	if err := s.copyOut(p, e, 0); err != nil || !bytes.Equal(p, make([]byte, slotBytes)) {
		t.Errorf("not zeros: %v", err)
	}
	s.release([]entry{e})
	if again, ok := s.lookup(slotKey(chunkstore.ZeroID)); !ok || again != e {
		t.Errorf("zeros were given up: %x, %v", again, ok)
	}
}

// Concurrent callers share one fetch, but not one that a caller has given up, and a
// failed fetch leaves nothing behind.
func TestSlotsSharedFetch(t *testing.T) {
	s := newTestSlots(t)
	start, boom := make(chan struct{}), errors.New("boom")
	var fetches atomic.Int32
	fetch := func() ([]byte, error) {
		fetches.Add(1)
		<-start
		return nil, boom
	}
	var group sync.WaitGroup
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.acquire(gone, slotKey{1}, fetch); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
	for range 8 {
		group.Go(func() {
			if _, err := s.acquire(context.Background(), slotKey{1}, fetch); !errors.Is(err, boom) {
				t.Errorf("got %v, want %v", err, boom)
			}
		})
	}
	for waiting := 0; waiting < 8; {
		s.mu.Lock()
		if f := s.fills[slotKey{1}]; f != nil {
			waiting = f.waiters
		}
		s.mu.Unlock()
	}
	close(start)
	group.Wait()
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want one for the caller that gave up, and one for all others", n)
	}
	e, err := s.acquire(context.Background(), slotKey{1}, constant('a', 1))
	if err != nil {
		t.Fatalf("after a failure: %v", err)
	}
	s.release([]entry{e})
	ouch := func() ([]byte, error) { panic("ouch") }
	if _, err := s.acquire(context.Background(), slotKey{2}, ouch); err == nil {
		t.Error("a panic is no error")
	}
	if n := s.inUse(); n != 0 {
		t.Errorf("%d slots in use, want 0", n)
	}
}

// A fetch that hangs is waited for by those alone who came before one of them gave up; when it
// ends at last, its slot is one of the free ones again.
func TestSlotsHangingFetch(t *testing.T) {
	s := newTestSlots(t)
	hang, late := make(chan struct{}), make(chan entry)
	hanging := func() ([]byte, error) {
		<-hang
		return constant('a', 1)()
	}
	patient := make(chan struct{})
	go func() {
		close(patient)
		e, err := s.acquire(context.Background(), slotKey{1}, hanging)
		if err != nil {
			t.Error(err)
		}
		late <- e
	}()
	<-patient
	for waiting := false; !waiting; {
		s.mu.Lock()
		waiting = s.fills[slotKey{1}] != nil && s.fills[slotKey{1}].waiters == 1
		s.mu.Unlock()
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.acquire(gone, slotKey{1}, hanging); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
	e, err := s.acquire(context.Background(), slotKey{1}, constant('a', 1))
	if err != nil {
		t.Fatal(err)
	}
	close(hang)
	if old := <-late; old != e {
		t.Errorf("two slots have the same chunk: %x and %x", old, e)
	}
	if n := s.inUse(); n != 1 {
		t.Errorf("%d slots in use, want 1", n)
	}
	s.release([]entry{e, e})
	if n := s.inUse(); n != 0 {
		t.Errorf("%d slots in use after the last reference, want 0", n)
	}
}

// Keys that are wanted together: only what nobody has, or fetches, is fetched, at once.
func TestSlotsTogether(t *testing.T) {
	s := newTestSlots(t)
	ctx := context.Background()
	there, err := s.acquire(ctx, slotKey{'a'}, constant('a', slotBytes))
	if err != nil {
		t.Fatal(err)
	}
	begun, hang := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		e, err := s.acquire(ctx, slotKey{'b'}, func() ([]byte, error) {
			close(begun)
			<-hang
			return constant('b', 1)()
		})
		if err != nil {
			t.Error(err)
		}
		s.release([]entry{e})
	})
	<-begun
	keys := []slotKey{{'a'}, {'b'}, {'c'}, {'d'}, {'c'}}
	entries, err := s.acquireAll(ctx, keys, func(missing []int) ([][]byte, error) {
		if !slices.Equal(missing, []int{2, 3}) {
			t.Errorf("%v are fetched, want those that nobody has or fetches", missing)
		}
		close(hang)
		return [][]byte{{'c'}, {'d'}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if entries[0] != there || entries[2] != entries[4] {
		t.Errorf("entries %x, of which one was there and two are the same", entries)
	}
	for k, e := range entries {
		p := make([]byte, 1)
		if err := s.copyOut(p, e, 0); err != nil || p[0] != keys[k][0] {
			t.Errorf("key %q holds %q, %v", keys[k][:1], p, err)
		}
	}
	s.release(append(entries, there))
	if n := s.inUse(); n != 0 {
		t.Errorf("%d slots in use, want 0", n)
	}
}

// TestF5SlotsTogetherFail: who needs one chunk of several that others fetch together, which fails,
// fetches it by himself.
func TestF5SlotsTogetherFail(t *testing.T) {
	s := newTestSlots(t)
	ctx := context.Background()
	for what, fail := range map[string]func() ([][]byte, error){
		"an error": func() ([][]byte, error) { return nil, chunkstore.ErrAbsent },
		"a panic":  func() ([][]byte, error) { panic("ouch") },
		"too few":  func() ([][]byte, error) { return make([][]byte, 1), nil },
	} {
		begun, waits := make(chan struct{}), make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			entries, err := s.acquireAll(ctx, []slotKey{{1}, {2}}, func([]int) ([][]byte, error) {
				close(begun)
				<-waits
				return fail()
			})
			if err == nil || final(err) || entries[0].here() || entries[1].here() {
				t.Errorf("%s of a fetch together: %v, %x", what, err, entries)
			}
		})
		<-begun
		group.Go(func() {
			e, err := s.acquire(ctx, slotKey{2}, constant('x', 1))
			if err != nil {
				t.Errorf("%s of another's: %v", what, err)
				return
			}
			s.release([]entry{e})
		})
		for waiting := 0; waiting < 2; {
			s.mu.Lock()
			waiting = s.fills[slotKey{2}].waiters
			s.mu.Unlock()
		}
		close(waits)
		group.Wait()
		if n := s.inUse(); n != 0 {
			t.Errorf("%s: %d slots in use, want 0", what, n)
		}
	}
}

// A slot that cannot be written is an error and is not lost.
func TestSlotsWriteFails(t *testing.T) {
	s := newTestSlots(t)
	e, err := s.acquire(context.Background(), slotKey{1}, constant('a', 1))
	if err != nil {
		t.Fatal(err)
	}
	free := len(s.free)
	file := s.file
	read, err := UnlinkedFile(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	s.file = read // every write fails now
	if _, err := s.acquire(context.Background(), slotKey{2}, constant('b', 1)); !errors.Is(err,
		errSlots) || !final(err) {
		t.Errorf("got %v, want %v, which is final", err, errSlots)
	}
	s.file = file
	if len(s.free) != free {
		t.Errorf("%d free slots, were %d", len(s.free), free)
	}
	s.release([]entry{e})

	if s, err = newSlots(t.TempDir() + "/none"); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := s.acquire(context.Background(), slotKey{1}, constant('a', 1)); !errors.Is(err,
		errSlots) {
		t.Errorf("no such directory: %v, want %v", err, errSlots)
	}
}

// Many goroutines take, read and give back: what an entry names never changes.
func TestSlotsConcurrent(t *testing.T) {
	s := newTestSlots(t)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			p := make([]byte, 64)
			for range 300 {
				k := byte(rng.IntN(20))
				e, err := s.acquire(context.Background(), slotKey{k, 1}, constant(k, slotBytes))
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.copyOut(p, e, rng.IntN(slotBytes-64)); err != nil ||
					!bytes.Equal(p, bytes.Repeat([]byte{k}, 64)) {
					t.Errorf("slot of %d holds %v: %v", k, p[:4], err)
				}
				s.release([]entry{e})
			}
		})
	}
	group.Wait()
	if n := s.inUse(); n != 0 {
		t.Errorf("%d slots in use, want 0", n)
	}
}

// Slots of all extents hold what they were given, those that are mapped and the others.
// Slots of all extents hold what they were given, those that are mapped and the others.
func TestSlotsGrow(t *testing.T) {
	s := newTestSlots(t)
	var all []entry
	for i := range extentsMapped*extentSlots + 10 {
		// Fills go through acquire elsewhere; 256 MiB of them would take long.
		s.mu.Lock()
		slot, err := s.takeLocked()
		s.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		end := int64(slot)*slotBytes + slotBytes - 2
		if _, err := s.file.WriteAt([]byte{byte(i), byte(i >> 8)}, end); err != nil {
			t.Fatal(err)
		}
		s.info[slot] = slotInfo{key: slotKey{byte(i), byte(i >> 8), 1}, refs: 1}
		all = append(all, s.entryOf(slot))
	}
	mapped, other := s.extents[extentsMapped-1].data, s.extents[extentsMapped].data
	if mapped == nil || other != nil {
		t.Errorf("extent %d is mapped at %p, the next one at %p", extentsMapped-1, mapped, other)
	}
	for i, e := range all {
		var p [2]byte
		if err := s.copyOut(p[:], e, slotBytes-2); err != nil ||
			p != [2]byte{byte(i), byte(i >> 8)} {
			t.Fatalf("slot %d: %v, %v", e.slot(), p, err)
		}
	}
	s.release(all)
	if n := s.inUse(); n != 0 {
		t.Errorf("%d slots in use, want 0", n)
	}
	if err := s.copyOut(make([]byte, 1), all[len(all)-1], 0); !errors.Is(err, errReused) {
		t.Errorf("a slot without mapping that was given up: %v, want %v", err, errReused)
	}
}
