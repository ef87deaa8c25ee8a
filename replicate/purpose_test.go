package replicate

import (
	"errors"
	"strings"
	"testing"

	"verneuil/chunkstore"
)

// TestAnswersForItsOwnTargetsOnly: who replicates under another host name, or to other targets,
// does not answer for us; when it has ended, we send everything ourselves.
func TestAnswersForItsOwnTargetsOnly(t *testing.T) {
	both := func(w *world) *chunkstore.Store { return w.store() }
	first := func(w *world) *chunkstore.Store { return chunkstore.NewStore(w.store().Targets[0]) }
	for name, c := range map[string]struct {
		host         string
		before, then func(*world) *chunkstore.Store
	}{
		"a target more": {"host", first, both},
		"a target less": {"host", both, first},
		"another host":  {"other", both, both},
		"the same":      {"host", both, both},
		"another target": {"host", first,
			func(w *world) *chunkstore.Store { return chunkstore.NewStore(w.store().Targets[1]) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 2)
			w.options = func(o *Options) { o.Store = c.before(w) }
			r := w.replicator()
			stop := w.run(r)
			w.transact(400)
			w.mustFlush(r)
			w.options = func(o *Options) { o.Store, o.Host = c.then(w), c.host }
			second := w.replicator()
			w.run(second)
			for changed := second.nextChange(); !second.StandsBy(); changed = second.nextChange() {
				<-changed
			}
			err := w.flush(second)
			status := second.Status()
			if name == "the same" {
				if err != nil || !status.UpToDate {
					t.Errorf("%v, %+v", err, status)
				}
				return
			}
			if !errors.Is(err, ErrOtherPurpose) || status.UpToDate ||
				!strings.Contains(status.Error, "host name or to other targets") {
				t.Errorf("flush: %v; status %+v", err, status)
			}
			if name == "a target more" {
				if _, err := w.sync(nil); !errors.Is(err, ErrOtherPurpose) {
					t.Errorf("sync: %v", err)
				}
			}
			stop()
			w.mustFlush(second)
			if c.host != "host" {
				return
			}
			for k, target := range w.store().Targets {
				for _, has := range c.then(w).Targets {
					if target.Name == has.Name {
						w.equal(k, "after the other has ended")
					}
				}
			}
		})
	}
}
