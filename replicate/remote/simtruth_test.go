package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/manifest/history"
	"verneuil/replicate/remote/compose"
	"verneuil/replicate/versions"
)

const (
	block      = compose.BlockBytes
	listOffset = 512 // in block 0, of the number of transactions; then the transactions
	simStore   = "s"
	simPath    = "/any/path.db"
	simName    = "/" + simStore + simPath
)

// transaction is what one has written: the list, in block 0, to which it has appended itself, and
// itself into other blocks, each of which is a register.
type transaction struct {
	id       uint32
	blocks   []int  // that it wrote, ascending, from 1 on
	length   int    // of the file after it, in blocks
	before   []byte // the list that it was made on, as key
	outcome  outcome
	appended bool // the truth has it
	dropped  bool // and had it, before the store lost a record
	acked    time.Duration
}

// outcome is what who committed was told.
type outcome int

const (
	unknown outcome = iota // nothing, or that it is not known
	committed
	refused // none of it may be in any version
)

// content is what a file holds whose list that is: for each block the transaction that wrote it
// last; 0: none, it is zeros.
func (w *world) content(list []uint32) []uint32 {
	var last []uint32
	for _, id := range list {
		tx := w.txs[id-1]
		for len(last) < tx.length {
			last = append(last, 0)
		}
		last = last[:tx.length]
		last[0] = id
		for _, b := range tx.blocks {
			last[b] = id
		}
	}
	return last
}

// fill makes block b what transaction id has written there, list being all up to it.
func (w *world) fill(p []byte, b int, id uint32, list []uint32) {
	clear(p)
	if id == 0 {
		return
	}
	if b > 0 {
		for at := 0; at < len(p); at += 512 { // a torn one shows
			binary.BigEndian.PutUint32(p[at:], id)
			binary.BigEndian.PutUint32(p[at+508:], uint32(b)<<16|uint32(at))
		}
		return
	}
	copy(p, "SQLite format 3\x00")
	copy(p[16:], []byte{block >> 8, 0, 1, 1, 0, 64, 32, 32})
	counter, pages := uint32(len(list)), uint32(w.txs[id-1].length)
	binary.BigEndian.PutUint32(p[24:], counter)
	binary.BigEndian.PutUint32(p[28:], pages)
	binary.BigEndian.PutUint32(p[44:], 4) // schema format
	binary.BigEndian.PutUint32(p[56:], 1) // UTF-8
	binary.BigEndian.PutUint32(p[92:], counter)
	binary.BigEndian.PutUint32(p[96:], 3053000)
	at := listOffset
	for _, v := range append([]uint32{counter}, list...) {
		binary.BigEndian.PutUint32(p[at:], v)
		at += 4
	}
	binary.BigEndian.PutUint32(p[block-4:], id)
}

// listOf reads the list of block 0.
func listOf(p []byte) (list []uint32, err error) {
	n := int(binary.BigEndian.Uint32(p[listOffset:]))
	if n > (block-listOffset)/4-2 {
		return nil, fmt.Errorf("block 0 has a list of %d", n)
	}
	for i := range n {
		list = append(list, binary.BigEndian.Uint32(p[listOffset+4+4*i:]))
	}
	return list, nil
}

// whole reads one version by read, and returns its list. It fails if the version is not whole: if
// any block is not what the list says (R4).
func (w *world) whole(length int64, read func(p []byte, off int64) error) ([]uint32, error) {
	if length == 0 {
		return nil, nil
	}
	p, want := make([]byte, block), make([]byte, block)
	if err := read(p, 0); err != nil {
		return nil, err
	}
	list, err := listOf(p)
	if err != nil {
		return nil, torn{err.Error()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range list {
		if id == 0 || int(id) > len(w.txs) {
			return nil, torn{fmt.Sprintf("list %v", list)}
		}
	}
	last := w.content(list)
	if int64(len(last))*block != length {
		return nil, torn{fmt.Sprintf("%d bytes, %d blocks wanted by %v", length, len(last), list)}
	}
	for b, id := range last {
		w.fill(want, b, id, list)
		if b > 0 {
			w.mu.Unlock()
			err := read(p, int64(b)*block)
			w.mu.Lock()
			if err != nil {
				return nil, err
			}
		}
		if b == 0 { // these are the reader's own
			for _, at := range []int{24, 40, 92} {
				clear(p[at : at+4])
				clear(want[at : at+4])
			}
		}
		if !bytes.Equal(p, want) {
			return nil, torn{fmt.Sprintf("block %d has %x, transaction %d wanted by %v",
				b, p[:8], id, list)}
		}
	}
	return list, nil
}

// torn: what was read is not one version.
type torn struct{ what string }

func (t torn) Error() string { return "torn: " + t.what }

// truth is the history, as the store has seen it come about. w.mu guards it.
type truth struct {
	lineage     [16]byte
	newest      *manifest.Manifest // of records
	owner       [16]byte
	versions    [][]uint32 // the list of each version, by number
	past        []moment   // of each version, where the store loses some
	epochs      int
	beaten      time.Duration // when a heartbeat, or a record, last came
	puts        uint64        // number of the last checkpoint
	checkpoints []put
	lists       map[[16]byte][]uint32 // of each version, by its cut
	// known is how long a list is all of which somebody was told is committed.
	known   int
	objects map[chunkstore.ID][]byte
}

// list is that of the newest version.
func (t *truth) list() []uint32 { return t.versions[len(t.versions)-1] }

// stored is told of each object that the store gets, in order.
func (w *world) stored(bucket, key string, body []byte, had bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch kind := kindOf(key); {
	case bucket == "m" && key == manifest.PlainName("", simPath):
		w.checkpointed(body)
	case kind == "pack" && w.variant.putBack:
		w.archive.buckets["c"][key] = w.buckets["c"][key]
		w.archive.put[key] = w.now()
		select {
		case w.archive.fresh <- key:
		default:
		}
		delete(w.back.lacks, key)
	case kind == "lease":
		w.beaten = w.now()
	case kind == "log":
		if had {
			w.violate("R1: %s was put again", key)
		}
		digits := key[strings.LastIndexByte(key, '-')+1:]
		if n, err := strconv.ParseUint(digits, 16, 64); err != nil {
			w.violate("a record's key is %s", key)
		} else if strings.HasPrefix(key, fmt.Sprintf("log-%x-", w.lineage)) {
			w.created(n, body)
		} else if w.back.begun > 0 {
			w.back.begun = w.now() // who reads it of the old history takes that for alive
		}
	}
}

// checkpointed: R6, and the checkpoint is of the history.
func (w *world) checkpointed(body []byte) {
	m, err := manifest.Decode(chunkstore.Plain{}, body)
	if err != nil {
		w.violate("a checkpoint: %v", err)
		return
	}
	list, err := w.materialize(m)
	if err != nil {
		w.violate("R6: checkpoint %d: %v", m.At.Number, err)
		return
	}
	if w.newest == nil {
		w.newest, w.lineage, w.versions = m, m.At.Lineage, [][]uint32{list}
		w.lists[m.Cut] = list
		w.past = []moment{{newest: m}}
		return
	}
	if w.back.at > 0 && m.At.Lineage != w.lineage && m.At.Number == 0 &&
		slices.Equal(list, w.list()) {
		w.back.histories++
		w.back.again, w.back.begun = true, w.now()
		w.newest, w.lineage, w.versions = m, m.At.Lineage, [][]uint32{list}
		w.owner, w.puts, w.checkpoints = [16]byte{}, 0, nil
		w.lists[m.Cut] = list
		w.past = []moment{{newest: m}}
		return
	}
	n := m.At.Number
	if w.back.at > 0 && n >= uint64(len(w.versions)) && w.now()-w.back.at < 100*w.latency {
		w.back.ruined = true // between a look and the checkpoint
	}
	switch {
	case m.At.Lineage != w.lineage:
		w.violate("R2: another history has begun")
	case n >= uint64(len(w.versions)):
		w.violate("R6: checkpoint %d, and the log has %d", n, len(w.versions)-1)
	case n <= w.puts:
		w.violate("R2: checkpoint %d after %d", n, w.puts)
	case !slices.Equal(list, w.versions[n]):
		w.violate("R2: checkpoint %d has %v, not %v", n, list, w.versions[n])
	default:
		w.back.again = true
		w.puts = n
		w.trace("checkpoint %d", n)
		w.checkpoints = append(w.checkpoints, put{n, w.now()})
	}
}

// created: record n.
func (w *world) created(n uint64, stored []byte) {
	r, err := history.Decode(n, stored)
	if head := uint64(len(w.versions) - 1); n <= head {
		w.counts.Recreated++ // it was trimmed: nobody may believe it
		return
	} else if w.back.at > 0 && (n > head+1 || n == head+1 && !follows(w.newest.At, r)) {
		w.back.orphans++
		return
	} else if err != nil || n > head+1 {
		w.violate("R1: record %d was created after %d: %v", n, head, err)
		return
	}
	if r.Fence {
		w.epochs++
	} else if r.Writer != w.owner {
		w.violate("R5: record %d by %x, and %x owns the history", n, r.Writer[:2], w.owner[:2])
	}
	next, err := versions.Fold(w.newest, r)
	if err != nil {
		w.violate("R5: record %d: %v", n, err)
		return
	}
	w.owner = r.Writer
	if r.Release {
		w.owner = [16]byte{}
	}
	list, before := w.list(), w.list()
	if !r.Fence && len(r.Body) > 0 {
		if list, err = w.materialize(next); err != nil {
			w.violate("R6: record %d: %v", n, err)
			return
		}
	}
	if len(list) < len(before) || !slices.Equal(list[:len(before)], before) {
		w.violate("R2: record %d makes %v of %v", n, list, before)
	}
	for _, id := range list[min(len(before), len(list)):] {
		tx := w.txs[id-1]
		tx.appended = true
		if tx.outcome == refused {
			w.violate("R3: transaction %d was refused, and is in record %d", id, n)
		}
	}
	w.newest, w.versions, w.beaten = next, append(w.versions, list), w.now()
	if w.variant.loses {
		w.past = append(w.past, moment{next, w.owner})
	}
	w.trace("record %d by %x: %d transactions, fence %v, release %v", n, r.Writer[:2], len(list),
		r.Fence, r.Release)
	w.lists[next.Cut] = list
}

// follows reports whether r is the successor of what stands at p.
func follows(p history.Position, r *history.Record) bool {
	_, err := p.After(r)
	return err == nil
}

// materialize reads a version out of the store, which holds all that it needs (R6).
func (w *world) materialize(m *manifest.Manifest) ([]uint32, error) {
	t := chunkstore.NewTarget("truth", bucket{w.memory, "c", true}, bucket{w.memory, "m", true})
	ctx := context.Background()
	fetch := func(ctx context.Context, refs []chunkstore.Ref) (all [][]byte, err error) {
		for _, ref := range refs {
			p, err := w.object(ctx, t, ref)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		return all, nil
	}
	tree := m.Tree(chunkstore.Plain{})
	file := make([]byte, 0, m.FileBytes)
	for i := range m.Chunks() {
		ref, err := tree.Lookup(ctx, i, fetch)
		if err != nil {
			return nil, err
		}
		p, err := w.object(ctx, t, ref)
		if err != nil {
			return nil, err
		}
		file = append(file, m.Overlay(i, p)...)
	}
	w.mu.Unlock()
	defer w.mu.Lock()
	return w.whole(m.FileBytes, func(p []byte, off int64) error {
		copy(p, file[off:])
		return nil
	})
}

func (w *world) object(
	ctx context.Context, t *chunkstore.Target, ref chunkstore.Ref,
) ([]byte, error) {
	if ref.ID == chunkstore.ZeroID {
		return nil, nil
	}
	if _, err := t.Chunks.Stat(ctx, ref.Place.Pack.String()); err != nil {
		if t = lacked(w, ref.Place.Pack.String()); t == nil {
			return nil, err
		}
	}
	if p, ok := w.objects[ref.ID]; ok {
		return p, nil
	}
	p, err := t.GetObject(ctx, ref)
	if err == nil {
		w.objects[ref.ID] = p
	}
	return p, err
}
