package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"

	"verneuil/chunkstore"
	"verneuil/chunkstore/s3"
)

// Of the servers that we start, on the loopback interface only.
const (
	accessKey = "verneuil-bench-user"
	secretKey = "verneuil-bench-secret"
	region    = "us-east-1"
)

// server is an S3 server of this run, with empty storage in dir.
type server struct {
	name     string
	endpoint string
	process  *process
}

// serve starts "minio" or "versitygw", which `make bench` has put into .tools/bin.
func (b *bench) serve(name, dir string) (*server, error) {
	program := filepath.Join(b.root, ".tools/bin", name)
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%s was not built: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s := &server{name: name, endpoint: "http://" + address}
	if name == "minio" {
		s.process, err = b.launch([]string{"MINIO_ROOT_USER=" + accessKey,
			"MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_UPDATE=off", "MINIO_CI_CD=1"},
			program, "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0",
			dir)
	} else {
		s.process, err = b.launch(nil, program, "--port", address, "--access", accessKey,
			"--secret", secretKey, "--region", region, "posix", dir)
	}
	if err != nil {
		return nil, err
	}
	go io.Copy(io.Discard, s.process.stdout)
	ready := s.endpoint
	if name == "minio" {
		ready += "/minio/health/ready" // it answers before it can serve
	}
	for range 600 {
		response, err := http.Get(ready)
		if err == nil {
			response.Body.Close()
			if name != "minio" || response.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-b.ctx.Done():
			return nil, b.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s does not answer: %s", name, tail(s.process.stderr.String()))
}

func (s *server) stop() { s.process.end(os.Kill) }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// s3Target is a target in the buckets NAME-chunks and NAME-manifests at an endpoint.
func s3Target(endpoint, name string) object {
	return object{"s3": object{"region": region, "endpoint": endpoint,
		"chunk_bucket":    name + "-chunks",
		"manifest_bucket": name + "-manifests", "domain_addressing": false,
		"create_buckets_on_demand": true}}
}

// openS3 opens the same target, so that we can look into it.
func openS3(endpoint, name string) (*chunkstore.Store, error) {
	return chunkstore.Open(context.Background(),
		[]chunkstore.TargetConfig{&s3.Config{Region: region, Endpoint: endpoint,
			ChunkBucket: name + "-chunks", ManifestBucket: name + "-manifests"}},
		chunkstore.Options{CallsPerSecond: -1})
}

// ---------------------------------------------------------------- counting

// calls counts requests as S3 bills them.
type calls struct {
	put, get, list, del int // put: PUT, POST and COPY; get: GET and HEAD
	up, down            int64
}

func (c calls) minus(o calls) calls {
	return calls{c.put - o.put, c.get - o.get, c.list - o.list, c.del - o.del, c.up - o.up,
		c.down - o.down}
}
func (c calls) all() int { return c.put + c.get + c.list + c.del }

// String lists the requests that were made.
func (c calls) String() string {
	var words []string
	for _, k := range []struct {
		n    int
		what string
	}{{c.put, "PUT"}, {c.get, "GET"}, {c.list, "LIST"}, {c.del, "DELETE"}} {
		if k.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", k.n, k.what))
		}
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, ", ")
}

// counter is a proxy in front of a server. It counts requests, and reports each PUT that
// succeeds.
type counter struct {
	endpoint string
	listener net.Listener
	server   *http.Server
	delay    time.Duration // of each request; set before the first

	mu    sync.Mutex
	total calls
	spans []span // of requests that were delayed
	onPut func(key string, begin, end time.Time, body []byte)
}

type requestKey struct{}

// request is what the proxy knows about a request in progress.
type request struct {
	begin time.Time
	key   string
	body  bytes.Buffer
	isPut bool
}

func count(s *server) (*counter, error) {
	to, err := url.Parse(s.endpoint)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &counter{endpoint: "http://" + l.Addr().String(), listener: l}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	proxy := &httputil.ReverseProxy{Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: c.done,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	c.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := &request{begin: time.Now(), key: r.URL.Path, isPut: r.Method == http.MethodPut}
		c.mu.Lock()
		c.total.add(r)
		c.mu.Unlock()
		if r.Body != nil {
			r.Body = &countingBody{ReadCloser: r.Body, c: c, keep: what}
		}
		time.Sleep(c.delay)
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, what)))
		if c.delay > 0 {
			c.mu.Lock()
			c.spans = append(c.spans, span{what.begin, time.Now()})
			c.mu.Unlock()
		}
	})}
	go c.server.Serve(l)
	return c, nil
}

// span is how long a request took.
type span struct{ begin, end time.Time }

// forget forgets the requests that were delayed so far.
func (c *counter) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = nil
}

// chain returns how many of the requests that were delayed came one after the other: each began
// after the one before had ended.
func (c *counter) chain() (longest int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(c.spans, func(a, b span) int { return a.begin.Compare(b.begin) })
	depth := make([]int, len(c.spans))
	for k, s := range c.spans {
		depth[k] = 1
		for j := range k {
			if !c.spans[j].end.After(s.begin) {
				depth[k] = max(depth[k], depth[j]+1)
			}
		}
		longest = max(longest, depth[k])
	}
	return longest
}

func (c *calls) add(r *http.Request) {
	q := r.URL.Query()
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		if q.Has("delete") {
			c.del++
		} else {
			c.put++
		}
	case http.MethodDelete:
		c.del++
	default:
		if q.Has("list-type") || q.Has("prefix") || q.Has("uploads") {
			c.list++
		} else {
			c.get++
		}
	}
}

// keepMost bounds what is kept of a body: manifests are smaller.
const keepMost = 1 << 20

type countingBody struct {
	io.ReadCloser
	c    *counter
	keep *request
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.c.mu.Lock()
		b.c.total.up += int64(n)
		b.c.mu.Unlock()
		if b.keep.isPut && b.keep.body.Len() < keepMost {
			b.keep.body.Write(p[:n])
		}
	}
	return n, err
}

func (c *counter) done(r *http.Response) error {
	what, _ := r.Request.Context().Value(requestKey{}).(*request)
	c.mu.Lock()
	if r.ContentLength > 0 {
		c.total.down += r.ContentLength
	}
	onPut := c.onPut
	c.mu.Unlock()
	if what != nil && what.isPut && r.StatusCode == http.StatusOK && onPut != nil {
		onPut(what.key, what.begin, time.Now(), what.body.Bytes())
	}
	return nil
}

// now returns what has been counted so far.
func (c *counter) now() calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (c *counter) watch(onPut func(key string, begin, end time.Time, body []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onPut = onPut
}

func (c *counter) stop() { c.server.Close() }

// ---------------------------------------------------------------- raw transfers

// raw is the plainest client: HTTP with a signature, nothing checked.
type raw struct {
	endpoint string
	client   http.Client
	signer   *v4.Signer
}

func newRaw(endpoint string) *raw {
	return &raw{endpoint,
		http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}},
		v4.NewSigner()}
}

func (r *raw) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	request.Header.Set("X-Amz-Content-Sha256", unsigned)
	credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	if err := r.signer.SignHTTP(ctx, credentials, request, unsigned, "s3", region,
		time.Now()); err != nil {
		return nil, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, tail(string(got)))
	}
	return got, err
}

// bucket makes a bucket; it may exist already.
func (r *raw) bucket(ctx context.Context, name string) error {
	_, err := r.do(ctx, http.MethodPut, "/"+name, nil)
	if err != nil && strings.Contains(err.Error(), "BucketAlready") {
		return nil
	}
	return err
}

// objects lists the objects of a bucket, with their sizes.
func objects(ctx context.Context, endpoint, bucket string) (map[string]int64, error) {
	b, err := s3.NewBucket(s3.Config{Region: region, Endpoint: endpoint}, bucket,
		chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	err = b.List(ctx, "", func(o chunkstore.Object) bool {
		all[o.Key] = o.Bytes
		return true
	})
	return all, err
}

// rawWorkers is the concurrency that the product uses by default.
const rawWorkers = 8

// getAll fetches objects in parallel, and returns how long that took.
func (r *raw) getAll(ctx context.Context, bucket string,
	all map[string]int64) (seconds float64, err error) {
	start := time.Now()
	err = each(ctx, all, func(ctx context.Context, key string, size int64) error {
		got, err := r.do(ctx, http.MethodGet, "/"+bucket+"/"+url.PathEscape(key), nil)
		if err == nil && int64(len(got)) != size {
			err = errors.New("short object")
		}
		return err
	})
	return time.Since(start).Seconds(), err
}

// putAll stores random bytes of the same sizes under the same keys.
func (r *raw) putAll(ctx context.Context, bucket string,
	all map[string]int64) (seconds float64, err error) {
	if err := r.bucket(ctx, bucket); err != nil {
		return 0, err
	}
	most := int64(0)
	for _, size := range all {
		most = max(most, size)
	}
	body := make([]byte, most)
	rand.Read(body)
	start := time.Now()
	err = each(ctx, all, func(ctx context.Context, key string, size int64) error {
		_, err := r.do(ctx, http.MethodPut, "/"+bucket+"/"+url.PathEscape(key), body[:size])
		return err
	})
	return time.Since(start).Seconds(), err
}

func each(ctx context.Context, all map[string]int64,
	do func(ctx context.Context, key string, size int64) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(rawWorkers)
	for key, size := range all {
		group.Go(func() error { return do(ctx, key, size) })
	}
	return group.Wait()
}

const tripsBucket = "round-trips"

// roundTrip returns the seconds of a PUT of that many bytes, the i-th in tripsBucket, and of to's
// GET of them.
func (r *raw) roundTrip(ctx context.Context, to *raw, i, bytes int) (put, get float64, err error) {
	path := fmt.Sprintf("/%s/%d", tripsBucket, i)
	start := time.Now()
	if _, err := r.do(ctx, http.MethodPut, path, make([]byte, bytes)); err != nil {
		return 0, 0, err
	}
	middle := time.Now()
	_, err = to.do(ctx, http.MethodGet, path, nil)
	return middle.Sub(start).Seconds(), time.Since(middle).Seconds(), err
}

// getSeconds is the median time of a GET of that many bytes.
func (r *raw) getSeconds(ctx context.Context, bytes int) (float64, error) {
	if err := r.bucket(ctx, tripsBucket); err != nil {
		return 0, err
	}
	var gets []float64
	for i := range 41 {
		_, get, err := r.roundTrip(ctx, r, i, bytes)
		if err != nil {
			return 0, err
		}
		gets = append(gets, get)
	}
	return percentile(gets, 0.5), nil
}
