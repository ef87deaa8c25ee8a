// Package faultproxy stands between a client and a real HTTP server, as a rule
// MinIO, and spoils what passes: errors, waits, resets, bodies that are cut or
// changed. Everything else arrives as it was sent, so that signatures hold.
package faultproxy

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Fault is what happens to one request. The zero value lets it pass.
type Fault struct {
	// Hold, if not nil: the request waits until it is closed, or the client has gone.
	Hold <-chan struct{}
	// Status, if not 0, is the answer; the server is not asked.
	Status int
	// Page: the answer is an HTML page, as of a portal or a balancer, with Status or 200;
	// the server is not asked.
	Page bool
	// Empty: the answer is 200 and nothing else; the server is not asked.
	Empty bool
	// Reset: the client's connection is reset, and the server is not asked.
	Reset bool
	// Lose: the server is asked, and the connection is reset in place of its answer.
	Lose bool
	// Cut: the answer's length is announced, and the connection reset in the middle of it.
	Cut bool
	// Short: the half of the answer's body is announced, and sent.
	Short bool
	// Flip: one bit in the middle of the answer's body is another.
	Flip bool
	// Hide: what the server says is not there is denied, as AWS says it to who may not list.
	Hide bool
}

// Plan says what happens to the nth request, from 1. It is called by the requests'
// goroutines, one at a time.
type Plan func(n int, r *http.Request) Fault

// Proxy is a running proxy. It is safe for concurrent use.
type Proxy struct {
	URL      string // http://127.0.0.1:PORT
	upstream string
	client   *http.Transport

	mu       sync.Mutex
	plan     Plan
	after    func(*http.Request)
	requests int
	faults   int
	bytes    int64
}

// Start starts a proxy in front of upstream, "http://HOST:PORT", and ends it with tb.
func Start(tb testing.TB, upstream string) *Proxy {
	tb.Helper()
	p := &Proxy{upstream: strings.TrimPrefix(upstream, "http://"),
		client: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}
	server := httptest.NewServer(p)
	p.URL = server.URL
	tb.Cleanup(func() {
		server.CloseClientConnections() // some may be held
		server.Close()
		p.client.CloseIdleConnections()
	})
	return p
}

// Set makes plan decide from now on, and begins to count anew; nil lets all pass.
func (p *Proxy) Set(plan Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.requests, p.faults, p.bytes = plan, 0, 0, 0
}

// After has the proxy call after when the server has answered a request with 200, before
// the client knows. It is called by the requests' goroutines, several at a time.
func (p *Proxy) After(after func(*http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = after
}

// Requests returns how many requests came since Set, retries counted.
func (p *Proxy) Requests() int { return int(p.count(func() int64 { return int64(p.requests) })) }

// Faults returns how many of them did not pass untouched.
func (p *Proxy) Faults() int { return int(p.count(func() int64 { return int64(p.faults) })) }

// Bytes returns how many bytes of bodies the server has answered since Set.
func (p *Proxy) Bytes() int64 { return p.count(func() int64 { return p.bytes }) }

func (p *Proxy) count(of func() int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return of()
}

func (p *Proxy) decide(r *http.Request) (f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	if p.plan != nil {
		f = p.plan(p.requests, r)
	}
	if f != (Fault{}) {
		p.faults++
	}
	return f
}

// ServeHTTP is for the server that Start starts.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.decide(r)
	if f.Hold != nil {
		// The server notices that the client has gone only once the body is read.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			reset(w)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-f.Hold:
		case <-r.Context().Done():
			return
		}
	}
	if f.Reset {
		reset(w)
		return
	}
	if f.Status != 0 || f.Page || f.Empty {
		f.answer(w)
		return
	}
	response, body, err := p.forward(r)
	if err != nil || f.Lose {
		reset(w)
		return
	}
	if f.Hide && response.StatusCode == http.StatusNotFound {
		Fault{Status: http.StatusForbidden}.answer(w)
		return
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	half := body[:len(body)/2]
	switch {
	case f.Flip && len(body) > 0:
		body[len(body)/2] ^= 1
	case f.Short:
		body = half
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(response.StatusCode)
	if f.Cut {
		w.Write(half)
		w.(http.Flusher).Flush()
		reset(w)
		return
	}
	w.Write(body)
}

// answer answers in the server's place.
func (f Fault) answer(w http.ResponseWriter) {
	status := cmp.Or(f.Status, http.StatusOK)
	switch {
	case f.Empty:
		w.WriteHeader(status)
	case f.Page:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		io.WriteString(w, "<!DOCTYPE html><html><head><title>Welcome</title></head>"+
			"<body><p>Please log in.</p></body></html>")
	default:
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>injected</Message></Error>", code(status))
	}
}

func (p *Proxy) forward(r *http.Request) (*http.Response, []byte, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.upstream, ""
	out.Host = r.Host // the signature covers it
	response, err := p.client.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	p.mu.Lock()
	p.bytes += int64(len(body))
	after := p.after
	p.mu.Unlock()
	if after != nil && response.StatusCode == http.StatusOK {
		after(r)
	}
	return response, body, err
}

// code is S3's word for an HTTP status.
func code(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "InvalidRequest"
	case http.StatusConflict:
		return "OperationAborted"
	case http.StatusPreconditionFailed:
		return "PreconditionFailed"
	case http.StatusForbidden:
		return "AccessDenied"
	case http.StatusNotFound:
		return "NoSuchKey"
	case http.StatusServiceUnavailable:
		return "SlowDown"
	}
	return "InternalError"
}

// reset ends the client's connection as a crash or a firewall would, not in order.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // closes it
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
