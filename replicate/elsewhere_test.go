package replicate

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"verneuil/manifest"
	"verneuil/replicate/locate"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// taken returns what was written since.
func (l *lockedBuffer) taken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// TestNewHostIsTold: a database of which there are versions under other hosts, and none under
// ours, begins anew, and the log says once where its past may be. What may not be listed, or
// has too much to be listed whole, or is known already, is no matter.
func TestNewHostIsTold(t *testing.T) {
	w := newWorld(t, 1, 2)
	log := &lockedBuffer{}
	var mu sync.Mutex
	lists := 0
	mayList := true
	for _, m := range w.manifests {
		for i := range 9 {
			m.objects[manifest.PlainName(fmt.Sprintf("run-%d", i), w.db)] = []byte("another's")
		}
		m.objects[manifest.PlainName("run-x", w.db+"x")] = []byte("another database")
		m.objects["marker"] = []byte("no manifest")
		m.setFault(func(op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == "list" {
				if lists++; !mayList {
					return errors.New("AccessDenied")
				}
			}
			return nil
		})
	}
	w.options = func(o *Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) }
	flushed := func() string {
		t.Helper()
		r := w.replicator()
		stop := w.run(r)
		w.transact(10)
		w.mustFlush(r)
		stop()
		return log.taken()
	}
	said := flushed()
	if strings.Count(said, "run-0 run-1 run-2 run-3 run-4") != 1 ||
		!strings.Contains(said, "more=4") ||
		strings.Contains(said, "run-x") || !strings.Contains(said, "level=WARN") {
		t.Errorf("the first push says %q", said)
	}
	if lists != 2 {
		t.Errorf("%d lists, want one of each target", lists)
	}
	if said := flushed(); strings.Contains(said, "run-") || lists != 2 {
		t.Errorf("the next push says %q, %d lists", said, lists)
	}
	mayList = false
	for _, m := range w.manifests {
		m.mu.Lock()
		delete(m.objects, manifest.PlainName("host", w.db))
		m.mu.Unlock()
	}
	if err := os.RemoveAll(w.root); err != nil {
		t.Fatal(err)
	}
	w.attach()
	if said := flushed(); strings.Contains(said, "level=WARN") || lists != 4 {
		t.Errorf("a push of who may not list says %q, %d lists", said, lists)
	}
}

// TestLookAroundIsBounded: of a target that has very many databases some are looked at.
func TestLookAroundIsBounded(t *testing.T) {
	w := newWorld(t, 1, 2)
	yields := 0
	w.manifests[0].mu.Lock()
	for i := range 3 * locate.AroundKeys {
		w.manifests[0].objects[manifest.PlainName("h", fmt.Sprint("/", i))] = nil
	}
	w.manifests[0].mu.Unlock()
	target := w.store().Targets[0]
	locate.FirstHoldings(t.Context(), target, "", func(locate.Holding) { yields++ })
	if yields != locate.AroundKeys {
		t.Errorf("%d objects were listed, want %d", yields, locate.AroundKeys)
	}
	if e := locate.LookElsewhere(t.Context(), target, "h", "/x"); len(e.Hosts) > 0 ||
		len(e.Paths) != locate.AroundKeys {
		t.Errorf("elsewhere: hosts %q, %d paths", e.Hosts, len(e.Paths))
	}
}
