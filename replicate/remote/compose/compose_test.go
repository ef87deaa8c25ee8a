package compose_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/remote/compose"
)

// made is a database of so many blocks with some content, as one version.
func made(t testing.TB, c *compose.Composer, blocks int) (*manifest.Manifest, []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(blocks), 2))
	ch := &change{bytes: int64(blocks) * compose.BlockBytes, blocks: make(map[int64][]byte)}
	for k := range blocks {
		block := make([]byte, compose.BlockBytes)
		binary.BigEndian.PutUint64(block[2000:], rng.Uint64())
		ch.blocks[int64(k)*compose.BlockBytes] = block
	}
	header(ch.blocks[0], 4096, uint32(blocks), 1, true)
	d, err := c.Compose(context.Background(), new(manifest.Manifest), ch.asChange(), &file{})
	must(t, err)
	return d.Version, ch.apply(nil)
}

// TestC1NothingChanged: what a rollback writes, or what writes the same again, is no version.
func TestC1NothingChanged(t *testing.T) {
	b := newBucket()
	c := compose.New(compose.Options{Target: newTarget(b)})
	base, was := made(t, c, 1000)
	puts := b.puts
	again := &change{bytes: int64(len(was)), blocks: make(map[int64][]byte)}
	for off := int64(0); off < again.bytes; off += compose.BlockBytes {
		block := make([]byte, compose.BlockBytes) // as SQLite was shown it
		must(t, (&file{bytes: was}).ReadBase(t.Context(), block, off))
		again.blocks[off] = block
	}
	again.blocks[0][18], again.blocks[0][19] = 2, 2 // it is stored in rollback mode
	d, err := c.Compose(context.Background(), base, again.asChange(), &file{bytes: was})
	if d != nil || err != nil || b.puts != puts {
		t.Fatalf("%v, %v, %d puts, where nothing has changed", d, err, b.puts-puts)
	}
	cold := &file{bytes: was, cached: func(int64, int) bool { return false }}
	d, err = c.Compose(context.Background(), base, again.asChange(), cold)
	must(t, err)
	if d == nil {
		t.Fatal("blocks were compared that are not cached")
	}
	again.bytes -= compose.BlockBytes
	delete(again.blocks, again.bytes)
	d, err = c.Compose(context.Background(), base, again.asChange(), &file{bytes: was})
	must(t, err)
	if d == nil || len(d.Changed) > 0 || d.Version.FileBytes != again.bytes {
		t.Fatalf("%+v, where a page is cut off", d)
	}
}

// TestC2FailedPutsNameNothing: whichever put or Sync fails, the caller has its error, and no
// draft. When none fails, all that the version names is there.
func TestC2FailedPutsNameNothing(t *testing.T) {
	for name, do := range map[string]func(*world) (*manifest.Manifest, error){
		"Compose": func(w *world) (*manifest.Manifest, error) {
			was := w.file()
			d, err := w.c.Compose(context.Background(), w.base, w.all().asChange(), was)
			return version(d), err
		},
		"Fold": func(w *world) (*manifest.Manifest, error) {
			f, err := w.c.Fold(context.Background(), w.base, w.file())
			if f == nil {
				return nil, err
			}
			return version(f.Onto(w.base)), err
		},
		"Checkpoint": func(w *world) (*manifest.Manifest, error) {
			m, _, err := w.c.Checkpoint(context.Background(), w.base)
			return m, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			fails := errors.New("the store fails")
			for n, sync := 1, true; ; {
				w := newWorld(t)
				hit := false
				first := w.bucket.puts
				w.bucket.fail = func(put int, isSync bool) error {
					if isSync == sync && (sync || put-first == n) {
						hit = true
						return fails
					}
					return nil
				}
				m, err := do(w)
				w.bucket.fail = nil
				if !hit {
					must(t, err)
					if got := content(t, w.target, m); !bytes.Equal(got, w.bytes) {
						t.Fatal("the version has other bytes")
					}
					if n == 1 {
						t.Fatal("nothing was put")
					}
					return
				}
				if m != nil || !errors.Is(err, fails) {
					t.Fatalf("put %d (sync %v) failed: %v, %v", n, sync, m, err)
				}
				if sync {
					sync = false
				} else {
					n++
				}
			}
		})
	}
}

func version(d *compose.Draft) *manifest.Manifest {
	if d == nil {
		return nil
	}
	return d.Version
}

// world is a database with patches and inline pages.
type world struct {
	c      *compose.Composer
	bucket *bucket
	target *chunkstore.Target
	base   *manifest.Manifest
	bytes  []byte
}

func newWorld(t testing.TB) *world {
	w := &world{bucket: newBucket()}
	w.target = newTarget(w.bucket)
	w.c = compose.New(compose.Options{Target: w.target})
	const chunks = 100
	w.base, w.bytes = made(t, w.c, chunks*16)
	ch := &change{bytes: int64(len(w.bytes)), blocks: make(map[int64][]byte)}
	for i := range int64(chunks) / 2 { // one for every other chunk: inline
		off := (i*32 + 5) * compose.BlockBytes
		ch.blocks[off] = bytes.Repeat([]byte{byte(i + 1)}, compose.BlockBytes)
	}
	d, err := w.c.Compose(context.Background(), w.base, ch.asChange(), w.file())
	must(t, err)
	w.base, w.bytes = d.Version, ch.apply(w.bytes)
	if len(w.base.Inline) < chunks/2 || len(w.base.Patches) < chunks {
		t.Fatalf("%d inline pages, %d patches", len(w.base.Inline), len(w.base.Patches))
	}
	return w
}

func (w *world) file() *file { return &file{bytes: w.bytes} }

// write changes blocks, and cuts the file off where w.bytes end.
func (w *world) write(t testing.TB, blocks ...int64) {
	t.Helper()
	ch := &change{bytes: int64(len(w.bytes)), blocks: make(map[int64][]byte)}
	for _, k := range blocks {
		block := bytes.Repeat([]byte{byte(k) + w.bytes[k*4096+4000] + 1}, compose.BlockBytes)
		if k == 0 {
			copy(block, w.bytes[:100])
			header(block, 4096, uint32(len(w.bytes)/4096), uint32(block[4000]), true)
		}
		ch.blocks[k*compose.BlockBytes] = block
	}
	d, err := w.c.Compose(t.Context(), w.base, ch.asChange(), w.file())
	must(t, err)
	w.base, w.bytes = d.Version, ch.apply(w.bytes)
}

// all is a change of all blocks but the first; w.bytes are what it makes.
func (w *world) all() *change {
	ch := &change{bytes: int64(len(w.bytes)), blocks: make(map[int64][]byte)}
	for off := int64(compose.BlockBytes); off < ch.bytes; off += compose.BlockBytes {
		block := make([]byte, compose.BlockBytes)
		binary.BigEndian.PutUint64(block, binary.BigEndian.Uint64(w.bytes[off:])+uint64(off))
		ch.blocks[off] = block
	}
	w.bytes = ch.apply(w.bytes)
	return ch
}

// TestC6LargeChangesTakeLittleMemory: while packs are being put, and none is finished, no more is
// read than they have.
func TestC6LargeChangesTakeLittleMemory(t *testing.T) {
	const (
		chunks  = 4800 // 300 MiB
		at      = 3    // packs at once
		packMax = 1 << 20
	)
	b := newBucket()
	b.discards = true
	var reads atomic.Int64 // chunks
	var entered atomic.Int64
	full := make(chan struct{})
	b.entered = func() {
		if n := entered.Add(1); n == at {
			// Block 0 is read twice: where the file ends stands in it
			if got := reads.Load(); got > at*chunkstore.PackMax+1 {
				t.Errorf("%d chunks were read, where %d packs are being put", got, at)
			}
			close(full)
		}
		<-full
	}
	offsets := make([]int64, 0, chunks*16)
	for off := int64(0); off < chunks*chunkstore.ChunkBytes; off += compose.BlockBytes {
		offsets = append(offsets, off)
	}
	var reading sync.Mutex
	ch := compose.Change{
		Bytes: chunks * chunkstore.ChunkBytes, Offsets: offsets,
		Read: func(k int, p []byte) error {
			if !reading.TryLock() {
				t.Error("two goroutines read at once")
			} else {
				defer reading.Unlock()
			}
			clear(p)
			binary.BigEndian.PutUint64(p[1000:], uint64(k))
			if offsets[k]%chunkstore.ChunkBytes == 0 {
				reads.Add(1)
			}
			return nil
		},
	}
	c := compose.New(compose.Options{Target: newTarget(b), Concurrency: at})
	// No tree can be put into a bucket that discards: there must be no need to read it.
	d, err := c.Compose(t.Context(), new(manifest.Manifest), ch, &file{})
	must(t, err)
	if !d.Whole || len(d.Changed) != chunks || d.Chunks != nil {
		t.Fatalf("whole %v, %d chunks, %d kept", d.Whole, len(d.Changed), len(d.Chunks))
	}
	if b.most > at*packMax {
		t.Fatalf("%d bytes were being put at once", b.most)
	}
	body, err := d.Step(new(manifest.Manifest)).Encode()
	must(t, err)
	if len(body) > 64<<10 {
		t.Fatalf("the record has %d bytes", len(body))
	}
}

// TestCheckpointBeforeTree: a checkpoint is wanted before a commit has to put a tree.
func TestCheckpointBeforeTree(t *testing.T) {
	w := newWorld(t) // with 100 patches
	w.c = compose.New(compose.Options{Target: w.target, Budgets: compose.Budgets{Patches: 201}})
	if w.c.WantsCheckpoint(w.base) {
		t.Error("wanted too soon")
	}
	for _, patches := range []int{199, 150} {
		w.c = compose.New(compose.Options{
			Target: w.target, Budgets: compose.Budgets{Patches: patches},
		})
		if !w.c.WantsCheckpoint(w.base) {
			t.Error("not wanted")
		}
		was := w.file()
		d, err := w.c.Compose(t.Context(), w.base, w.all().asChange(), was)
		must(t, err)
		if !d.Whole || w.c.WantsCheckpoint(d.Version) {
			t.Errorf("whole %v, with %d patches", d.Whole, len(d.Version.Patches))
		}
		w.bytes = was.bytes
	}
	packed, _, err := w.c.Checkpoint(t.Context(), w.base)
	must(t, err)
	if w.c.WantsCheckpoint(packed) {
		t.Error("wanted of a checkpoint")
	}
}

// incompressible fills b, whose length is a multiple of 8, with what does not compress.
func incompressible(rng *rand.Rand, b []byte) {
	for at := 0; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], rng.Uint64())
	}
}

// TestBudgetsFit: what the default budgets allow can be stored, also with pages of 64 KiB, and
// bytes that nothing compresses.
func TestBudgetsFit(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	c := compose.New(compose.Options{Target: newTarget(newBucket())})
	const pages = 900
	base, was := new(manifest.Manifest), []byte(nil)
	write := func(blocks ...int64) *compose.Draft {
		t.Helper()
		ch := &change{bytes: pages * 65536, blocks: make(map[int64][]byte)}
		for _, k := range blocks {
			block := make([]byte, compose.BlockBytes)
			incompressible(rng, block)
			ch.blocks[k*compose.BlockBytes] = block
		}
		for k := range int64(16) {
			block := make([]byte, compose.BlockBytes)
			incompressible(rng, block)
			ch.blocks[k*compose.BlockBytes] = block
		}
		header(ch.blocks[0], 65536, pages, rng.Uint32(), true)
		d, err := c.Compose(t.Context(), base, ch.asChange(), &file{bytes: was})
		must(t, err)
		_, err = d.Step(base).Encode()
		must(t, err)
		_, err = d.Version.Encode(chunkstore.Plain{})
		must(t, err)
		base, was = d.Version, ch.apply(was)
		return d
	}
	var all []int64
	for i := range int64(pages - 1) {
		for k := range int64(4) {
			all = append(all, (i+1)*16+k)
		}
	}
	write(all...) // as many patches as it gets
	most, packed := 0, 0
	for n := range int64(40) {
		var some []int64
		for k := range int64(50) {
			some = append(some, ((n*50+k)%(pages-1)+1)*16+4+n%12)
		}
		d := write(some...)
		most = max(most, bytesInline(d.Version, 65536))
		packed += len(d.Changed)
		if c.Wants(d.Version) != (bytesInline(d.Version, 65536) > 640<<10) {
			t.Fatal("a Fold is wanted, or is not")
		}
	}
	if packed == 0 || most < 700<<10 {
		t.Fatalf("%d bytes inline at most, %d chunks put: the budget was not reached", most, packed)
	}
}

// TestPageOneStaysInline: also where its chunk gets a new object, and where another program has
// left it in one.
func TestPageOneStaysInline(t *testing.T) {
	w := newWorld(t)
	first := func() []byte {
		t.Helper()
		if p := w.base.Inline[0]; p.Offset == 0 && len(p.Data) == compose.BlockBytes {
			return p.Data
		}
		t.Fatal("page 1 is not inline")
		return nil
	}
	first()
	was := w.base.ChangeCounter
	before := w.file()
	d, err := w.c.Compose(t.Context(), w.base, w.all().asChange(), before)
	must(t, err)
	w.base = d.Version
	if d.Changed[0].Index != 0 || d.Version.ChangeCounter != was {
		t.Fatalf("chunk 0 has no new object, or the counter %d", d.Version.ChangeCounter)
	}
	if !bytes.Equal(first(), w.bytes[:compose.BlockBytes]) {
		t.Fatal("page 1 is what the base's reader shows")
	}
	w = newWorld(t)
	bare := *w.base
	bare.Inline = bare.Inline[1:] // the object has it, too
	w.base = &bare
	before = w.file()
	d, err = w.c.Compose(t.Context(), w.base, w.all().asChange(), before)
	must(t, err)
	if got := content(t, w.target, d.Version); !bytes.Equal(got, w.bytes) {
		t.Fatal("what a reader shows of page 1 was put")
	}
	w.base = d.Version
	shown := make([]byte, compose.BlockBytes)
	must(t, w.file().ReadBase(t.Context(), shown, 0))
	ch := &change{bytes: int64(len(w.bytes)), blocks: map[int64][]byte{0: shown}}
	ch.blocks[compose.BlockBytes] = bytes.Repeat([]byte{9}, compose.BlockBytes)
	d, err = w.c.Compose(t.Context(), w.base, ch.asChange(), w.file())
	must(t, err)
	w.base = d.Version
	if !bytes.Equal(first(), shown) {
		t.Fatal("page 1 is not what was written")
	}
}

// TestHeaderWithoutPageSize: a file whose header has no valid page size is kept whole.
func TestHeaderWithoutPageSize(t *testing.T) {
	w := newWorld(t)
	before := w.file()
	first := bytes.Clone(w.bytes[:compose.BlockBytes])
	first[16], first[17] = 0, 255
	ch := &change{bytes: int64(len(w.bytes)), blocks: map[int64][]byte{0: first}}
	d, err := w.c.Compose(t.Context(), w.base, ch.asChange(), before)
	must(t, err)
	if d.Version.FileBytes != int64(len(w.bytes)) {
		t.Fatalf("of %d bytes %d are left", len(w.bytes), d.Version.FileBytes)
	}
}

// TestChangesThatAreNone are refused, and nothing is put.
func TestChangesThatAreNone(t *testing.T) {
	c := compose.New(compose.Options{Target: newTarget(newBucket())})
	for _, offsets := range [][]int64{{1}, {-4096}, {4096, 0}, {0, 0}, {8192}} {
		ch := compose.Change{Bytes: 8192, Offsets: offsets, Read: func(int, []byte) error {
			t.Error("it was read")
			return nil
		}}
		d, err := c.Compose(t.Context(), new(manifest.Manifest), ch, &file{})
		if err == nil || d != nil {
			t.Errorf("%v: %v, %v", offsets, d, err)
		}
	}
	fails := errors.New("the overlay cannot be read")
	for _, blocks := range []int{1, 100} {
		ch := (&change{bytes: int64(blocks) * 4096}).asChange()
		for k := range blocks {
			ch.Offsets = append(ch.Offsets, int64(k)*4096)
		}
		ch.Read = func(k int, p []byte) error {
			clear(p)
			if k == blocks-1 {
				return fails
			}
			return nil
		}
		d, err := c.Compose(t.Context(), new(manifest.Manifest), ch, &file{})
		if d != nil || !errors.Is(err, fails) {
			t.Errorf("%d blocks: %v, %v", blocks, d, err)
		}
	}
}

// TestReadsThatPanic are errors of Compose, also in the goroutines of a large change.
func TestReadsThatPanic(t *testing.T) {
	c := compose.New(compose.Options{Target: newTarget(newBucket())})
	ch := compose.Change{Bytes: 100 * 4096, Read: func(k int, p []byte) error {
		if clear(p); k == 50 {
			panic("of the overlay")
		}
		return nil
	}}
	for k := range int64(100) {
		ch.Offsets = append(ch.Offsets, k*4096)
	}
	d, err := c.Compose(t.Context(), new(manifest.Manifest), ch, &file{})
	if d != nil || err == nil || !bytes.Contains([]byte(err.Error()), []byte("of the overlay")) {
		t.Fatalf("%v, %v", d, err)
	}
}

// TestManyAtOnce: one Composer serves many.
func TestManyAtOnce(t *testing.T) {
	target := newTarget(newBucket())
	c := compose.New(compose.Options{Target: target})
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			m, is := made(t, c, 100+n*37)
			if !bytes.Equal(content(t, target, m), is) {
				t.Errorf("%d: other bytes", n)
			}
		})
	}
	all.Wait()
}

// source is random numbers that a fuzzer chooses, and then others.
type source struct {
	chosen []byte
	then   rand.Source
}

func (s *source) Uint64() uint64 {
	if len(s.chosen) < 8 {
		return s.then.Uint64()
	}
	n := binary.LittleEndian.Uint64(s.chosen)
	s.chosen = s.chosen[8:]
	return n
}

// FuzzVersions is TestVersionsAreWhatWasWrittenBySeed with changes that a fuzzer chooses.
func FuzzVersions(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte("12345678abcdefgh"), 40))
	f.Fuzz(func(t *testing.T, chosen []byte) {
		s := &source{chosen: chosen, then: rand.NewPCG(uint64(len(chosen)), 7)}
		newModel(t, rand.New(s)).run(12)
	})
}
