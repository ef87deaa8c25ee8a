package dir_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

func TestDirOldTempFilesAreRemoved(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "manifests")
	temps := filepath.Join(dir, ".put")
	old, young := filepath.Join(temps, "old"), filepath.Join(temps, "young")
	if err := os.MkdirAll(temps, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	b := storetest.Open(t, dirTarget(root)).Targets[0].Manifests
	storetest.MustPut(t, b, "key", "a", chunkstore.Condition{})
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old temporary file: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("young temporary file: %v", err)
	}
	if got := storetest.Listed(t, b, "", 10); len(got) != 1 {
		t.Errorf("listed %v", got)
	}
}

// TestPutListsNoObjects: what a Put takes does not grow with the number of objects beside its own.
func TestPutListsNoObjects(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	record := func(i int) string { return chunkstore.LogKeyPrefix + fmt.Sprintf("log-%016x", i) }
	storetest.MustPut(t, target.Chunks, record(0), "", chunkstore.Condition{IfNone: true})
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	logs := filepath.Join(root, "chunks", "logs", "log")
	if _, err := unix.InotifyAddWatch(watch, logs, unix.IN_ACCESS|unix.IN_ONLYDIR); err != nil {
		t.Fatal(err)
	}
	// lists counts calls of getdents, which inotify calls accesses. Those without a name are of the
	// directory itself.
	lists := func() (n int) {
		events := make([]byte, 1<<20)
		got, err := unix.Read(watch, events)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		for events = events[:max(got, 0)]; len(events) > 0; {
			named := int(binary.NativeEndian.Uint32(events[unix.SizeofInotifyEvent-4:]))
			if named == 0 {
				n++
			}
			events = events[unix.SizeofInotifyEvent+named:]
		}
		return n
	}
	for i := range 200 {
		storetest.MustPut(t, target.Chunks, record(i+1), "", chunkstore.Condition{IfNone: true})
	}
	if n := lists(); n != 0 {
		t.Errorf("200 Puts have listed their directory, in %d steps", n)
	}
	if got := storetest.Listed(t, target.Chunks, record(0)[:6], 500); len(got) != 201 ||
		lists() == 0 {
		t.Errorf("%d records listed, which the witness did not see", len(got))
	}
}
