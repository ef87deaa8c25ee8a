package librados_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/cgo/librados"
	"verneuil/test/cephtest"
)

// TestShutdown: when it returns, no thread of librados is left, whoever was connecting; and nobody
// begins to connect any more, who would find globals that exit() is destroying.
func TestShutdown(t *testing.T) {
	c := cephtest.Shared(t)
	for i := range 5 + watched {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestShutdownChild$")
		cmd.Env = append(append(os.Environ(), c.Env("")...), fmt.Sprintf("SHUTDOWN_AFTER=%d", i))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("after %d: %v\n%s", i, err, out)
		}
	}
}

// watched is how many processes of TestShutdown watch.
const watched = 3

// watching begins and ends watches, and tells what is watched something, until the client has
// ended. It returns when that has been done a few times.
func watching(ctx context.Context, c *librados.Cluster) {
	id, err := c.PoolID(ctx, cephtest.Pool)
	if err != nil {
		return // somebody else is in the midst of it
	}
	io, err := c.IO(ctx, id, "")
	if err != nil {
		return
	}
	done := make(chan bool)
	for i := range 8 {
		go func() {
			name := fmt.Sprintf("watched-%d", i)
			_, err := io.Write(ctx, name, new(librados.WriteOp).Create(false))
			for err == nil {
				var w *librados.Watch
				w, err = io.Watch(ctx, name, 0, func([]byte) {}, func(error) {})
				if err == nil {
					go io.Notify(ctx, name, nil, time.Minute)
					w.Close()
				}
				select {
				case done <- true:
				default:
				}
			}
		}()
	}
	for range 20 {
		<-done
	}
}

// TestShutdownChild is a process of [TestShutdown]. It shuts down when so many have connected; if
// that is more than there are, when all are in the midst of watching.
func TestShutdownChild(t *testing.T) {
	var after int
	if _, err := fmt.Sscan(os.Getenv("SHUTDOWN_AFTER"), &after); err != nil {
		t.SkipNow()
	}
	before := threads(t)
	const all = 4
	connected, ready := make(chan error, all), make(chan bool, all)
	var connects sync.WaitGroup
	for range all {
		connects.Go(func() {
			c, err := librados.Connect(context.Background(), librados.Options{})
			if err == nil && after == 1 {
				go c.Close() // whoever ends it, it has ended then
			}
			connected <- err
			if err == nil && after > all {
				go func() {
					watching(context.Background(), c)
					ready <- true
				}()
			}
		})
	}
	for range min(after, all) {
		mustBe(t, <-connected, nil)
	}
	if after > all {
		<-ready
	}
	librados.Shutdown(t.Context())
	if now := threads(t); !slices.Equal(before, now) {
		t.Errorf("threads %v, and before %v", now, before)
	}
	connects.Wait()
	_, err := librados.Connect(t.Context(), librados.Options{Conf: "/no/such/file",
		Timeout: time.Minute})
	mustBe(t, err, librados.ErrClosed)
}

// threads returns the names of the threads of librados.
func threads(t *testing.T) (names []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/comm")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if name, err := os.ReadFile(task); err == nil && string(name) != string(own) {
			names = append(names, strings.TrimSpace(string(name)))
		}
	}
	return names
}
