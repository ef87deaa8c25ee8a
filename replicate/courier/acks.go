package courier

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"verneuil/manifest/history"
)

// ack is what targets.json keeps of a target: the version that it last took, by its Cut
// and ETag, so that we see whether it has changed; what its buckets
// were; and when that was seen.
type ack struct {
	ETag string `json:"etag,omitempty"`
	Cut  string `json:"cut,omitempty"` // in hex
	identities
	Store    time.Time `json:"store_seen,omitzero"`
	Manifest time.Time `json:"manifest_seen,omitzero"`
	Log      time.Time `json:"log_seen,omitzero"`
	Chain    time.Time `json:"chain_seen,omitzero"`
	Stood    stood     `json:"stood,omitzero"` // at Chain
	Sample   time.Time `json:"sample_seen,omitzero"`
	Taken    time.Time `json:"taken,omitzero"`   // when it took a version last
	Kept     time.Time `json:"kept,omitzero"`    // when a checkpoint was, to go back to
	Turned   int       `json:"turned,omitempty"` // chunks, since the last census (repack.go)
	guards
}

// stood is a place in a history.
type stood struct {
	Lineage []byte `json:"lineage"`
	Number  uint64 `json:"number"`
	Digest  []byte `json:"digest"`
}

func stoodAt(p history.Position) stood { return stood{p.Lineage[:], p.Number, p.Digest[:]} }

func (s stood) position() (p history.Position) {
	copy(p.Lineage[:], s.Lineage)
	copy(p.Digest[:], s.Digest)
	p.Number = s.Number
	return p
}

// guards say which buckets were seen to refuse Puts whose conditions do not hold.
type guards struct {
	Guarded bool `json:"guarded,omitempty"` // that of manifests
	Logged  bool `json:"logged,omitempty"`  // that of chunks, which may have a log, then
}

// keepLogs reports whether there can be histories.
func (g guards) keepLogs() bool { return g.Guarded && g.Logged }

// noCut is the Cut of no version.
var noCut [16]byte

func cutName(cut [16]byte) string { return hex.EncodeToString(cut[:]) }

const (
	acksName     = "targets.json"
	acksBytesMax = 1 << 20
)

func (o *Office) loadAcks() {
	acks := make(map[string]ack)
	b, err := o.o.Spool.ReadFile(acksName, acksBytesMax)
	if err != nil || json.Unmarshal(b, &acks) != nil {
		return
	}
	now, last := o.now(), o.cutter.Last()
	for _, c := range o.couriers {
		c.ack = acks[c.id]
		c.ids = c.ack.identities
		if last == nil { // it may have been another host's manifest
			c.ack.Cut, c.ack.ETag = "", ""
		}
		if last != nil {
			resume(c)
		}
		a := &c.ack
		if !a.Taken.After(now) {
			c.stock.taken = a.Taken
		}
		if a.Store.After(now) || a.Sample.After(now) {
			continue // the clock was set back
		}
		c.belief.lookedAt(a.Store, seen{store: true})
		c.belief.lookedAt(a.Sample, seen{sample: true})
		if c.stock.writer != nil && !a.Manifest.After(now) && !a.Log.After(now) {
			c.belief.lookedAt(a.Manifest, seen{manifest: true})
			c.belief.lookedAt(a.Log, seen{log: true})
			if !a.Chain.After(now) {
				c.belief.lookedAt(a.Chain, seen{chain: true})
				c.belief.stood = a.Stood.position()
			}
		}
	}
}

func (o *Office) saveAcks() {
	acks := make(map[string]ack)
	for _, c := range o.couriers {
		if c.stock.holds != noCut {
			c.ack.ETag, c.ack.Cut = c.stock.etag, cutName(c.stock.holds)
		}
		c.ack.Taken = c.stock.taken
		if c.ids != (identities{}) {
			b := &c.belief
			c.ack.identities, c.ack.Store, c.ack.Sample = c.ids, b.store, b.sample
			c.ack.Manifest, c.ack.Log = b.manifest, b.log
			c.ack.Chain, c.ack.Stood = b.chain, stoodAt(b.stood)
			acks[c.id] = c.ack
		}
	}
	b, err := json.Marshal(acks)
	if err == nil {
		err = o.o.Spool.RewriteFile(acksName, b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.o.Log.Warn("targets.json was not written", "error", err)
	}
}
