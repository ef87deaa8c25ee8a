package replicate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"sync"

	"verneuil/chunkstore"
	"verneuil/manifest"
)

// memoryBucket is a bucket in memory, with a count of calls and a fault.
type memoryBucket struct {
	name string

	mu      sync.Mutex
	objects map[string][]byte
	marker  map[string][]byte // the bucket's own object, which is none of objects
	puts    int
	gets    int
	marks   int                        // calls that are about its marker, which are no puts or gets
	touched []string                   // keys
	fault   func(op, key string) error // nil: none
	stored  func(body []byte) error    // is told of what was put, and may lose the answer; or nil

	// versions is the bucket of manifests of a bucket of chunks: there requests for records, and
	// checkpoints that are kept, are counted, and fail, as they are what tells of versions. Fences
	// and what is kept are no puts.
	versions *memoryBucket
	fences   int
	kept     int
}

func newMemoryBucket(name string) *memoryBucket {
	return &memoryBucket{name: name, objects: make(map[string][]byte),
		marker: make(map[string][]byte)}
}

func etagOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// of returns where an object called key lies.
func (b *memoryBucket) of(key string) map[string][]byte {
	if key == chunkstore.MarkerKey {
		return b.marker
	}
	return b.objects
}

// empty removes all that the bucket holds, as its owner might.
func (b *memoryBucket) empty() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.objects)
	clear(b.marker)
}

// counts returns the bucket where requests for key are counted, and fail.
func (b *memoryBucket) counts(key string) *memoryBucket {
	if b.versions != nil && isOfHistory(key) {
		return b.versions
	}
	return b
}

// isOfHistory reports whether key is that of a record, or of a checkpoint that is kept.
func isOfHistory(key string) bool {
	return strings.HasPrefix(key, chunkstore.LogKeyPrefix) ||
		strings.HasPrefix(key, chunkstore.KeptKeyPrefix)
}

// begin counts a request.
func (b *memoryBucket) begin(op, key string, body []byte) error {
	b = b.counts(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes.HasPrefix(body, []byte("VRNL")) && body[5]&1 != 0 {
		b.fences++
		b.puts--
	} else if op == "put" && strings.HasPrefix(key, chunkstore.KeptKeyPrefix) {
		b.kept++
		b.puts--
	}
	return b.enter(op, key)
}

func (b *memoryBucket) enter(op, key string) error {
	if key == chunkstore.MarkerKey {
		op = "mark"
	}
	switch op {
	case "mark":
		b.marks++
	case "put":
		b.puts++
	case "touch":
		b.touched = append(b.touched, key)
	default:
		b.gets++
	}
	if b.fault != nil {
		return b.fault(op, key)
	}
	return nil
}

func (b *memoryBucket) Get(_ context.Context, key string,
	o chunkstore.GetOptions) (chunkstore.Object, error) {
	err := b.begin("get", key, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		return chunkstore.Object{}, err
	}
	body, ok := b.of(key)[key]
	if !ok {
		return chunkstore.Object{}, chunkstore.ErrAbsent
	}
	if o.IfNoneMatch != "" && o.IfNoneMatch == etagOf(body) {
		return chunkstore.Object{}, chunkstore.ErrUnmodified
	}
	if end := o.Offset + o.Length; o.Length > 0 && end > int64(len(body)) {
		return chunkstore.Object{}, chunkstore.ErrCorrupt
	} else if o.Length > 0 {
		part := bytes.Clone(body[o.Offset:end])
		return chunkstore.Object{Key: key, Body: part, Bytes: int64(len(body))}, nil
	}
	return chunkstore.Object{Key: key, Body: bytes.Clone(body), Bytes: int64(len(body)),
		ETag: etagOf(body)}, nil
}

func (b *memoryBucket) Put(_ context.Context, key string, body []byte,
	c chunkstore.Condition) (string, error) {
	if err := b.begin("put", key, body); err != nil {
		return "", err
	}
	if err := b.place(key, body, c); err != nil {
		return "", err
	}
	if stored := b.counts(key).stored; stored != nil && key != chunkstore.MarkerKey &&
		!strings.HasPrefix(key, chunkstore.KeptKeyPrefix) {
		if err := stored(body); err != nil {
			return "", err
		}
	}
	return etagOf(body), nil
}

func (b *memoryBucket) place(key string, body []byte, c chunkstore.Condition) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ok := b.of(key)[key]
	if c.IfNone && ok || c.IfMatch != "" && (!ok || etagOf(old) != c.IfMatch) {
		return chunkstore.ErrConflict
	}
	b.of(key)[key] = bytes.Clone(body)
	return nil
}

func (b *memoryBucket) Stat(ctx context.Context, key string) (chunkstore.Object, error) {
	o, err := b.Get(ctx, key, chunkstore.GetOptions{})
	o.Body = nil
	return o, err
}

func (b *memoryBucket) List(_ context.Context, prefix string,
	yield func(chunkstore.Object) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil {
		if err := b.fault("list", prefix); err != nil {
			return err
		}
	}
	for key, body := range b.objects {
		o := chunkstore.Object{Key: key, Bytes: int64(len(body))}
		if strings.HasPrefix(key, prefix) && !yield(o) {
			return nil
		}
	}
	return nil
}

func (b *memoryBucket) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

func (b *memoryBucket) Touch(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.enter("touch", key); err != nil {
		return err
	}
	if b.of(key)[key] == nil {
		return chunkstore.ErrAbsent
	}
	return nil
}

func (b *memoryBucket) String() string { return b.name }

// count returns how many objects there are.
func (b *memoryBucket) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.objects)
}

func (b *memoryBucket) calls() (puts, gets int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.puts, b.gets
}

func (b *memoryBucket) setFault(f func(op, key string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = f
}

// copied is a target that has what target k has, and whose requests nobody counts.
func (w *world) copied(k int) *chunkstore.Target {
	var copies [2]*memoryBucket
	for n, b := range []*memoryBucket{w.chunks[k], w.manifests[k]} {
		copies[n] = newMemoryBucket("copy")
		b.mu.Lock()
		maps.Copy(copies[n].objects, b.objects)
		b.mu.Unlock()
	}
	return chunkstore.NewTarget("copy", copies[0], copies[1])
}

// contents returns the database whose version m is, with what t has.
func contents(m *manifest.Manifest, t *chunkstore.Target) ([]byte, error) {
	b := make([]byte, m.FileBytes)
	err := readAll(m, t, func(i int, base []byte) {
		chunk := b[i*chunkstore.ChunkBytes:][:m.ChunkBytes(i)]
		copy(chunk, base)
		for _, p := range m.InlineOf(i) {
			copy(b[p.Offset:], p.Data)
		}
	})
	return b, err
}

// readAll has each see what m names of each chunk, in turn.
func readAll(m *manifest.Manifest, t *chunkstore.Target, each func(i int, base []byte)) error {
	tree := m.Tree(t.Sealer)
	if err := tree.Load(context.Background(), t.GetObjects); err != nil {
		return err
	}
	for i := range m.Chunks() {
		base, err := t.GetObject(context.Background(), tree.At(i))
		if err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		each(i, base)
	}
	return nil
}

// watch has whatever version is put to a target checked: all that it names is durable there (I1).
func (w *world) watch() {
	for k, b := range w.manifests {
		b.stored = func([]byte) error {
			t := w.copied(k) // once: what was the newest a moment ago may be collected
			m, err := newest(t, w.db)
			if err == nil {
				err = readAll(m, t, func(int, []byte) {})
			}
			if err != nil {
				w.Errorf("target %d was put a version: %v", k, err)
			}
			return nil
		}
	}
}

// packs returns which objects stand in each pack of target k, and checks that they are whole.
func (w *world) packs(k int) map[string][]chunkstore.ID {
	w.Helper()
	packs := make(map[string][]chunkstore.ID)
	t := w.copied(k)
	for _, key := range w.chunkKeys(k) {
		name, err := chunkstore.ParseDigest(key)
		if err != nil {
			w.Fatal(err)
		}
		pieces, err := t.GetPack(context.Background(), name)
		if err != nil {
			w.Fatal(err)
		}
		for _, p := range pieces {
			if _, err := chunkstore.OpenObject(t.Sealer, nil, p.ID, p.Stored); err != nil {
				w.Errorf("object %v in pack %v: %v", p.ID, name, err)
			}
			packs[key] = append(packs[key], p.ID)
		}
	}
	return packs
}

// objects returns how many objects stand in the packs of target k that are not among old.
func (w *world) objects(k int, old map[string][]chunkstore.ID) (n int) {
	w.Helper()
	for key, ids := range w.packs(k) {
		if old[key] == nil {
			n += len(ids)
		}
	}
	return n
}
