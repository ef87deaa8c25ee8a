package keyring_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
)

// TestKeyCommand: a command's output is a key file; what is wrong is said, with its name and what
// it has said itself.
func TestKeyCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	keys := keyring.Generate(day, false)
	if err := os.WriteFile(path, keys.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (chunkstore.Sealer, error) {
		return keyring.Open(keyring.Source{Command: args}, slog.Default())
	}
	s, err := run("/bin/cat", path)
	if err != nil {
		t.Fatal(err)
	}
	if ring, _ := s.Ring(); ring != keys.Ring() {
		t.Error(ring)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"/bin/cat", path + ".not"}, "No such file"},
		{[]string{"/bin/echo", "verneuil"}, "line 1"},
		{[]string{"/bin/true"}, "empty"},
		{[]string{"/nowhere/at/all"}, "no such file"},
		{[]string{"/bin/sh", "-c", "exec head -c 1000000 /dev/zero"}, "longer"},
		{[]string{"/bin/cat", "/dev/zero"}, "longer"}, // and not that it does not end
	} {
		_, err := run(c.args...)
		if err == nil || !strings.Contains(err.Error(), c.says) ||
			!strings.HasPrefix(err.Error(), "key_command "+c.args[0]) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

// TestKeyCommandFails: a command that fails is not run for each who asks. Who has other keys does
// not wait for one that has not ended.
func TestKeyCommandFails(t *testing.T) {
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	script := "echo >>" + runs + "; echo sad >&2; exit 3"
	sad := keyring.Source{Command: []string{"/bin/sh", "-c", script}}
	began := time.Now()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := keyring.Open(sad, nil)
			if err == nil || !strings.Contains(err.Error(), "sad") {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := keyring.Open(sad, nil); err == nil {
		t.Error("it has keys")
	}
	b, err := os.ReadFile(runs)
	if err != nil {
		t.Fatal(err)
	}
	if n, most := len(b), 1+int(time.Since(began)/keyring.FailedInterval); n > most {
		t.Errorf("51 have asked for keys: the command was run %d times, want at most %d", n, most)
	}

	fifo, path := filepath.Join(dir, "fifo"), filepath.Join(dir, "keys")
	err = syscall.Mkfifo(fifo, 0o600)
	if err == nil {
		err = os.WriteFile(path, keyring.Generate(day, false).Encode(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	all.Go(func() { // would time out if the others waited for it
		slow := keyring.Source{Command: []string{"/bin/cat", fifo}}
		if _, err := keyring.Open(slow, nil); err != nil {
			t.Error(err)
		}
	})
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // when the command runs
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []keyring.Source{{File: path}, {Command: []string{"/bin/cat", path}}} {
		if _, err := keyring.Open(other, nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.Write(keyring.Generate(day, false).Encode()); err != nil {
		t.Error(err)
	}
	w.Close()
	all.Wait()
}
