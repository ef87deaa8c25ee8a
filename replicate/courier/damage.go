package courier

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"verneuil/chunkstore"
	"verneuil/spool"
)

// Damage is what somebody who has read a target found to be damaged there, or gone, of one
// database.
type Damage struct {
	Target  string    `json:"target"`            // its name
	Found   time.Time `json:"found"`             // tells one from another
	Packs   []string  `json:"packs,omitempty"`   // their names: of something in them, at least
	Version string    `json:"version,omitempty"` // why the newest version cannot be read
}

// Objects is how many were found.
func (d Damage) Objects() int {
	if d.Version != "" {
		return len(d.Packs) + 1
	}
	return len(d.Packs)
}

const (
	damageName = "damaged.json"
	// damageBytesMax is for the names of a million packs, of 4 TiB.
	damageBytesMax = 80 << 20
)

// ReadDamage returns what is noted in the spool, by the targets' IDs; nil: nothing is.
func ReadDamage(sp *spool.Spool) map[string]Damage {
	var all map[string]Damage
	b, err := sp.ReadFile(damageName, damageBytesMax)
	if err != nil || json.Unmarshal(b, &all) != nil {
		return nil
	}
	return all
}

// WriteDamage notes damage in the spool, for whoever replicates from there. He takes note when he
// begins, and when a ticket is drawn, and forgets it when it is mended. What two write at once, one
// of them has to write again: who reads the target again finds that out.
func WriteDamage(sp *spool.Spool, all map[string]Damage) error {
	if len(all) == 0 {
		return os.Remove(filepath.Join(sp.Dir(), damageName))
	}
	b, err := json.Marshal(all)
	if err == nil {
		err = sp.WriteFile(damageName, b)
	}
	return err
}

// damage is what a courier knows of its target's.
type damage struct {
	packs   map[chunkstore.Digest]bool // not changed: see contact
	version bool                       // the newest one cannot be read
	found   time.Time                  // see Damage
	noted   uint64                     // its serial
	edition uint8                      // of the packs that are put in their place
	looked  bool                       // a contact has taken it into account
}

// objects is how many are damaged.
func (d *damage) objects() int {
	if d.version {
		return len(d.packs) + 1
	}
	return len(d.packs)
}

// TakeDamage takes note of what somebody has found to be damaged in targets. It counts as gone: the
// next contact finds out what the version needs of it, which is put again.
func TakeDamage(o *Office) {
	all := ReadDamage(o.o.Spool)
	for _, c := range o.couriers {
		if found, ok := all[c.id]; ok && !found.Found.Equal(c.damage.found) {
			takeDamage(c, found)
		}
	}
}

func takeDamage(c *Courier, found Damage) {
	d := &c.damage
	packs := maps.Clone(d.packs)
	for _, text := range found.Packs {
		if name, err := chunkstore.ParseDigest(text); err == nil {
			note(&packs, name)
		}
	}
	*d = damage{
		packs: packs, version: d.version || found.Version != "", found: found.Found,
		noted: c.office.o.Serial.Next(), edition: uint8(1 + rand.N(255)),
	}
	what := fmt.Sprintf("%d packs are damaged", len(packs))
	if found.Version != "" {
		what += "; its newest version is: " + found.Version
	}
	c.belief.suspect("it was read: " + what)
}

// metDamage notes that the contact which has ended has taken damage into account, unless that was
// found since it began.
func metDamage(c *Courier) {
	d := &c.damage
	if d.looked = d.objects() > 0 && d.noted < c.attempt; !d.looked && d.objects() > 0 {
		c.belief.suspect("it was read meanwhile")
	}
}

// ForgetMended forgets damage of which the newest version needs nothing any more.
func ForgetMended(o *Office) {
	for _, c := range o.couriers {
		d, last := &c.damage, o.cutter.Last()
		if !d.looked || last == nil || c.state != Idle || c.Behind() || len(c.stock.lost) > 0 {
			continue
		}
		c.log().Info("what was damaged is put again", "target", c.Name, "objects", d.objects())
		found := d.found
		*d = damage{found: found}
		if all := ReadDamage(o.o.Spool); all[c.id].Found.Equal(found) {
			delete(all, c.id)
			err := WriteDamage(o.o.Spool, all)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				c.log().Warn("damaged.json was not written", "error", err)
			}
		}
	}
}
