package mirror

import (
	"testing"
	"time"

	"verneuil/spool"
)

// TestSeenCovers: files that look the same are the same, once their times are old enough.
func TestSeenCovers(t *testing.T) {
	now := time.Now()
	was := Seen{
		DB: spool.Stamp{Ino: 1, Mtime: now.UnixNano(), Ctime: now.UnixNano()},
		At: now.Add(2 * time.Second).UnixNano(),
	}
	if !was.covers(Seen{DB: was.DB, At: now.Add(time.Hour).UnixNano()}) {
		t.Error("an old file that has not changed is not trusted")
	}
	racy := was
	racy.At = now.Add(time.Millisecond).UnixNano()
	other := was
	other.DB.Ctime++
	wal := was
	wal.WAL = &spool.Stamp{Ino: 2}
	for name, pair := range map[string][2]Seen{
		"racy": {racy, was}, "other": {was, other}, "WAL": {was, wal},
	} {
		if pair[0].covers(pair[1]) {
			t.Errorf("%s: trusted", name)
		}
	}
}
