package s3_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

// before starts a proxy in front of endpoint. refuse, if not nil, may answer in the store's place,
// and says so; change may change what is sent on.
func before(t *testing.T, endpoint string, refuse func(w http.ResponseWriter, r *http.Request) bool,
	change func(http.Header)) string {
	t.Helper()
	store, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(store)
		r.Out.Host = r.In.Host // it is signed
		if change != nil {
			change(r.Out.Header)
		}
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse == nil || !refuse(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

// logged opens a target whose log goes to the buffer returned, which may be read once all calls
// have returned.
func logged(t *testing.T, cfg chunkstore.TargetConfig,
	o chunkstore.Options) (*chunkstore.Store, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	o.CallsPerSecond, o.Log = -1, slog.New(slog.NewTextHandler(log, nil))
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{cfg}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// TestS3RewrittenHeaders: what stands between us and the store may change, add and take away
// headers that S3 does not want signed.
func TestS3RewrittenHeaders(t *testing.T) {
	endpoint := miniotest.Start(t)
	for name, change := range map[string]func(http.Header){
		"google": func(h http.Header) { h.Set("Accept-Encoding", "gzip, br") }, // and Cloudflare
		"nginx":  func(h http.Header) { h.Del("Accept-Encoding") },
		"others": func(h http.Header) {
			h.Set("User-Agent", "a proxy")
			h.Set("Via", "1.1 proxy")
			h.Set("Accept", "*/*")
			h.Set("X-Forwarded-For", "10.0.0.1")
			h.Del("Amz-Sdk-Request")
			h.Del("Amz-Sdk-Invocation-Id")
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s3Target(before(t, endpoint, nil, change))
			cfg.Prefix = name // a place of its own
			target := storetest.Open(t, cfg).Targets[0]
			storetest.Bucket(t, target.Manifests, func(i int) string {
				return fmt.Sprintf("%04x-a+b(c)*'!~", i)
			})
			storetest.Versions(t, target.Manifests.(chunkstore.Versioned))
			touchOnce(t, target)
		})
	}
}

// touchOnce touches a pack of t, which must then be as it was. (testTouch waits for a new second.)
func touchOnce(t *testing.T, target *chunkstore.Target) {
	t.Helper()
	plain := []byte("x")
	ref := storetest.PutObjects(t, target, plain)[0]
	if err := target.TouchPack(t.Context(), ref.Place.Pack); err != nil {
		t.Fatal(err)
	}
	if got, err := target.GetObject(t.Context(), ref); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("after a touch: %q, %v", got, err)
	}
}

// unsigned: r is a Put whose body is not signed.
func unsigned(r *http.Request) bool {
	return r.Method == http.MethodPut && r.Header.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD"
}

// TestS3SignedBodies: a store that takes only signed bodies gets them, after one refusal of each
// process's; from the start if it is configured.
func TestS3SignedBodies(t *testing.T) {
	endpoint := miniotest.Start(t)
	for i, answer := range []struct {
		status int
		code   string
	}{{403, "SignatureDoesNotMatch"}, {403, "AccessDenied"}, {400, "InvalidRequest"}, {400,
		"XAmzContentSHA256Mismatch"}, {501, "NotImplemented"}} {
		t.Run(answer.code, func(t *testing.T) {
			var refused atomic.Int64
			cfg := s3Target(before(t, endpoint, func(w http.ResponseWriter, r *http.Request) bool {
				if unsigned(r) {
					refused.Add(1)
					io.Copy(io.Discard, r.Body)
					answerError(w, answer.status, answer.code)
				}
				return unsigned(r)
			}, nil))
			cfg.Prefix = fmt.Sprint(i)
			s, log := logged(t, cfg, chunkstore.Options{})
			storetest.Bucket(t, s.Targets[0].Manifests, func(i int) string {
				return fmt.Sprintf("%04x", i)
			})
			storetest.PutGetPack(t, s.Targets[0])
			if n := refused.Load(); n < 1 || n > 2 || strings.Count(log.String(), "signed") == 0 ||
				strings.Contains(log.String(), "conditional") {
				t.Errorf("%d unsigned bodies were refused; log: %s", n, log)
			}
			refused.Store(0)
			cfg.SignPayload = true
			storetest.MustPut(t, storetest.Open(t, cfg).Targets[0].Manifests, "k", "b",
				chunkstore.Condition{})
			if n := refused.Load(); n != 0 {
				t.Errorf("with sign_payload: %d unsigned bodies", n)
			}
		})
	}
}

// TestS3SignatureIsNoRemedy: whom a store refuses altogether it does not see twice as often.
func TestS3SignatureIsNoRemedy(t *testing.T) {
	s, requests := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		answerError(w, 403, "AccessDenied")
	})
	for range 5 {
		_, err := s.Targets[0].Manifests.Put(t.Context(), "k", []byte("b"),
			chunkstore.Condition{IfNone: true})
		storetest.MustSay(t, err, "put k in s3 bucket manifests", "AccessDenied (HTTP 403)")
	}
	if n := len(requests()); n != 6 {
		t.Errorf("%d requests; want 6", n)
	}
}

// TestS3Denied: what may be the answer to who may not list, where there is no such object, is told
// from other refusals.
func TestS3Denied(t *testing.T) {
	for code, want := range map[string]bool{
		"AccessDenied": true, "SignatureDoesNotMatch": false, "RequestTimeTooSkewed": false,
	} {
		s, _ := openFake(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
			answerError(w, 403, code)
		})
		_, err := s.Targets[0].Chunks.Get(t.Context(), "k", chunkstore.GetOptions{})
		if errors.Is(err, chunkstore.ErrDenied) != want || errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// TestS3BucketsWithoutConditions: buckets are made on demand also where a store refuses conditions
// before it looks for the bucket, and bodies that are not signed, too.
func TestS3BucketsWithoutConditions(t *testing.T) {
	endpoint := miniotest.Start(t)
	for name, signed := range map[string]bool{"conditions": false,
		"conditions and unsigned bodies": true} {
		t.Run(name, func(t *testing.T) {
			cfg := s3Target(before(t, endpoint, func(w http.ResponseWriter, r *http.Request) bool {
				conditional := r.Header.Get("If-Match") != "" ||
					r.Header.Get("If-None-Match") != "" && r.Method == http.MethodPut
				switch {
				case signed && unsigned(r):
					answerError(w, 403, "AccessDenied")
				case conditional:
					answerError(w, 501, "NotImplemented")
				default:
					return false
				}
				io.Copy(io.Discard, r.Body)
				return true
			}, nil))
			cfg.ChunkBucket = "c-" + fmt.Sprint(len(name))
			cfg.ManifestBucket = "m-" + fmt.Sprint(len(name))
			s, log := logged(t, cfg, chunkstore.Options{})
			m := s.Targets[0].Manifests
			etag := storetest.MustPut(t, m, "k", "one", chunkstore.Condition{IfNone: true})
			storetest.MustPut(t, m, "k", "two", chunkstore.Condition{IfMatch: etag})
			if o, err := m.Get(t.Context(), "k", chunkstore.GetOptions{}); err != nil ||
				string(o.Body) != "two" {
				t.Errorf("got %q, %v", o.Body, err)
			}
			if strings.Count(log.String(), "no conditional writes") != 1 {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestS3CopyRefused: where a store does not copy an object onto itself, or may not, a touch puts
// it again, and a store that does not know how is not asked twice.
func TestS3CopyRefused(t *testing.T) {
	endpoint := miniotest.Start(t)
	for i, answer := range []struct {
		status   int
		code     string
		remember bool
	}{{400, "InvalidRequest", true}, {403, "AccessDenied", false}, {405, "MethodNotAllowed",
		true}, {501, "NotImplemented", true}} {
		t.Run(answer.code, func(t *testing.T) {
			var refused atomic.Int64
			cfg := s3Target(before(t, endpoint, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("X-Amz-Copy-Source") == "" {
					return false
				}
				refused.Add(1)
				answerError(w, answer.status, answer.code)
				return true
			}, nil))
			cfg.Prefix = fmt.Sprint(i)
			s, log := logged(t, cfg, chunkstore.Options{})
			touchOnce(t, s.Targets[0])
			touchOnce(t, s.Targets[0])
			if n := refused.Load(); n == 0 || answer.remember != (n == 1) ||
				answer.remember != (log.Len() > 0) {
				t.Errorf("%d copies were asked for; log: %s", n, log)
			}
		})
	}
	cfg := s3Target(before(t, endpoint, func(w http.ResponseWriter, r *http.Request) bool {
		if copies := r.Header.Get("X-Amz-Copy-Source") != ""; !copies {
			return false
		}
		answerError(w, 404, "NoSuchKey") // as s3rver does where it misunderstands the source's name
		return true
	}, nil))
	cfg.Prefix = "404"
	touchOnce(t, storetest.Open(t, cfg).Targets[0])
	s, _ := openFake(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		answerError(w, 404, "NoSuchKey")
	})
	storetest.MustBe(t, s.Targets[0].TouchPack(t.Context(), chunkstore.Sum(nil)),
		chunkstore.ErrAbsent)
}

// TestS3RotatedCredentials: credentials that are replaced in the shared file while the process runs
// are read again when the store refuses those before, by whatever request and in whatever words.
// It is logged once.
func TestS3RotatedCredentials(t *testing.T) {
	for _, answer := range []struct {
		status int
		code   string
	}{{403, "InvalidAccessKeyId"}, {400, "ExpiredToken"}, {403, "SignatureDoesNotMatch"}, {401,
		"Unauthorized"}} {
		t.Run(answer.code, func(t *testing.T) { testRotated(t, answer.status, answer.code) })
	}
}

func testRotated(t *testing.T, status int, code string) {
	var good atomic.Value
	var gets atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet {
			gets.Add(1)
		}
		switch {
		case !strings.Contains(r.Header.Get("Authorization"),
			"Credential="+good.Load().(string)+"/"):
			answerError(w, status, code)
		case r.Method == http.MethodPut && string(body) != "body":
			answerError(w, 400, "IncompleteBody")
		case r.URL.Query().Has("list-type"):
			io.WriteString(w, `<ListBucketResult><Name>b</Name></ListBucketResult>`)
		default:
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		}
	}))
	defer server.Close()
	write := credentialsFile(t)
	write("key0")
	good.Store("key0")
	cfg := s3Target(server.URL)
	cfg.Backoff(2)
	s, log := logged(t, cfg, chunkstore.Options{})
	b := s.Targets[0].Manifests
	for i, call := range []func() error{
		func() error { _, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); return err },
		func() error {
			_, err := b.Put(t.Context(), "k", []byte("body"), chunkstore.Condition{IfMatch: `"e"`})
			return err
		},
		func() error { _, err := b.Stat(t.Context(), "k"); return err },
		func() error {
			return b.List(t.Context(), "", func(chunkstore.Object) bool { return true })
		},
		func() error { return b.Delete(t.Context(), "k") },
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		good.Store(fmt.Sprint("key", i+1))
		if err := call(); err == nil || log.Len() > 0 {
			t.Errorf("%d: refused credentials that are still in the file: %v, log %s", i, err, log)
		}
		write(fmt.Sprint("key", i+1))
		if err := call(); err != nil {
			t.Errorf("%d: after the rotation: %v", i, err)
		}
		if err := call(); err != nil || strings.Count(log.String(), "\n") != 1 ||
			!strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%d: %v, log %s", i, err, log)
		}
	}
	gets.Store(0)
	good.Store("nobody's")
	for range 100 {
		if _, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); err == nil {
			t.Fatal("a refused request succeeds")
		}
	}
	if n := gets.Load(); n != 100 {
		t.Errorf("100 requests with the same bad credentials were sent %d times", n)
	}
}

// credentialsFile makes a new file the only source of credentials, which write replaces.
func credentialsFile(t *testing.T) (write func(key string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	write = func(key string) {
		t.Helper()
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = secret\n",
			key)
		if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600),
			os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
		"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": file,
		"AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	return write
}

// TestS3AnswerBeforeTheBody: a server may refuse a request before it has read its body, and close
// the connection, whose reset drops the answer. It is asked for it.
func TestS3AnswerBeforeTheBody(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var hasty, asked atomic.Int64
	refuse := func(c *net.TCPConn) {
		defer c.Close()
		r, err := http.ReadRequest(bufio.NewReader(c))
		switch {
		case err != nil:
		case r.Header.Get("Expect") == "":
			hasty.Add(1)
			c.SetLinger(0) // a reset, whatever has come
		default:
			asked.Add(1)
			body := "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
			fmt.Fprintf(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n"+
				"Content-Type: application/xml\r\nConnection: close\r\n\r\n%s", len(body), body)
		}
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go refuse(c.(*net.TCPConn))
		}
	}()
	cfg := s3.Config{Region: "r", Endpoint: "http://" + listener.Addr().String()}
	cfg.Backoff(time.Millisecond)
	b, err := s3.NewBucket(cfg, "one", chunkstore.Options{CallsPerSecond: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), "key", make([]byte, 1<<20), chunkstore.Condition{})
	if !errors.Is(err, chunkstore.ErrDenied) {
		t.Errorf("the store denies it, and that is lost: %v", err)
	}
	if hasty.Load() == 0 || hasty.Load() > asked.Load() {
		t.Errorf("%d attempts sent the body at once, and %d asked first; "+
			"want one after each of the others", hasty.Load(), asked.Load())
	}
}
