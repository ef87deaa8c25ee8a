package history

import "verneuil/chunkstore"

// Tag returns the ETag of the last record that w has read or appended; empty: it is not known.
func Tag(w *Writer) string {
	if t, ok := w.reader.log.(chunkstore.Tagged); ok {
		return t.Tag(w.reader.at.Number)
	}
	return ""
}

// Know notes that the last record is the one with that ETag, as somebody says who has appended it:
// so a look by a list need not read it ([Reader.Trace]). It does nothing if etag is empty.
func Know(w *Writer, etag string) {
	if etag != "" {
		know(w.reader.log, w.reader.at.Number, etag, nil)
	}
}

// know is [chunkstore.Tagged].Know of a log that is one.
func know(log chunkstore.Log, n uint64, etag string, record []byte) {
	if t, ok := log.(chunkstore.Tagged); ok {
		t.Know(n, etag, record)
	}
}
