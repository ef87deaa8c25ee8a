package remote

import (
	"sync"

	"verneuil/chunkstore"
	"verneuil/manifest/history"
)

// histories are those of a database. They give the same log again, which knows what it has appended
// and read.
type histories struct {
	history.Store
	mu      sync.Mutex
	lineage [16]byte
	log     chunkstore.Log // of that lineage; nil: none was asked for
}

// Log returns the log of a lineage.
func (h *histories) Log(lineage [16]byte) chunkstore.Log {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log == nil || h.lineage != lineage {
		h.lineage, h.log = lineage, h.Store.Log(lineage)
	}
	return h.log
}
