package vfs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"verneuil/spool"
)

// TestReplicatorsGetTheConfiguration: what the configuration says of replication reaches
// those who do it.
func TestReplicatorsGetTheConfiguration(t *testing.T) {
	db := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(db, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(t.TempDir(), db, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	for text, want := range map[string]struct {
		interval, period time.Duration
		concurrency      int
		host             string
	}{
		`{"hostname": "h"}`: {time.Second, 7 * 24 * time.Hour, 8, "h"},
		`{"hostname": "i", "patrol_days": 30, "manifest_interval_ms": 5, "upload_concurrency": 3}`: {5 * time.Millisecond, 30 * 24 * time.Hour, 3, "i"},
		`{"hostname": "j", "patrol_days": 0}`:                                                      {time.Second, 0, 8, "j"},
	} {
		cfg, err := ParseConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		o := (&Engine{cfg: cfg}).options(sp, nil, nil)
		if o.ManifestInterval != want.interval || o.PatrolPeriod != want.period || o.Concurrency != want.concurrency || o.Host != want.host {
			t.Errorf("%s: options %+v, want %+v", text, o, want)
		}
	}
}
