package s3_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
)

// silentStore opens a target of a server that answers when held is closed, or not at all, and
// returns its log.
func silentStore(t *testing.T, o chunkstore.Options, held <-chan struct{},
	edits ...func(*s3.Config)) (*chunkstore.Store, storetest.LogLines) {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
			w.Header().Set("ETag", `"e"`)
		case <-ended:
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	log := make(storetest.LogLines, 100)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	cfg := s3Target(server.URL)
	for _, edit := range edits {
		edit(cfg)
	}
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{cfg}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// TestSilentStore: of a store that takes its time one line says so, whatever asks it, and one that
// it answers again.
func TestSilentStore(t *testing.T) {
	held := make(chan struct{})
	s, log := silentStore(t, chunkstore.Options{CallsPerSecond: -1, Timeout: time.Hour,
		SilentAfter: time.Millisecond}, held)
	results := make(chan error)
	for range 3 {
		go func() {
			_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
			results <- err
		}()
	}
	line := log.About("s3 bucket")
	for _, part := range []string{"level=WARN", `"store does not answer"`,
		"s3 bucket manifests at http://", `request="get k"`, "given_up_after=1h"} {
		if !strings.Contains(line, part) {
			t.Errorf("the log says %q, without %q", line, part)
		}
	}
	close(held)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	// Between two answers it may be silent for a millisecond, and that is told again.
	for strings.Contains(line, "store does not answer") {
		line = log.About("s3 bucket")
	}
	if !strings.Contains(line, "level=WARN") || !strings.Contains(line, "store answers again") {
		t.Errorf("the log says %q at the end", line)
	}
}

// TestNoAnswer: a store that does not answer is given up, by whatever request, when the request's
// time is over and not that of each attempt; whose own context ends is told that.
func TestNoAnswer(t *testing.T) {
	s, _ := silentStore(t, chunkstore.Options{CallsPerSecond: -1, Timeout: 200 * time.Millisecond},
		nil,
		func(c *s3.Config) { c.Backoff(2) })
	b := s.Targets[0].Manifests
	for name, call := range map[string]func() error{
		"get": func() error {
			_, err := b.Get(t.Context(), "k", chunkstore.GetOptions{})
			return err
		},
		"put": func() error {
			_, err := b.Put(t.Context(), "k", []byte("x"), chunkstore.Condition{})
			return err
		},
		"stat": func() error { _, err := b.Stat(t.Context(), "k"); return err },
		"list": func() error {
			return b.List(t.Context(), "", func(chunkstore.Object) bool { return true })
		},
		"delete": func() error { return b.Delete(t.Context(), "k") },
		"touch":  func() error { return b.(chunkstore.Toucher).Touch(t.Context(), "k") },
	} {
		before := s.Calls()
		err := call()
		storetest.MustBe(t, err, chunkstore.ErrNoAnswer)
		storetest.MustSay(t, err, "no answer in 200ms")
		if n := s.Calls() - before; n > 3 {
			t.Errorf("%s: %d attempts, of which the first two have half of the time each", name, n)
		}
		if errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: %v is ErrAbsent", name, err)
		}
	}
}

// TestSilentCredentials: whoever is to give the credentials has no more time than a store, and is
// told of.
func TestSilentCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[default]\ncredential_process = tail -f /dev/null\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	o := chunkstore.Options{CallsPerSecond: -1, Timeout: 300 * time.Millisecond,
		SilentAfter: time.Millisecond}
	s, log := silentStore(t, o, nil)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
		"AWS_PROFILE":     "",
		"AWS_CONFIG_FILE": file, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
	storetest.MustBe(t, err, chunkstore.ErrNoAnswer)
	storetest.MustSay(t, err, "read the AWS credentials: no answer in 300ms")
	if line := <-log; !strings.Contains(line, "store does not answer") ||
		!strings.Contains(line, "source of the AWS credentials") {
		t.Errorf("the log says %q", line)
	}
}

// TestPacedIsNotSilent: what waits for our own limiter has as much time as it needs.
func TestPacedIsNotSilent(t *testing.T) {
	held := make(chan struct{})
	close(held)
	s, log := silentStore(t, chunkstore.Options{CallsPerSecond: 0.2, Burst: 1,
		Timeout: 4 * time.Second, SilentAfter: 4 * time.Second}, held)
	for range 2 {
		if _, err := s.Targets[0].Manifests.Get(t.Context(), "k",
			chunkstore.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	select {
	case line := <-log:
		t.Errorf("the log says %q", line)
	default:
	}
}
