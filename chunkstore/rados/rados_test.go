package rados_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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
			return chunkstore.NewLog(target, name)
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
	log := chunkstore.NewLog(target, "log")
	for n := uint64(1); n <= 3000; n++ {
		if err := log.Append(t.Context(), n, []byte(strconv.FormatUint(n, 10))); err != nil {
			t.Fatal(err)
		}
	}
	segments := func() string {
		return c.Run(t, "rados", "-p", cfg.Pool, "-N", cfg.Namespace, "listomapkeys", "logs/log")
	}
	listed := func() (n int) {
		if err := log.List(t.Context(), 0, math.MaxUint64, func(chunkstore.LogEntry) bool {
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

// TestAppendAfterALoss: a log that has lost its last records takes no more, also where the next one
// would be the first of a segment.
func TestAppendAfterALoss(t *testing.T) {
	c := cephtest.Shared(t)
	cfg := config(c, cephtest.Pool)
	log := chunkstore.NewLog(storetest.Open(t, cfg).Targets[0], "log")
	if chained, ok := log.(chunkstore.Chained); !ok || !chained.Chains(t.Context()) {
		t.Error("the log does not say that it can tell")
	}
	lose := func(n uint64) {
		for _, key := range []string{"m", "r"} {
			c.Run(t, "rados", "-p", cfg.Pool, "-N", cfg.Namespace, "rmomapkey",
				fmt.Sprintf("logs/log/%016x", n/1024), fmt.Sprintf("%s%016x", key, n))
		}
	}
	for n := uint64(1); n < 1024; n++ {
		if err := log.Append(t.Context(), n, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []uint64{1023, 1022} { // of which the next one is in another segment, or not
		lose(n)
		storetest.MustBe(t, log.Append(t.Context(), n+1, nil), chunkstore.ErrAbsent)
		if there, err := log.Read(t.Context(), n+1, 1); err != nil || len(there) > 0 {
			t.Errorf("record %d: %q, %v", n+1, there, err)
		}
	}
	if err := log.Append(t.Context(), 1022, nil); err != nil {
		t.Error(err)
	}
	storetest.MustBe(t, log.Append(t.Context(), 1022, nil), chunkstore.ErrConflict)
}

// TestMessages: who listens hears what is told, and who may only read is told that he cannot.
func TestMessages(t *testing.T) {
	c := cephtest.Shared(t)
	cfg := config(c, cephtest.Pool)
	bucket := storetest.Open(t, cfg).Targets[0].Chunks.(chunkstore.Messenger)
	tell := func(body string, want bool) {
		t.Helper()
		if heard, err := bucket.Tell(t.Context(), "a", []byte(body)); err != nil || heard != want {
			t.Errorf("told %q: %v, %v", body, heard, err)
		}
	}
	tell("nobody", false)
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan []byte, 9), make(chan error)
	for range 2 {
		go func() {
			ended <- bucket.Listen(ctx, "a", func(body []byte) { heard <- body })
		}()
		if body := <-heard; body != nil {
			t.Errorf("heard %q first", body)
		}
	}
	tell("hello", true)
	if a, b := <-heard, <-heard; string(a) != "hello" || string(b) != "hello" {
		t.Errorf("heard %q and %q", a, b)
	}
	if told, err := bucket.Tell(t.Context(), "b", nil); err != nil || told {
		t.Errorf("told another name: %v, %v", told, err)
	}
	cancel()
	storetest.MustBe(t, <-ended, context.Canceled)
	storetest.MustBe(t, <-ended, context.Canceled)

	reader := *cfg
	reader.User = "reads"
	reader.Keyring = c.User(t, "reads", "mon", "allow r", "osd", "allow r")
	bucket = storetest.Open(t, &reader).Targets[0].Chunks.(chunkstore.Messenger)
	never := func([]byte) { t.Error("heard") }
	storetest.MustBe(t, bucket.Listen(t.Context(), "a", never), chunkstore.ErrDenied)
	storetest.MustBe(t, chunkstore.Listen(t.Context(), bucket, "a", never), chunkstore.ErrDenied)
	tell("a reader may", false)
}

// TestFailures: what is wrong with the pool or the user is an error of its kind, which names the
// pool; and what a request needs is had again once that is mended.
func TestFailures(t *testing.T) {
	c := cephtest.Shared(t)
	get := func(cfg *rados.Config) (*chunkstore.Target, error) {
		target := storetest.Open(t, cfg).Targets[0]
		_, err := target.Chunks.Get(t.Context(), "kept-a", chunkstore.GetOptions{})
		return target, err
	}
	_, err := get(config(c, "nosuch"))
	storetest.MustBe(t, err, chunkstore.ErrNoBucket)
	storetest.MustSay(t, err, `"nosuch"`, "ceph osd pool create")
	if errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("an object of no pool is absent: %v", err)
	}

	pool := c.NewPool(t)
	target, err := get(config(c, pool))
	storetest.MustBe(t, err, chunkstore.ErrAbsent)
	log := chunkstore.NewBucketLog(target.Chunks, "a")
	if err := log.Append(t.Context(), 1, []byte("a")); err != nil {
		t.Fatal(err)
	}
	c.DeletePool(t, pool)
	_, err = target.Chunks.Get(t.Context(), "kept-a", chunkstore.GetOptions{})
	storetest.MustBe(t, err, chunkstore.ErrNoBucket)
	_, err = log.Read(t.Context(), 1, 1)
	storetest.MustBe(t, err, chunkstore.ErrNoBucket)
	storetest.MustBe(t, log.Append(t.Context(), 2, nil), chunkstore.ErrNoBucket)
	storetest.MustBe(t, target.Chunks.List(t.Context(), "",
		func(chunkstore.Object) bool { return true }), chunkstore.ErrNoBucket)

	denied := config(c, cephtest.Pool)
	denied.User = "elsewhere"
	denied.Keyring = c.User(t, "elsewhere", "mon", "allow r", "osd", "allow rwx pool=other")
	_, err = get(denied)
	storetest.MustBe(t, err, chunkstore.ErrDenied)
	storetest.MustSay(t, err, cephtest.Pool)
}

// TestNoMonitor: who cannot connect is told so, within the time that a request has.
func TestNoMonitor(t *testing.T) {
	c := cephtest.Shared(t)
	t.Setenv("CEPH_ARGS", "-m 127.0.0.1:1")
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{config(c, cephtest.Pool)},
		chunkstore.Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Targets[0].Chunks.Get(t.Context(), "kept-a", chunkstore.GetOptions{})
	storetest.MustBe(t, err, chunkstore.ErrNoAnswer)
	storetest.MustSay(t, err, "no monitor")
}

// TestBlocklisted: a client on the blocklist is given up, and another one connects.
func TestBlocklisted(t *testing.T) {
	c := cephtest.Shared(t)
	cfg := config(c, cephtest.Pool)
	target := storetest.Open(t, cfg).Targets[0]
	log := chunkstore.NewBucketLog(target.Chunks, "a")
	if err := log.Append(t.Context(), 1, []byte("a")); err != nil {
		t.Fatal(err)
	}
	client, err := cfg.Client(t.Context(), chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := client.Addr()
	if err != nil {
		t.Fatal(err)
	}
	c.Run(t, "ceph", "osd", "blocklist", "add", addr)
	if err := client.WaitForLatestMap(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.MustBe(t, log.Append(t.Context(), 1, []byte("b")), chunkstore.ErrConflict)
	if err := log.Append(t.Context(), 2, []byte("b")); err != nil {
		t.Fatal(err)
	}
	again, err := cfg.Client(t.Context(), chunkstore.Options{})
	if err != nil || again == client {
		t.Errorf("the client is the same: %v", err)
	}
}
