package s3

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// writtenConn counts what is written at once.
type writtenConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c writtenConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestWholeWrites: a Put whose body the SDK has wrapped is one write, head and body.
func TestWholeWrites(t *testing.T) {
	var got atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.Store(string(b))
	}))
	defer server.Close()
	var writes atomic.Int64
	client := wholeWrites{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return writtenConn{c, &writes}, err
		},
	}}}
	body := []byte("the body")
	ctx := withRequest(t.Context(), &request{puts: body})
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL,
		struct{ io.Reader }{bytes.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(body))
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if got.Load() != string(body) || writes.Load() != 1 {
		t.Errorf("%d writes, and the server got %q", writes.Load(), got.Load())
	}
}
