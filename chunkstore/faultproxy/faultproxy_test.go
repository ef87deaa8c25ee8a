package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultproxy"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

// A store behind the proxy works as without it; each kind of fault reaches its client,
// is overcome if it does not last, and no wrong byte comes through.
func TestProxy(t *testing.T) {
	p := faultproxy.Start(t, miniotest.Start(t))
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{&s3.Config{
		Region: "us-east-1", Endpoint: p.URL,
		ChunkBucket: "chunks", ManifestBucket: "manifests", CreateBucketsOnDemand: true,
	}}, chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("a chunk of some length "), 2000)
	ref := storetest.PutObjects(t, s.Targets[0], plain)[0]
	for _, fault := range []faultproxy.Fault{{Status: 500}, {Status: 503}, {Reset: true},
		{Lose: true}, {Cut: true}} {
		p.Set(func(n int, _ *http.Request) faultproxy.Fault {
			if n == 1 {
				return fault
			}
			return faultproxy.Fault{}
		})
		if got, err := s.GetObject(t.Context(), nil, ref); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%+v once: %v", fault, err)
		}
		if p.Requests() != 2 || p.Faults() != 1 {
			t.Errorf("%+v once: %d requests, %d of them spoiled", fault, p.Requests(), p.Faults())
		}
	}
	p.Set(func(int, *http.Request) faultproxy.Fault { return faultproxy.Fault{Flip: true} })
	if _, err := s.GetObject(t.Context(), nil, ref); !errors.Is(err, chunkstore.ErrCorrupt) {
		t.Errorf("a changed body: %v", err)
	}
	p.Set(func(int, *http.Request) faultproxy.Fault { return faultproxy.Fault{Status: 403} })
	_, err = s.GetObject(t.Context(), nil, ref)
	if err == nil || errors.Is(err, chunkstore.ErrAbsent) {
		t.Errorf("access denied: %v", err)
	}
	p.Set(func(int, *http.Request) faultproxy.Fault { return faultproxy.Fault{Hide: true} })
	if _, err = s.GetObject(t.Context(), nil, ref); err != nil {
		t.Errorf("what is there, where what is absent is hidden: %v", err)
	}
	_, err = s.Targets[0].Chunks.Get(t.Context(), "none", chunkstore.GetOptions{})
	if !errors.Is(err, chunkstore.ErrDenied) {
		t.Errorf("what is absent, and hidden: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p.Set(func(int, *http.Request) faultproxy.Fault {
		cancel()
		return faultproxy.Fault{Hold: make(chan struct{})}
	})
	if _, err := s.GetObject(ctx, nil, ref); !errors.Is(err, context.Canceled) {
		t.Errorf("a server that does not answer: %v", err)
	}
	p.Set(nil)
	if got, err := s.GetObject(t.Context(), nil, ref); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("after all: %v", err)
	}
}
