package courier

import (
	"context"
	"sync"
	"testing"

	"verneuil/manifest/history"
)

// newestStore has a newest checkpoint, and nothing else.
type newestStore struct{ history.Store }

func (newestStore) Newest(context.Context, string) (*history.Checkpoint, string, error) {
	return nil, "newest", nil
}

// TestLooksAndPushesAskAtOnce: it takes the race detector to see that a look and a push that ask
// for the newest checkpoint at once disturb each other.
func TestLooksAndPushesAskAtOnce(t *testing.T) {
	s := &lastETag{Store: newestStore{}}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { s.Newest(t.Context(), "") })
	}
	both.Wait()
	if etag := s.etag.Load(); etag != "newest" {
		t.Errorf("%v was kept", etag)
	}
}
