package vfs

import (
	"fmt"
	"strconv"
	"strings"
)

// WALResetBug returns what people are told of a SQLite of that version, as sqlite3_libversion() has
// it, if it has the WAL-reset bug; empty: it has not, or nobody knows. The bug is in 3.7.0 to
// 3.51.2, and was mended in 3.51.3, and in 3.44.6 and 3.50.7 (https://sqlite.org/wal.html).
//
// Replication does not add to it. The bug takes a checkpoint that begins while another connection
// resets the WAL; the replicator is neither: it writes neither the database, nor its WAL, nor its
// wal-index, runs no checkpoint, and takes none of SQLite's locks. What the recorder copies when a
// WAL is reset it copies under the locks that SQLite holds for that.
func WALResetBug(version string) string {
	var v [3]int
	for k, part := range strings.SplitN(version, ".", 4) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return ""
		}
		if k < len(v) {
			v[k] = n
		}
	}
	minor, patch := v[1], v[2]
	switch {
	case v[0] != 3, minor < 7, minor > 51:
		return ""
	case minor == 51 && patch >= 3, minor == 50 && patch >= 7, minor == 44 && patch >= 6:
		return ""
	}
	return fmt.Sprintf("SQLite %s has the WAL-reset bug: in WAL mode, a checkpoint at the "+
		"moment when "+
		"another connection resets the WAL may corrupt the database. Replication does not add to "+
		"it, and cannot mend it: use SQLite 3.51.3 or later (or 3.50.7, 3.44.6)", version)
}
