package chunkstore_test

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

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
)

// logLines is a log whose lines can be waited for.
type logLines chan string

func (l logLines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// about waits for a line that holds part. (That the credentials are read may take its time, too.)
func (l logLines) about(part string) string {
	for {
		if line := <-l; strings.Contains(line, part) {
			return line
		}
	}
}

// silentStore opens a target of a server that answers when held is closed, or not at all, and
// returns its log.
func silentStore(t *testing.T, o chunkstore.Options, held <-chan struct{}) (*chunkstore.Store, logLines) {
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
	log := make(logLines, 100)
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{s3Target(server.URL)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// TestSilentStore: of a store that takes its time one line says so, whatever asks it, and one that it
// answers again.
func TestSilentStore(t *testing.T) {
	held := make(chan struct{})
	s, log := silentStore(t, chunkstore.Options{CallsPerSecond: -1, Timeout: time.Hour}.WithSilentAfter(time.Millisecond), held)
	results := make(chan error)
	for range 3 {
		go func() {
			_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
			results <- err
		}()
	}
	line := log.about("s3 bucket")
	for _, part := range []string{"level=WARN", `"store does not answer"`, "s3 bucket manifests at http://", `request="get k"`, "given_up_after=1h"} {
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
	if line := log.about("s3 bucket"); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "store answers again") {
		t.Errorf("the log says %q at the end", line)
	}
}

// TestSilentDirectory: a directory in which a Put does not come to its turn, as another process hangs
// with its lock, is told of like a store.
func TestSilentDirectory(t *testing.T) {
	root := t.TempDir()
	log := make(logLines, 100)
	o := chunkstore.Options{Log: slog.New(slog.NewTextHandler(log, nil))}.WithSilentAfter(time.Millisecond)
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(t, root)}, o)
	if err != nil {
		t.Fatal(err)
	}
	m := s.Targets[0].Manifests
	mustPut(t, m, "k", "first", chunkstore.Condition{})
	for len(log) > 0 { // a slow disk
		<-log
	}
	lock, err := os.Open(filepath.Join(root, "manifests", ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	impatient, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(t, root)}, chunkstore.Options{Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = impatient.Targets[0].Manifests.Put(t.Context(), "k", []byte("never"), chunkstore.Condition{})
	mustBe(t, err, chunkstore.ErrNoAnswer)
	mustSay(t, err, filepath.Join(root, "manifests", ".lock"), "a process that has it hangs")
	put := make(chan error)
	go func() {
		_, err := m.Put(t.Context(), "k", []byte("second"), chunkstore.Condition{})
		put <- err
	}()
	if line := <-log; !strings.Contains(line, "store does not answer") || !strings.Contains(line, "directory "+root+"/manifests") ||
		!strings.Contains(line, `request="put k"`) || strings.Contains(line, "given_up_after") {
		t.Errorf("the log says %q", line)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := <-put; err != nil {
		t.Fatal(err)
	}
	if line := <-log; !strings.Contains(line, "store answers again") {
		t.Errorf("the log says %q at the end", line)
	}
}

// TestNoAnswer: a store that does not answer is given up, by whatever request, when the request's
// time is over and not that of each attempt; whose own context ends is told that.
func TestNoAnswer(t *testing.T) {
	s, _ := silentStore(t, chunkstore.Options{CallsPerSecond: -1, Timeout: 200 * time.Millisecond}.WithS3Backoff(2), nil)
	b := s.Targets[0].Manifests
	for name, call := range map[string]func() error{
		"get":    func() error { _, err := b.Get(t.Context(), "k", chunkstore.GetOptions{}); return err },
		"put":    func() error { _, err := b.Put(t.Context(), "k", []byte("x"), chunkstore.Condition{}); return err },
		"stat":   func() error { _, err := b.Stat(t.Context(), "k"); return err },
		"list":   func() error { return b.List(t.Context(), "", func(chunkstore.Object) bool { return true }) },
		"delete": func() error { return b.Delete(t.Context(), "k") },
		"touch":  func() error { return b.(chunkstore.Toucher).Touch(t.Context(), "k") },
	} {
		before := s.Calls()
		err := call()
		mustBe(t, err, chunkstore.ErrNoAnswer)
		mustSay(t, err, "no answer in 200ms")
		if n := s.Calls() - before; n > 3 {
			t.Errorf("%s: %d attempts, of which the first two have half of the time each", name, n)
		}
		if errors.Is(err, chunkstore.ErrAbsent) {
			t.Errorf("%s: %v is ErrAbsent", name, err)
		}
	}
}

// TestSilentCredentials: whoever is to give the credentials has no more time than a store, and is told of.
func TestSilentCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[default]\ncredential_process = tail -f /dev/null\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := chunkstore.Options{CallsPerSecond: -1, Timeout: 300 * time.Millisecond}.WithSilentAfter(time.Millisecond)
	s, log := silentStore(t, o, nil)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": file, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	_, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{})
	mustBe(t, err, chunkstore.ErrNoAnswer)
	mustSay(t, err, "read the AWS credentials: no answer in 300ms")
	if line := <-log; !strings.Contains(line, "store does not answer") || !strings.Contains(line, "source of the AWS credentials") {
		t.Errorf("the log says %q", line)
	}
}

// TestPacedIsNotSilent: what waits for our own limiter has as much time as it needs.
func TestPacedIsNotSilent(t *testing.T) {
	held := make(chan struct{})
	close(held)
	s, log := silentStore(t, chunkstore.Options{CallsPerSecond: 0.2, Burst: 1, Timeout: 4 * time.Second}.WithSilentAfter(4*time.Second), held)
	for range 2 {
		if _, err := s.Targets[0].Manifests.Get(t.Context(), "k", chunkstore.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	select {
	case line := <-log:
		t.Errorf("the log says %q", line)
	default:
	}
}
