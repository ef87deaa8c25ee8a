package courier

import (
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"verneuil/chunkstore"
)

// ack is what targets.json keeps of a target: the manifest that it last took, by its hash
// and ETag, so that we can ask "has it changed?" instead of reading it; what its buckets
// were; and when that was seen.
type ack struct {
	ETag     string `json:"etag,omitempty"`
	Manifest string `json:"manifest,omitempty"`
	identities
	Store  time.Time `json:"store_seen,omitzero"`
	Sample time.Time `json:"sample_seen,omitzero"`

	// Guarded: the bucket of manifests was seen to refuse Puts whose conditions do not hold.
	Guarded bool `json:"guarded,omitempty"`
}

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
			c.ack.Manifest, c.ack.ETag = "", ""
		}
		if !c.ack.Store.After(now) && !c.ack.Sample.After(now) { // else the clock was set back
			c.belief.lookedAt(c.ack.Store, true, false, false)
			c.belief.lookedAt(c.ack.Sample, false, false, true)
		}
		if last != nil && c.ack.Manifest == chunkstore.Sum(last.Encoded).String() {
			c.stock.etag = c.ack.ETag
		}
	}
}

func (o *Office) saveAcks() {
	acks := make(map[string]ack)
	for _, c := range o.couriers {
		if c.stock.holds != nil {
			c.ack.ETag, c.ack.Manifest = c.stock.etag, chunkstore.Sum(c.stock.holds).String()
		}
		if c.ids != (identities{}) {
			c.ack.identities, c.ack.Store, c.ack.Sample = c.ids, c.belief.store, c.belief.sample
			acks[c.id] = c.ack
		}
	}
	b, err := json.Marshal(acks)
	if err == nil {
		err = o.o.Spool.WriteFile(acksName, b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.o.Log.Warn("targets.json was not written", "error", err)
	}
}
