package locate_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/manifest"
	. "verneuil/replicate/locate"
	"verneuil/replicate/publishtest"
)

func TestLocateForms(t *testing.T) {
	p := publishtest.New(t)
	for _, c := range []struct{ uri, want, err string }{
		{"verneuil://h/db", "verneuil://h/db", ""},
		{"verneuil:///db", "verneuil://here/db", ""},
		{"VERNEUIL://h//a%20b", "verneuil://h//a%20b", ""},
		{"verneuil://h", "", "want verneuil://HOST/PATH"},
		{"http://h/x?y=z", "http://h/x?...", ""},
		{"https://h/x", "https://h/x", ""},
		{"s3://b.us-east-2/ab-verneuil%3Ah", "s3://b.us-east-2/ab-verneuil%3Ah", ""},
		{"s3://b.r.127.0.0.1:9000/a/b", "s3://b.r.127.0.0.1:9000/a/b", ""},
		{"s3://b/key", "", "want s3://BUCKET.REGION"},
		{"s3://b.r", "", "want s3://BUCKET.REGION"},
		{"file:///a/b", "file:///a/b", ""},
		{"/a/../b", "file:///b", ""},
		{"s3://key:secret@b.r/key", "", "credentials do not belong here"},
		{"ftp://h/x", "", `unknown scheme "ftp"`},
		{"", "", "empty path"},
	} {
		l, err := Parse(c.uri, "here", p.Store)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.uri, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.uri, err)
		case l.String() != c.want:
			t.Errorf("%q: %q, want %q", c.uri, l, c.want)
		}
	}
	if _, err := Parse("verneuil://h/db", "here", nil); err == nil ||
		!strings.Contains(err.Error(), "replication_targets in VERNEUIL_CONFIG") {
		t.Errorf("without targets: %v", err)
	}
}

// TestRedacted: nothing that names a source says what may be a secret of its URI.
func TestRedacted(t *testing.T) {
	for uri, want := range map[string]string{
		"https://h/a%3Ab":                                "https://h/a%3Ab",
		"https://user:secret@h:1/x":                      "https://...@h:1/x",
		"https://user:s/ecret@h/x":                       "https://...@h/x",
		"https://h/x?X-Amz-Signature=secret":             "https://h/x?...",
		"https://h/x#secret":                             "https://h/x?...",
		"https://user:sec ret@h:port/x?token=secret@y#z": "https://...@h:port/x?...",
		"s3://user:secret@b.r/k":                         "s3://...@b.r/k",
		"verneuil://h/a@b?c":                             "verneuil://h/a@b?c",
		"/a@b?c":                                         "/a@b?c",
	} {
		if got := Redacted(uri); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
		l, err := Parse(uri, "h", publishtest.New(t).Store)
		if err == nil && strings.HasPrefix(uri, "https") {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // no request is sent
			_, err = l.Fetch(ctx)
		}
		for _, secret := range []string{"secret", "ecret@", "ret@"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", uri, err)
			}
		}
	}
}

// FuzzLocate: no URI panics, and none that is taken or refused is repeated with what
// stands before an @ or behind a ?.
func FuzzLocate(f *testing.F) {
	for _, uri := range []string{
		"verneuil://h/db", "verneuil:///../../etc/x", "s3://b.r.127.0.0.1:9000/a/b",
		"https://u:p@h:1/x?y=z", "file:///a\x00b", "/a/%2e%2e%2f", "http://[::1]:x/", "://",
		"s3://u@b.r/k",
	} {
		f.Add(uri)
	}
	p := publishtest.New(f)
	f.Fuzz(func(t *testing.T, uri string) {
		const secret = "ZqSecretZq"
		l, err := Parse(uri, "here", p.Store)
		if err == nil && l.String() == "" {
			t.Errorf("%q: no name", uri)
		}
		scheme, rest, ok := strings.Cut(uri, "://")
		if lower := strings.ToLower(scheme); !ok || lower == "file" || lower == "verneuil" ||
			strings.Contains(scheme, "/") {
			return
		}
		for _, with := range []string{scheme + "://u:" + secret + "@" + rest, uri + "?" + secret} {
			if strings.Contains(rest, "?") || strings.Contains(rest, "#") {
				continue // where the secret goes then, is that URI's matter
			}
			l, err := Parse(with, "here", p.Store)
			if err == nil {
				err = errors.New(l.String())
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %v", with, err)
			}
		}
	})
}

func encode(t *testing.T, m *manifest.Manifest) []byte {
	t.Helper()
	b, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkLocator wants l to find m, then that that is no news.
func checkLocator(t *testing.T, l *Locator, m *manifest.Manifest) Found {
	t.Helper()
	got, err := l.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, got.Manifest), encode(t, m)) || got.Bytes == 0 {
		t.Errorf("%s: sequence %d, want %d", l, got.Manifest.Sequence, m.Sequence)
	}
	again, news, err := l.FetchFrom(t.Context(), got)
	if err != nil || news || again.Bytes != 0 || again.Manifest.Cut != m.Cut || again.More {
		t.Errorf("%s: news %t, %v, %+v", l, news, err, again)
	}
	return again
}

func TestLocateNamed(t *testing.T) {
	p := publishtest.New(t)
	l, err := Parse("verneuil:///db", "h", p.Store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Fetch(t.Context()); !errors.Is(err, chunkstore.ErrAbsent) ||
		!strings.Contains(err.Error(), "verneuil://h/db") {
		t.Errorf("nothing published: %v", err)
	}
	first := checkLocator(t, l, p.Publish(publishtest.Stamped(3, 1)))
	m := p.Publish(publishtest.Stamped(3, 2))
	if got, news, err := l.FetchFrom(t.Context(), first); err != nil || !news ||
		got.Manifest.Sequence != m.Sequence {
		t.Errorf("after a change: %v", err)
	}
}

func TestLocateFile(t *testing.T) {
	p := publishtest.New(t)
	raw := func() []byte {
		b, err := p.Publish(publishtest.Stamped(3, 1)).Encode(chunkstore.Plain{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	path := filepath.Join(t.TempDir(), "manifest")
	write := func(b []byte, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	for _, uri := range []string{path, "file://" + path} {
		l, err := Parse(uri, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(path)
		if _, err := l.Fetch(t.Context()); !errors.Is(err,
			chunkstore.ErrAbsent) {
			t.Errorf("no file: %v", err)
		}
		write(raw(), time.Hour)
		first := checkLocator(t, l, &p.Newest)
		write(raw(), 2*time.Hour)
		if got, news, err := l.FetchFrom(t.Context(), first); err != nil || !news ||
			got.Manifest.Sequence != p.Newest.Sequence {
			t.Errorf("a file that was replaced: %v", err)
		}
		for what, bad := range map[string][]byte{
			"empty": nil, "text": []byte("hello"), "cut": raw()[:60],
			"database": publishtest.Stamped(3, 1), "database again": publishtest.Stamped(3, 1),
			"long": make([]byte, manifest.BytesMax+1),
		} {
			write(bad, time.Hour)
			if _, err := l.Fetch(t.Context()); !errors.Is(err,
				chunkstore.ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s file: %v, want %v", what, err, chunkstore.ErrCorrupt)
			}
		}
	}
	l, err := Parse(t.TempDir(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Fetch(t.Context()); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("a directory: %v", err)
	}
}

func TestLocateHTTP(t *testing.T) {
	p := publishtest.New(t)
	m := p.Publish(publishtest.Stamped(3, 1))
	raw, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			w.Header().Set("ETag", `"1"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
		case "/bad":
			w.Write(raw[:50])
		case "/long":
			w.Write(make([]byte, manifest.BytesMax+1))
		case "/busy":
			http.Error(w, "busy", http.StatusServiceUnavailable)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for path, want := range map[string]error{
		"/good": nil, "/bad": chunkstore.ErrCorrupt, "/long": chunkstore.ErrCorrupt,
		"/none": chunkstore.ErrAbsent, "/busy": nil,
	} {
		l, err := Parse(server.URL+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if path == "/good" {
			checkLocator(t, l, m)
			continue
		}
		_, err = l.Fetch(t.Context())
		if err == nil || want != nil && !errors.Is(err, want) ||
			!strings.Contains(err.Error(), server.URL+path) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if path == "/busy" && !strings.Contains(err.Error(), "503") {
			t.Errorf("%s: %v, want the status", path, err)
		}
	}
}

func TestLocateS3(t *testing.T) {
	endpoint := miniotest.Start(t)
	config := s3.Config{
		Region:                "minio",
		Endpoint:              endpoint,
		ChunkBucket:           "chunks",
		ManifestBucket:        "manifests",
		CreateBucketsOnDemand: true,
	}
	store, err := chunkstore.Open(context.Background(), []chunkstore.TargetConfig{&config},
		chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := publishtest.New(t)
	m := p.Publish(publishtest.Stamped(3, 1))
	raw, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	key := manifest.PlainName("h", "/db") // has percent signs
	_, err = store.Targets[0].Manifests.Put(t.Context(), key, raw, chunkstore.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	at := "s3://manifests.minio." + strings.TrimPrefix(endpoint, "http://") + "/"
	l, err := Parse(at+key, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	checkLocator(t, l, m)
	if l, err = Parse(at+"none", "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Fetch(t.Context()); !errors.Is(err, chunkstore.ErrAbsent) ||
		!strings.Contains(err.Error(), at+"none") {
		t.Errorf("no object: %v", err)
	}
}

// TestLocateAnothersManifest: what stands under a database's name is of that database, or
// another target is asked.
func TestLocateAnothersManifest(t *testing.T) {
	m := &manifest.Manifest{
		Host:      "other",
		Path:      "/db",
		Program:   "test",
		FileBytes: 512,
		PageBytes: 512,
		Inline:    []manifest.Page{{Data: make([]byte, 512)}},
		Top:       []chunkstore.Ref{{ID: chunkstore.ZeroID}},
	}
	wrong, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	m.Host = "h"
	right, err := m.Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	var targets []chunkstore.TargetConfig
	for range 2 {
		targets = append(targets, &dir.Config{Path: t.TempDir()})
	}
	store, err := chunkstore.Open(t.Context(), targets, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Parse("verneuil://h/db", "", store)
	if err != nil {
		t.Fatal(err)
	}
	put := func(k int, body []byte) {
		manifests := store.Targets[k].Manifests
		_, err := manifests.Put(t.Context(), l.Key(), body, chunkstore.Condition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range [][]byte{wrong, right[:len(right)-1], nil} {
		put(0, bad)
		put(1, bad)
		_, err = l.Fetch(t.Context())
		if !errors.Is(err, chunkstore.ErrCorrupt) || !strings.Contains(err.Error(), l.Key()) ||
			!strings.Contains(err.Error(), store.Targets[1].Name) {
			t.Errorf("%v", err)
		}
		_, err = l.FetchAt(t.Context(), time.Now().Add(time.Hour))
		if !errors.Is(err, chunkstore.ErrCorrupt) ||
			strings.Count(err.Error(), l.Key()+", version ") != 2 {
			t.Errorf("at a time: %v", err)
		}
		put(1, right)
		put(0, bad) // so that it is the newer one
		found, err := l.Fetch(t.Context())
		if err != nil || found.Manifest.Host != "h" || found.From != store.Targets[1] {
			t.Errorf("%+v, %v", found, err)
		}
		found, err = l.FetchAt(t.Context(), time.Now().Add(time.Hour))
		if err != nil || found.Manifest.Host != "h" || found.From != store.Targets[1] {
			t.Errorf("at a time: %+v, %v", found, err)
		}
	}
}

// storeOf returns a store with a target for each of have, which holds that manifest under key;
// nil: it holds none.
func storeOf(t *testing.T, key string, have []*manifest.Manifest) *chunkstore.Store {
	t.Helper()
	var targets []chunkstore.TargetConfig
	for range have {
		targets = append(targets, &dir.Config{Path: t.TempDir()})
	}
	store, err := chunkstore.Open(t.Context(), targets, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for k, m := range have {
		if m == nil {
			continue
		}
		encoded, err := m.Encode(chunkstore.Plain{})
		if err != nil {
			t.Fatal(err)
		}
		manifests := store.Targets[k].Manifests
		_, err = manifests.Put(t.Context(), key, encoded, chunkstore.Condition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// TestFetchNewest: of several targets the one counts that is furthest on, whatever their order.
func TestFetchNewest(t *testing.T) {
	key := manifest.PlainName("h", "/db")
	version := func(lineage byte, epoch, sequence uint64, seconds int64) *manifest.Manifest {
		return &manifest.Manifest{
			Host:     "h",
			Path:     "/db",
			Lineage:  [16]byte{lineage},
			Epoch:    epoch,
			Sequence: sequence,
			Time:     time.Unix(seconds, 0),
		}
	}
	type versions = []*manifest.Manifest
	damaged := &manifest.Manifest{Host: "other", Path: "/db"}
	for name, c := range map[string]struct {
		have   versions // by target; nil: none
		want   int      // -1: nothing
		failed bool
	}{
		"one lags":         {versions{version(1, 1, 5, 9), version(1, 1, 7, 8)}, 1, false},
		"the other lags":   {versions{version(1, 2, 1, 8), version(1, 1, 7, 9)}, 0, false},
		"they are equal":   {versions{version(1, 1, 7, 9), version(1, 1, 7, 9)}, 0, false},
		"another lineage":  {versions{version(1, 3, 7, 8), version(2, 1, 1, 9)}, 1, false},
		"one has none":     {versions{nil, version(1, 1, 7, 9)}, 1, false},
		"none has any":     {versions{nil, nil}, -1, false},
		"one is damaged":   {versions{version(1, 1, 7, 9), damaged, nil}, 0, true},
		"all are damaged":  {versions{damaged, damaged}, -1, false},
		"the only target":  {versions{version(1, 1, 7, 9)}, 0, false},
		"the only is bare": {versions{nil}, -1, false},
	} {
		store := storeOf(t, key, c.have)
		locator, err := Parse("verneuil://h/db", "", store)
		if err != nil {
			t.Fatal(err)
		}
		newest, failed, err := locator.FetchNewest(t.Context())
		m := newest.Manifest
		switch {
		case c.want < 0:
			bare := !slices.Contains(c.have, damaged)
			if err == nil || errors.Is(err, chunkstore.ErrAbsent) != bare ||
				errors.Is(err, chunkstore.ErrCorrupt) == bare {
				t.Errorf("%s: %v, %v", name, m, err)
			}
		case err != nil || m.Lineage != c.have[c.want].Lineage ||
			m.Epoch != c.have[c.want].Epoch || m.Sequence != c.have[c.want].Sequence ||
			c.have[slices.Index(store.Targets, newest.From)].Sequence != m.Sequence:
			t.Errorf("%s: %+v, %v, want %+v", name, m, err, c.have[c.want])
		}
		if (failed != nil) != c.failed {
			t.Errorf("%s: targets that failed: %v", name, failed)
		}
	}
}

// TestTwins: the same version is found in the other targets, and what is none is left out.
func TestTwins(t *testing.T) {
	key := manifest.PlainName("h", "/db")
	cut := func(cut byte) *manifest.Manifest {
		return &manifest.Manifest{Host: "h", Path: "/db", Sequence: 7, Cut: [16]byte{cut},
			Time: time.Unix(1700000000, 0)}
	}
	damaged := &manifest.Manifest{Host: "other", Path: "/db", Cut: [16]byte{1}}
	store := storeOf(t, key, []*manifest.Manifest{cut(1), cut(2), nil, cut(1), damaged, cut(1)})
	locator, err := Parse("verneuil://h/db", "", store)
	if err != nil {
		t.Fatal(err)
	}
	twins := locator.Twins(t.Context(), Found{Manifest: cut(1), From: store.Targets[3]})
	if len(twins) != 2 || twins[0].From != store.Targets[0] || twins[1].From != store.Targets[5] {
		t.Errorf("twins: %+v", twins)
	}
	file := filepath.Join(t.TempDir(), "manifest")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if locator, err = Parse(file, "", store); err != nil {
		t.Fatal(err)
	}
	if twins := locator.Twins(t.Context(), Found{Manifest: cut(1)}); twins != nil {
		t.Errorf("twins of a file: %+v", twins)
	}
}

// manyVersions is a bucket that lists as many versions of each key as are wanted, one per second.
type manyVersions struct {
	chunkstore.Bucket
	newest time.Time
	body   []byte
	listed int
}

func (b *manyVersions) String() string { return "many versions" }

func (b *manyVersions) Get(
	context.Context, string, chunkstore.GetOptions,
) (chunkstore.Object, error) {
	return chunkstore.Object{}, chunkstore.ErrAbsent
}

func (b *manyVersions) ListVersions(
	_ context.Context, key string, yield func(chunkstore.Object) bool,
) error {
	for k := range 10000 {
		b.listed++
		if !yield(
			chunkstore.Object{
				Key:      key,
				Modified: b.newest.Add(-time.Duration(k) * time.Second),
				Version:  strconv.Itoa(k),
			},
		) {
			break
		}
	}
	return nil
}

func (b *manyVersions) GetVersion(
	_ context.Context, _, version string, _ chunkstore.GetOptions,
) (chunkstore.Object, error) {
	return chunkstore.Object{Body: b.body, Version: version}, nil
}

// TestVersionsAreListedAsFarAsNeeded: a busy database has many.
func TestVersionsAreListedAsFarAsNeeded(t *testing.T) {
	body, err := (&manifest.Manifest{Host: "h", Path: "/db"}).Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	b := &manyVersions{newest: time.Unix(1e9, 0), body: body}
	chunks := publishtest.New(t).Target.Chunks
	l, err := Parse("verneuil://h/db", "",
		chunkstore.NewStore(chunkstore.NewTarget("t", chunks, b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.FetchAt(t.Context(), b.newest.Add(-time.Minute)); err != nil ||
		b.listed != 61 {
		t.Errorf("%d versions were listed, want 61; %v", b.listed, err)
	}
	b.listed = 0
	if versions, err := l.Versions(t.Context(), 5); err != nil || len(versions) != 5 ||
		b.listed != 5 {
		t.Errorf("%d versions of %d that were listed, want 5; %v", len(versions), b.listed, err)
	}
	if versions, err := l.Versions(t.Context(), 0); err != nil || len(versions) != 10000 {
		t.Errorf("%d versions, want all; %v", len(versions), err)
	}
	_, err = l.FetchAt(t.Context(), b.newest.Add(-24*time.Hour))
	if !errors.Is(err, ErrNoVersion) || !strings.Contains(err.Error(), "2001-09-08T23:00:01Z") {
		t.Errorf("before the first: %v", err)
	}
}
