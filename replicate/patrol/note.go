package patrol

import (
	"encoding/json"
	"time"

	"verneuil/spool"
)

// Note is what is kept of a target's patrol. Unlike the rest of a spool it is valid beyond the
// boot: it says what has happened elsewhere.
type Note struct {
	Until  time.Time `json:"until"`
	Since  time.Time `json:"since"`
	Healed int       `json:"healed"`
}

// FileName is that of the notes in a spool.
const FileName = "patrol.json"

// fileBytesMax bounds the file: 100 bytes for each target.
const fileBytesMax = 1 << 20

// ReadNotes returns what the spool has noted, by the targets' identities; nil if it has nothing
// that can be read: then the manifests' times do.
func ReadNotes(sp *spool.Spool) map[string]Note {
	notes := make(map[string]Note)
	b, err := sp.ReadFile(FileName, fileBytesMax)
	if err != nil || json.Unmarshal(b, &notes) != nil {
		return nil
	}
	return notes
}

// WriteNotes keeps notes in the spool.
func WriteNotes(sp *spool.Spool, notes map[string]Note) error {
	b, err := json.Marshal(notes)
	if err == nil {
		err = sp.WriteFile(FileName, b)
	}
	return err
}
