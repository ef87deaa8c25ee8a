package dir_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// TestSilentDirectory: a directory in which a Put does not come to its turn, as another process
// hangs with its lock, is told of like a store.
func TestSilentDirectory(t *testing.T) {
	root := t.TempDir()
	log := make(storetest.LogLines, 100)
	o := chunkstore.Options{Log: slog.New(slog.NewTextHandler(log, nil)),
		SilentAfter: time.Millisecond}
	s, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(root)}, o)
	if err != nil {
		t.Fatal(err)
	}
	m := s.Targets[0].Manifests
	storetest.MustPut(t, m, "k", "first", chunkstore.Condition{})
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
	impatient, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{dirTarget(root)},
		chunkstore.Options{Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = impatient.Targets[0].Manifests.Put(t.Context(), "k", []byte("never"),
		chunkstore.Condition{})
	storetest.MustBe(t, err, chunkstore.ErrNoAnswer)
	storetest.MustSay(t, err, filepath.Join(root, "manifests", ".lock"),
		"a process that has it hangs")
	put := make(chan error)
	go func() {
		_, err := m.Put(t.Context(), "k", []byte("second"), chunkstore.Condition{})
		put <- err
	}()
	if line := <-log; !strings.Contains(line, "store does not answer") ||
		!strings.Contains(line, "directory "+root+"/manifests") ||
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
