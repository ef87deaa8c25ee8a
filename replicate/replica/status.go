package replica

import (
	"slices"
	"strings"
	"time"
)

// Status describes one source that this process reads a replica of.
type Status struct {
	URI           string    `json:"uri"`
	Host          string    `json:"host,omitempty"`
	Path          string    `json:"path,omitempty"`
	Epoch         uint64    `json:"epoch"`
	Sequence      uint64    `json:"sequence"` // of the newest version that is known
	Readers       int       `json:"readers"`
	AutoRefresh   int       `json:"auto_refresh"`         // readers that want it
	SourceTime    time.Time `json:"source_time,omitzero"` // when it was cut, by the source's clock
	SourceAge     float64   `json:"source_age_seconds"`   // since then, by our clock
	Fetched       time.Time `json:"fetched,omitzero"`     // when we last knew it to be the newest
	FetchAge      float64   `json:"fetch_age_seconds"`    // since then
	FileBytes     int64     `json:"file_bytes"`           //
	Chunks        int       `json:"chunks"`               //
	ChunksPresent int64     `json:"chunks_present"`       // of that version
	BytesFetched  int64     `json:"bytes_fetched"`        // plain bytes of all objects so far
	LastError     string    `json:"last_error,omitempty"` // of the last fetch, if it failed
}

// Status lists the sources, by URI.
func (all *Set) Status() []Status {
	all.mu.Lock()
	defer all.mu.Unlock()
	list := make([]Status, 0, len(all.feeds))
	for _, f := range all.feeds {
		list = append(list, f.statusLocked(time.Now()))
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.URI, b.URI) })
	return list
}

// statusLocked: the caller holds all.mu.
func (f *follower) statusLocked(now time.Time) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := Status{
		URI:          f.source.String(),
		Readers:      f.readers,
		AutoRefresh:  f.polling.readers,
		BytesFetched: f.fetched.Load(),
	}
	if f.lastError != nil {
		st.LastError = f.lastError.Error()
	}
	if s := f.newest; s != nil {
		m := s.m
		st.Host, st.Path, st.Epoch, st.Sequence = m.Host, m.Path, m.Epoch, m.Sequence
		st.FileBytes, st.Chunks, st.ChunksPresent = m.FileBytes, m.Chunks(), s.table.present()
		st.Fetched = time.Unix(0, s.checked.Load())
		st.FetchAge = now.Sub(st.Fetched).Seconds()
		if st.SourceTime = m.Time; !m.Time.IsZero() {
			st.SourceAge = now.Sub(m.Time).Seconds()
		}
	}
	return st
}
