package rados_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/chunkstore/rados"
	"verneuil/chunkstore/storetest"
	"verneuil/test/cephtest"
)

// config is a target in a namespace of its own.
func config(c *cephtest.Cluster, pool string) *rados.Config {
	return &rados.Config{Pool: pool, Namespace: c.Namespace(), Conf: c.Conf, Keyring: c.Keyring}
}

func conform(t *testing.T, c *cephtest.Cluster, pool string) {
	t.Run("target", func(t *testing.T) {
		target := storetest.Open(t, config(c, pool)).Targets[0]
		storetest.Target(t, target)
		storetest.LongKeys(t, target.Manifests)
	})
	t.Run("log", func(t *testing.T) {
		target := storetest.Open(t, config(c, pool)).Targets[0]
		storetest.Log(t, func(name string) chunkstore.Log {
			return chunkstore.NewBucketLog(target.Chunks, name)
		})
	})
}

func TestConformance(t *testing.T) { conform(t, cephtest.Shared(t), cephtest.Pool) }

func TestConformanceOnDisk(t *testing.T) {
	conform(t, cephtest.Start(t, cephtest.Options{Bluestore: true}), cephtest.Pool)
}

// TestConformanceErasureCoded: such pools have no maps.
func TestConformanceErasureCoded(t *testing.T) {
	c := cephtest.Start(t, cephtest.Options{OSDs: 3, NoAuth: true})
	conform(t, c, c.NewPool(t, "erasure"))
}

// TestListHasRecords: to who lists the bucket of chunks, records are objects among the others, with
// maps and without.
func TestListHasRecords(t *testing.T) {
	c := cephtest.Shared(t)
	target := storetest.Open(t, config(c, cephtest.Pool)).Targets[0]
	pack := storetest.PutObjects(t, target, []byte("chunk"))[0].Place.Pack.String()
	keys := []string{pack, "kept-aa-1-2", "lease-aa", "log-a-0000000000000001",
		"log-a-0000000000000400", "log-ab-0000000000000007", "log-b", "want-aa"}
	for _, key := range keys[1:] {
		storetest.MustPut(t, target.Chunks, key, key, chunkstore.Condition{IfNone: true})
	}
	for prefix, want := range map[string][]string{"": keys, "l": keys[2:7], "log-": keys[3:7],
		"log-a": keys[3:6], "log-a-": keys[3:5], keys[4]: keys[4:5], "log-c-": nil,
		"kept-": keys[1:2], "log-ab": keys[5:6], "w": keys[7:]} {
		for most := range len(want) + 1 {
			var got []string
			for _, o := range storetest.Listed(t, target.Chunks, prefix, max(1, most)) {
				got = append(got, o.Key)
				if o.Modified.IsZero() || o.Key != pack && o.Bytes != int64(len(o.Key)) {
					t.Errorf("listed %+v", o)
				}
			}
			if most > 0 && !slices.Equal(got, want[:most]) {
				t.Errorf("%q: %q; want %q", prefix, got, want[:most])
			}
		}
	}
	record := keys[4]
	if _, err := target.Chunks.Put(t.Context(), record, nil, chunkstore.Condition{}); err == nil {
		t.Error("a record was replaced")
	}
	if err := target.TouchRecord(t.Context(), "a", 0x400); err != nil {
		t.Error(err)
	}
	storetest.MustBe(t, target.TouchRecord(t.Context(), "a", 2), chunkstore.ErrAbsent)
	o, err := target.Chunks.Get(t.Context(), record, chunkstore.GetOptions{Offset: 4, Length: 3})
	if err != nil || string(o.Body) != record[4:7] {
		t.Errorf("a part of a record: %q, %v", o.Body, err)
	}
	stat, err := target.Chunks.Stat(t.Context(), record)
	if err != nil || stat.Bytes != int64(len(record)) || stat.Body != nil {
		t.Errorf("%+v, %v", stat, err)
	}
	_, err = target.Chunks.Get(t.Context(), record,
		chunkstore.GetOptions{IfNoneMatch: stat.ETag})
	storetest.MustBe(t, err, chunkstore.ErrUnmodified)
	for range 2 {
		if err := target.Chunks.Delete(t.Context(), record); err != nil {
			t.Error(err)
		}
	}
	_, err = target.Chunks.Get(t.Context(), record, chunkstore.GetOptions{})
	storetest.MustBe(t, err, chunkstore.ErrAbsent)
}

// TestLogSegments: a log that has several segments, of which Trim removes those that are of no use.
func TestLogSegments(t *testing.T) {
	c := cephtest.Shared(t)
	cfg := config(c, cephtest.Pool)
	target := storetest.Open(t, cfg).Targets[0]
	log := chunkstore.NewBucketLog(target.Chunks, "log")
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(32)
	for n := uint64(1); n <= 3000; n++ {
		group.Go(func() error { return log.Append(ctx, n, []byte(strconv.FormatUint(n, 10))) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	segments := func() string {
		return c.Run(t, "rados", "-p", cfg.Pool, "-N", cfg.Namespace, "listomapkeys", "logs/log")
	}
	listed := func() (n int) {
		if err := log.List(t.Context(), 0, func(chunkstore.LogEntry) bool {
			n++
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	records, err := log.Read(t.Context(), 1000, 1100)
	if err != nil || len(records) != 1100 || string(records[1099]) != "2099" {
		t.Errorf("%d records, %v", len(records), err)
	}
	if n := listed(); n != 3000 {
		t.Errorf("%d are listed", n)
	}
	if err := log.Trim(t.Context(), 2900, []uint64{1500}); err != nil {
		t.Fatal(err)
	}
	if got := segments(); got != "0000000000000001\n0000000000000002\n" {
		t.Errorf("left are the segments %q", got)
	}
	if n := listed(); n != 102 {
		t.Errorf("%d are left", n)
	}
	if got := c.Run(t, "rados", "-p", cfg.Pool, "-N", cfg.Namespace, "ls"); strings.Contains(got,
		"logs/log/0000000000000000") {
		t.Errorf("a segment is left without records: %s", got)
	}
}
