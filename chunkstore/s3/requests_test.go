package s3_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

type fakeRequest struct{ method, host, path, ifMatch, contentMD5, crc string }

// openFake opens a Store on a server that answers as answer says; n counts the
// requests from 1.
func openFake(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int),
	edits ...func(*s3.Config)) (*chunkstore.Store, func() []fakeRequest) {
	t.Helper()
	var mu sync.Mutex
	var requests []fakeRequest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, fakeRequest{r.Method, r.Host, r.URL.Path,
			r.Header.Get("If-Match"), r.Header.Get("Content-MD5"),
			r.Header.Get("X-Amz-Checksum-Crc32c")})
		n := len(requests)
		mu.Unlock()
		io.Copy(io.Discard, r.Body)
		answer(w, r, n)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return openAt(t, server.URL, edits...), func() []fakeRequest {
		mu.Lock()
		defer mu.Unlock()
		return requests
	}
}

func openAt(t *testing.T, endpoint string, edits ...func(*s3.Config)) *chunkstore.Store {
	t.Helper()
	cfg := s3Target(endpoint)
	for _, edit := range edits {
		edit(cfg)
	}
	cfg.Backoff(2 * time.Microsecond)
	return storetest.Open(t, cfg)
}

func answerError(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code>`+
		`<Message>message of %s</Message></Error>`, code, code)
}

func TestS3Retries(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) { // a body that ends early
		w.Header().Set("Content-Length", "100")
		w.Header().Set("ETag", `"e"`)
		w.Write([]byte("half"))
	}
	broken := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	status := func(status int, code string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { answerError(w, status, code) }
	}
	cases := []struct {
		name    string
		fault   func(http.ResponseWriter, *http.Request)
		retried bool
	}{
		{"SlowDown", status(503, "SlowDown"), true},
		{"InternalError", status(500, "InternalError"), true},
		{"no S3 at all", status(502, ""), true},
		{"a page", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<html><body>Welcome</body></html>")
		}, true},
		{"429", status(429, "TooMany"), true},
		{"408", status(408, "RequestTimeout"), true},
		{"broken connection", broken, true},
		{"broken body", cut, true},
		{"AccessDenied", status(403, "AccessDenied"), false},
		{"InvalidArgument", status(400, "InvalidArgument"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			faults := 2
			s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, n int) {
				if n <= faults {
					c.fault(w, r)
					return
				}
				w.Header().Set("ETag", `"e"`)
				w.Write([]byte("whole"))
			})
			o, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
			if c.retried && (err != nil || string(o.Body) != "whole" || len(requests()) != 3 ||
				s.Calls() != 3) {
				t.Errorf("got %q, %v after %d requests, %d counted; want 3", o.Body, err,
					len(requests()), s.Calls())
			}
			if !c.retried && (err == nil || len(requests()) != 1) {
				t.Errorf("error %v after %d requests; want one after 1", err, len(requests()))
			}
		})
		if !c.retried {
			continue
		}
		t.Run(c.name+" for good", func(t *testing.T) {
			s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
				c.fault(w, r)
			})
			_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
			if len(requests()) != 4 || s.Calls() != 4 { // I4
				t.Errorf("%d requests, %d counted; want 4", len(requests()), s.Calls())
			}
			storetest.MustSay(t, err, "get k in s3 bucket manifests at http://127.0.0.1:",
				"(after 4 attempts)")
		})
	}
}

func TestS3NobodyListens(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	_, err := openAt(t, server.URL).Targets[0].Manifests.Get(t.Context(), "k",
		chunkstore.GetOptions{})
	storetest.MustSay(t, err, server.URL, "connection refused", "(after 4 attempts)")
}

// TestS3LostAnswer: a conditional Put was carried out, its answer got lost, and
// the retry is in conflict with it.
func TestS3LostAnswer(t *testing.T) {
	for _, stored := range []string{"ours", "theirs"} {
		s, _ := openFake(t, func(w http.ResponseWriter, r *http.Request, n int) {
			switch {
			case n == 1:
				answerError(w, 500, "InternalError")
			case r.Method == http.MethodPut:
				answerError(w, 412, "PreconditionFailed")
			default:
				w.Header().Set("ETag", `"new"`)
				w.Write([]byte(stored))
			}
		})
		etag, err := s.Targets[0].Manifests.Put(t.Context(), "k", []byte("ours"),
			chunkstore.Condition{IfMatch: `"old"`})
		if stored == "ours" && (err != nil || etag != `"new"`) {
			t.Errorf("%s, %v; want the ETag of our own object", etag, err)
		}
		if stored == "theirs" && !errors.Is(err, chunkstore.ErrConflict) {
			t.Errorf("%s, %v; want ErrConflict", etag, err)
		}
	}
}

// TestS3Dates: a Put says when the store has answered, if that was the answer to it.
func TestS3Dates(t *testing.T) {
	const date = "Mon, 30 Nov 2026 10:20:30 GMT"
	for name, c := range map[string]struct {
		date   string
		status int // of the first answer
		want   time.Time
	}{
		"a date":             {date, 200, time.Date(2026, 11, 30, 10, 20, 30, 0, time.UTC)},
		"none":               {"", 200, time.Time{}},
		"no date":            {"tomorrow", 200, time.Time{}},
		"found by a request": {date, 500, time.Time{}},
	} {
		s, _ := openFake(t, func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header()["Date"] = nil // else net/http gives one
			if c.date != "" {
				w.Header().Set("Date", c.date)
			}
			switch {
			case n == 1 && c.status != 200:
				answerError(w, c.status, "InternalError")
			case n > 1 && r.Method == http.MethodPut:
				answerError(w, 412, "PreconditionFailed")
			default:
				w.Header().Set("ETag", `"e"`)
				io.WriteString(w, "b")
			}
		})
		etag, at, err := chunkstore.PutDated(t.Context(), s.Targets[0].Chunks, "k", []byte("b"),
			chunkstore.Condition{IfNone: true})
		if err != nil || etag != `"e"` || !at.Equal(c.want) {
			t.Errorf("%s: %s, %v, %v; want %v", name, etag, at, err, c.want)
		}
	}
}

func TestS3Conflicts(t *testing.T) {
	for code, status := range map[string]int{"ConditionalRequestConflict": 409,
		"PreconditionFailed": 412, "NoSuchKey": 404} {
		s, _ := openFake(t, func(w http.ResponseWriter, r *http.Request, n int) {
			answerError(w, status, code)
		})
		_, err := s.Targets[0].Manifests.Put(t.Context(), "k", []byte("b"),
			chunkstore.Condition{IfMatch: `"e"`})
		if !errors.Is(err, chunkstore.ErrConflict) || errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: error %v; want ErrConflict", code, err)
		}
	}
}

func TestS3WithoutConditions(t *testing.T) {
	var log bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "" {
			answerError(w, 501, "NotImplemented")
			return
		}
		w.Header().Set("ETag", `"e"`)
	}))
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{s3Target(server.URL)},
		chunkstore.Options{CallsPerSecond: -1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, cond := range []chunkstore.Condition{{IfNone: true}, {IfMatch: `"e"`},
		{IfMatch: `"x"`}} {
		storetest.MustPut(t, s.Targets[0].Manifests, "k", "b", cond)
	}
	if s.Calls() != 4 {
		t.Errorf("%d calls; want 4: the refusal is remembered", s.Calls())
	}
	if strings.Count(log.String(), "conditional") != 1 {
		t.Errorf("log: %s", &log)
	}
}

func TestS3CanceledWhileRetrying(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		cancel()
		answerError(w, 503, "SlowDown")
	})
	_, err := s.Targets[0].Manifests.Get(ctx, "k", chunkstore.GetOptions{})
	storetest.MustBe(t, err, context.Canceled)
	if len(requests()) != 1 {
		t.Errorf("%d requests", len(requests()))
	}
}

// TestS3LongObject: a longer object is not read to its end.
func TestS3LongObject(t *testing.T) {
	s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("ETag", `"e"`)
		for piece := make([]byte, 1<<20); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{BytesMax: 1000})
	storetest.MustBe(t, err, chunkstore.ErrCorrupt)
	if len(requests()) != 1 {
		t.Errorf("%d requests", len(requests()))
	}
}

// TestS3EndlessAnswer: of an answer that does not end, whatever it is to, some MB are read.
func TestS3EndlessAnswer(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden, http.StatusNotFound,
		http.StatusInternalServerError} {
		var written atomic.Int64
		s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			w.WriteHeader(status)
			for piece := bytes.Repeat([]byte("<Error>"), 1<<13); ; {
				n, err := w.Write(piece)
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		b := s.Targets[0].Manifests
		err := b.List(t.Context(), "", func(chunkstore.Object) bool { return true })
		if err == nil && status != http.StatusNotFound {
			t.Errorf("list, status %d: no error", status)
		}
		if status != http.StatusOK {
			if _, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); err == nil {
				t.Errorf("get, status %d: no error", status)
			}
		}
		if _, err := b.Put(t.Context(), "k", nil, chunkstore.Condition{}); err == nil {
			t.Errorf("put, status %d: no error", status)
		}
		if n := len(requests()); n > 12 || written.Load() > int64(n)*12<<20 {
			t.Errorf("status %d: %d requests, %d bytes", status, n, written.Load())
		}
	}
}

// TestS3ListStandsStill: a list whose next part begins where the last one began ends.
func TestS3ListStandsStill(t *testing.T) {
	s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Query().Has("versions") {
			io.WriteString(w, `<ListVersionsResult><Name>b</Name><IsTruncated>true</IsTruncated>`+
				`<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>`+
				`</ListVersionsResult>`)
		} else {
			io.WriteString(w, `<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>`+
				`<NextContinuationToken>k</NextContinuationToken></ListBucketResult>`)
		}
	})
	b := s.Targets[0].Manifests
	all := func(chunkstore.Object) bool { return true }
	storetest.MustSay(t, b.List(t.Context(), "", all), "does not go on")
	storetest.MustSay(t, b.(chunkstore.Versioned).ListVersions(t.Context(), "k", all),
		"does not go on")
	if n := len(requests()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

// TestS3ListIsNot404: what answers a list as if it were an object that is absent, as a
// server for something else does, has not said that the bucket is empty.
func TestS3ListIsNot404(t *testing.T) {
	s, _ := openFake(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		answerError(w, http.StatusNotFound, "NoSuchKey")
	})
	b := s.Targets[0].Manifests
	for name, err := range map[string]error{
		"list":          b.List(t.Context(), "", nil),
		"list versions": b.(chunkstore.Versioned).ListVersions(t.Context(), "k", nil),
	} {
		if err == nil || errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: %v; want an error that is not ErrAbsent", name, err)
		}
	}
}

func TestS3CABundle(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		w.Write([]byte("over TLS"))
	}))
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	_, err := openAt(t, server.URL).Targets[0].Manifests.Get(t.Context(), "k",
		chunkstore.GetOptions{})
	storetest.MustSay(t, err, "certificate")
	t.Setenv("AWS_CA_BUNDLE", bundle)
	o, err := openAt(t, server.URL).Targets[0].Manifests.Get(t.Context(), "k",
		chunkstore.GetOptions{})
	if err != nil || string(o.Body) != "over TLS" {
		t.Errorf("got %q, %v", o.Body, err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle+".missing")
	_, err = openAt(t, server.URL).Targets[0].Manifests.Get(t.Context(), "k",
		chunkstore.GetOptions{})
	storetest.MustSay(t, err, bundle+".missing")
}

func TestS3Addressing(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for domain, host := range map[bool]string{true: "manifests.s3.invalid", false: "s3.invalid"} {
		s := openAt(t, "http://s3.invalid:1", func(c *s3.Config) { c.DomainAddressing = domain })
		_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
		storetest.MustSay(t, err, "lookup "+host)
	}
}

func TestS3ListPages(t *testing.T) {
	s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, n int) {
		if r.URL.Query().Get("continuation-token") == "" {
			io.WriteString(w, `<ListBucketResult><Name>manifests</Name>`+
				`<IsTruncated>true</IsTruncated>`+
				`<NextContinuationToken>next</NextContinuationToken>`+
				`<Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>`)
		} else {
			io.WriteString(w, `<ListBucketResult><Name>manifests</Name>`+
				`<IsTruncated>false</IsTruncated>`+
				`<Contents><Key>b</Key><Size>1</Size></Contents></ListBucketResult>`)
		}
	})
	if got := storetest.Listed(t, s.Targets[0].Manifests, "", 10); len(got) != 2 ||
		got[1].Key != "b" || s.Calls() != 2 {
		t.Errorf("listed %v with %d calls", got, s.Calls())
	}
	if got := storetest.Listed(t, s.Targets[0].Manifests, "", 1); len(got) != 1 ||
		len(requests()) != 3 {
		t.Errorf("listed %v with %d requests in all; want no second page", got, len(requests()))
	}
}

func TestS3Request(t *testing.T) {
	s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Header.Get("x-amz-trailer") != "" ||
			strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
			t.Errorf("a Put with trailers: %v", r.Header)
		}
		w.Header().Set("ETag", `"e"`)
	})
	storetest.MustPut(t, s.Targets[0].Manifests, "5deb-verneuil%3Ahost%2F", "body",
		chunkstore.Condition{})
	got := requests()[0]
	if got.method != "PUT" || got.path != "/manifests/5deb-verneuil%3Ahost%2F" ||
		got.contentMD5 != "hBotaJrYa9FhFEdFPCLG/A==" {
		t.Errorf("request %+v", got)
	}
}

// TestS3Sums: a Put has Content-MD5 unless the store has shown that it checks CRC32C; one that
// refuses it, or does not give it back, does not get it again.
func TestS3Sums(t *testing.T) {
	const md5, crc = "hBotaJrYa9FhFEdFPCLG/A==", "Jj/JUA=="
	both, onlyMD5, onlyCRC := md5+" "+crc, md5+" ", " "+crc
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, crc string)
		want   []string // the checksums of the requests for three Puts
	}{
		"checks": {func(w http.ResponseWriter, crc string) {
			w.Header().Set("X-Amz-Checksum-Crc32c", crc)
		}, []string{both, onlyCRC, onlyCRC}},
		"ignores": {func(http.ResponseWriter, string) {}, []string{both, onlyMD5, onlyMD5}},
		"gives another": {func(w http.ResponseWriter, crc string) {
			w.Header().Set("X-Amz-Checksum-Crc32c", "AAAAAA==")
		}, []string{both, onlyMD5, onlyMD5}},
		"refuses": {func(w http.ResponseWriter, crc string) {
			if crc != "" {
				answerError(w, 400, "InvalidArgument")
			}
		}, []string{both, onlyMD5, onlyMD5, onlyMD5}},
		"knows none": {func(w http.ResponseWriter, crc string) {
			if crc != "" {
				answerError(w, 501, "NotImplemented")
			}
		}, []string{both, onlyMD5, onlyMD5, onlyMD5}},
		"forgets": {func() func(w http.ResponseWriter, crc string) {
			n := 0
			return func(w http.ResponseWriter, crc string) {
				if n++; n == 1 {
					w.Header().Set("X-Amz-Checksum-Crc32c", crc)
				}
			}
		}(), []string{both, onlyCRC, onlyMD5}},
	} {
		t.Run(name, func(t *testing.T) {
			s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
				w.Header().Set("ETag", `"e"`)
				c.answer(w, r.Header.Get("X-Amz-Checksum-Crc32c"))
			})
			for range 3 {
				storetest.MustPut(t, s.Targets[0].Manifests, "k", "body", chunkstore.Condition{})
			}
			var got []string
			for _, r := range requests() {
				got = append(got, r.contentMD5+" "+r.crc)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("checksums %q, want %q", got, c.want)
			}
		})
	}
}

// TestS3SumChecked: a store that has given a CRC32C back does not take a body that has changed on
// the way, also where nothing else tells.
func TestS3SumChecked(t *testing.T) {
	var spoil atomic.Bool
	var alone atomic.Int64
	spoiled := func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !spoil.Load() {
			return false
		}
		if r.Header.Get("Content-Md5") == "" && r.Header.Get("X-Amz-Checksum-Crc32c") != "" {
			alone.Add(1)
		}
		body, err := io.ReadAll(r.Body)
		if err == nil && len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return false
	}
	cfg := s3Target(before(t, miniotest.Start(t), spoiled, nil))
	b := storetest.Open(t, cfg).Targets[0].Chunks
	key := chunkstore.Sum(nil).String()
	storetest.MustPut(t, b, key, "the body", chunkstore.Condition{})
	spoil.Store(true)
	if _, err := b.Put(t.Context(), key, []byte("another"), chunkstore.Condition{}); err == nil {
		t.Error("a changed body was taken")
	}
	if alone.Load() == 0 {
		t.Error("no body went with a CRC32C alone")
	}
	spoil.Store(false)
	if o, err := b.Get(t.Context(), key, chunkstore.GetOptions{}); err != nil ||
		string(o.Body) != "the body" {
		t.Errorf("%q, %v", o.Body, err)
	}
}

func TestNewS3Bucket(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		io.WriteString(w, r.URL.Path)
	}))
	defer server.Close()
	b, err := s3.NewBucket(s3.Config{Region: "r", Endpoint: server.URL}, "one",
		chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); err != nil ||
		string(o.Body) != "/one/k" {
		t.Errorf("got %q, %v", o.Body, err)
	}
	if _, err := s3.NewBucket(s3.Config{Region: "r"}, "", chunkstore.Options{}); err == nil {
		t.Error("a bucket without a name")
	}
}

// A store is read with credentials that may do nothing else.
func TestS3ReadOnly(t *testing.T) {
	endpoint := miniotest.Start(t)
	plain := storetest.Text(1, 5000)
	ref := storetest.PutObjects(t, storetest.Open(t, s3Target(endpoint)).Targets[0], plain)[0]
	for _, variable := range miniotest.ReadOnly(t, endpoint, s3Target(endpoint).ChunkBucket) {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	s := storetest.Open(t, s3Target(endpoint))
	if got, err := s.GetObject(t.Context(), nil, ref); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("get: %v", err)
	}
	other, _ := storetest.PackOf(s.Sealer(), nil)
	if _, _, err := s.Targets[0].PutPack(t.Context(), other); err == nil {
		t.Error("these credentials can put")
	}
}
