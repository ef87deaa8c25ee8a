package hosts_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// pausing is a store before which requests that append to a log wait, from pause to resume.
type pausing struct {
	store http.Handler

	mu      sync.Mutex
	resumed chan struct{} // nil: nobody waits
	waits   map[string]bool
}

func (p *pausing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/chunks/log-") {
		p.mu.Lock()
		resumed := p.resumed
		p.waits[r.URL.Path] = true
		p.mu.Unlock()
		if resumed != nil {
			<-resumed
		}
	}
	p.store.ServeHTTP(w, r)
}

func (p *pausing) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumed, p.waits = make(chan struct{}), make(map[string]bool)
}

func (p *pausing) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumed != nil {
		close(p.resumed)
	}
	p.resumed = nil
}

// waiting is how many records wait, or have.
func (p *pausing) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waits)
}

// TestCommitsWait: while commits of many threads wait for a store, other threads call Go, and one
// forks; who is cancelled ends once its commit has; and exit() waits for none of them.
func TestCommitsWait(t *testing.T) {
	minio, err := url.Parse(miniotest.Start(t))
	harness.Must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(minio)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // the host has ended
	store := &pausing{store: proxy, waits: make(map[string]bool)}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	t.Cleanup(store.resume)
	s := harness.S3Site(t, server.URL)
	inStore(s, map[string]any{"remote_deadline_ms": 3600000, "lease_timeout_ms": 3600000,
		"lease_linger_ms": 3600000})
	h := s.Host()
	const threads = 6
	uri := func(i int) string { return fmt.Sprintf("file:///st/%d.db?vfs=verneuil_remote", i) }
	for i := range threads + 1 {
		h.Must(".open " + uri(i))
		h.Must("create table t(b)")
	}
	begin := func() {
		t.Helper()
		store.pause()
		for i := range threads {
			h.Must(".begin " + uri(i) + " insert into t values(1)")
		}
		harness.Until(t, "all commits wait", func() bool { return store.waiting() == threads })
	}

	begin()
	h.Must(".cancel")
	h.Send(".fork")
	h.Send(".open " + uri(0))
	h.Send(".leave 0")
	h.Want(".print parent", "error: open "+uri(0)+": unable to open database file\n"+
		"child: exit 0\nparent")
	h.Must(".open " + uri(threads))
	h.Want("select count(*) from t", "0")
	h.Want(".begun", fmt.Sprint(threads))
	store.resume()
	h.Must(".join")
	for i := range threads {
		h.Must(".open " + uri(i))
		h.Want("select count(*) from t", "1")
	}

	begin()
	h.EndsWith(0)
}
