package s3_test

import (
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// smallStore is a store of objects in memory that speaks as much S3 as the conditions of Puts
// need, and keeps them in its own way.
type smallStore struct {
	// the HTTP status of a Put; 0: it is carried out
	keeps func(r *http.Request, etag string, exists bool) int

	mu      sync.Mutex
	objects map[string][]byte
	puts    int // carried out
}

func (s *smallStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	present, exists := s.objects[r.URL.Path]
	etagOf := func(b []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(b)) }
	switch r.Method {
	case http.MethodPut:
		if status := s.keeps(r, etagOf(present), exists); status != 0 {
			answerError(w, status, map[int]string{412: "PreconditionFailed",
				501: "NotImplemented"}[status])
			return
		}
		s.objects[r.URL.Path] = body
		s.puts++
		w.Header().Set("ETag", etagOf(body))
	case http.MethodGet, http.MethodHead:
		if !exists {
			answerError(w, 404, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", etagOf(present))
		w.Header().Set("Content-Length", fmt.Sprint(len(present)))
		if r.Method == http.MethodGet {
			w.Write(present)
		}
	}
}

// keeps is what S3 does.
func keeps(r *http.Request, etag string, exists bool) int {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if none == "*" && exists || match != "" && (!exists || match != etag) {
		return 412
	}
	return 0
}

// keepsBare is what Ceph's radosgw 16 does.
func keepsBare(r *http.Request, etag string, exists bool) int {
	return keeps(r, strings.Trim(etag, `"`), exists)
}

func (s *smallStore) open(t *testing.T) (*chunkstore.Target, func() string) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	store, log := logged(t, s3Target(server.URL), chunkstore.Options{CallsPerSecond: -1})
	return store.Targets[0], log.String
}

// TestS3Conditions: whatever a store makes of conditions, the right writer gets on, and a second
// one is found, or the log says that it may not be.
func TestS3Conditions(t *testing.T) {
	for name, c := range map[string]struct {
		keeps func(*http.Request, string, bool) int
		kept  bool
		says  string
	}{
		"kept":           {keeps, true, ""},
		"without quotes": {keepsBare, true, ""},
		"ignored": {func(*http.Request, string, bool) int { return 0 }, false,
			"ignores the conditions of writes"},
		"of If-None-Match only": {func(r *http.Request, e string,
			x bool) int {
			r.Header.Del("If-Match")
			return keeps(r, e,
				x)
		}, false, "ignores the conditions of writes"},
		"without quotes, or none at all": {func(r *http.Request, e string, x bool) int {
			// and the bare form is no condition
			if !strings.HasPrefix(r.Header.Get("If-Match"), `"`) {
				r.Header.Del("If-Match")
			}
			return keepsBare(r, e, x)
		}, true, "ignores the conditions of writes"},
		"refused": {func(r *http.Request, _ string, _ bool) int {
			if r.Header.Get("If-Match")+r.Header.Get("If-None-Match") != "" {
				return 501
			}
			return 0
		}, false, "no conditional writes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &smallStore{keeps: c.keeps, objects: map[string][]byte{}}
			target, log := s.open(t)
			id, err := chunkstore.Identify(t.Context(), target.Manifests, chunkstore.Plain{})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if kept, err := target.ProveConditions(t.Context(), id); err != nil ||
					kept != c.kept {
					t.Errorf("conditions are kept: %v, %v", kept, err)
				}
			}
			m := target.Manifests
			first := storetest.MustPut(t, m, "k", "1", chunkstore.Condition{IfNone: true})
			second := storetest.MustPut(t, m, "k", "2", chunkstore.Condition{IfMatch: first})
			third := storetest.MustPut(t, m, "k", "3", chunkstore.Condition{IfMatch: second})
			for _, cond := range []chunkstore.Condition{{IfNone: true}, {IfMatch: first},
				{IfMatch: second}} {
				if _, err := m.Put(t.Context(), "k", []byte("x"), cond); !errors.Is(err,
					chunkstore.ErrConflict) {
					t.Errorf("another writer's put: %v", err)
				}
			}
			storetest.MustPut(t, m, "k", "4", chunkstore.Condition{IfMatch: third})
			if c.says == "" && strings.Contains(log(), "level=WARN") ||
				strings.Count(log(), c.says) != 1 && c.says != "" {
				t.Errorf("log: %s", log())
			}
			mustProve(t, target, c.kept && c.says == "")
			if target.Unguarded() != (c.says != "") {
				t.Errorf("unguarded: %v", target.Unguarded())
			}
			if now, err := chunkstore.ReadIdentity(t.Context(), m); err != nil || now != id {
				t.Errorf("the marker is %v, and was %v; %v", now, id, err)
			}
		})
	}
}

// mustProve: databases can live in target, if fit, or it is said what to do.
func mustProve(t *testing.T, target *chunkstore.Target, fit bool) {
	t.Helper()
	_, err := target.Prove(t.Context())
	if fit != (err == nil) || !fit && (!errors.Is(err, chunkstore.ErrUnguarded) ||
		!strings.Contains(err.Error(), "replicate local databases")) {
		t.Errorf("databases can live there (want %v): %v", fit, err)
	}
}

// TestS3Creates: a store that looks for an object, and then writes it, is found out, although it
// keeps conditions of one request after the other.
func TestS3Creates(t *testing.T) {
	s := &smallStore{keeps: keeps, objects: map[string][]byte{}}
	target, _ := s.open(t)
	if _, err := target.Prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := target.ProveCreates(t.Context()); err != nil {
		t.Errorf("a store that is right: %v", err)
	}
	second, looks := make(chan struct{}), 0
	s.keeps = func(r *http.Request, etag string, exists bool) int {
		if !strings.Contains(r.URL.Path, chunkstore.WantKeyPrefix) {
			return keeps(r, etag, exists)
		}
		switch looks++; looks { // two look before either writes
		case 1:
			s.mu.Unlock()
			<-second
			s.mu.Lock()
			return 0
		case 2:
			close(second)
			return 0
		}
		return keeps(r, etag, exists)
	}
	if err := target.ProveCreates(t.Context()); !errors.Is(err, chunkstore.ErrUnguarded) {
		t.Errorf("a store that looks and then writes: %v", err)
	}
}
