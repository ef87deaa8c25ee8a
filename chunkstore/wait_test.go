package chunkstore_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"verneuil/chunkstore"
)

// during is a log whose first message takes long: what happens meanwhile is do.
type during struct {
	slog.Handler
	messages chan string
	do       func()
}

func (d *during) Enabled(context.Context, slog.Level) bool { return true }

func (d *during) Handle(_ context.Context, r slog.Record) error {
	if do := d.do; do != nil {
		d.do = nil
		do()
	}
	d.messages <- r.Message
	return nil
}

type bucketName string

func (n bucketName) String() string { return string(n) }

// TestWatchTellsInOrder: a store answers at the moment in which the log is told that it does not.
func TestWatchTellsInOrder(t *testing.T) {
	log := &during{messages: make(chan string, 2)}
	o := chunkstore.Options{Log: slog.New(log), SilentAfter: time.Millisecond}
	var request *chunkstore.Request
	begun := make(chan struct{})
	log.do = func() {
		<-begun
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			request.End(true)
		}()
		select {
		case <-ended:
		case <-time.After(100 * time.Millisecond): // it waits for this message
		}
	}
	request = chunkstore.NewWatch(o, 1).Begin(bucketName("bucket"), "get", 0, 0)
	close(begun)
	got := []string{<-log.messages, <-log.messages}
	if want := []string{"store does not answer", "store answers again"}; !slices.Equal(got, want) {
		t.Errorf("the log says %q, want %q", got, want)
	}
}

// TestLongBodiesTakeLonger: what moves a pack is not given up in the time that 64 KiB have.
func TestLongBodiesTakeLonger(t *testing.T) {
	const mib, unit = 1 << 20, 1000 * time.Hour
	for bytes, want := range map[int64]time.Duration{0: unit, 1: unit, 64<<10 + 8: unit,
		mib + 64<<10: 2 * unit, 4*mib + 64<<10: 5 * unit} {
		request := chunkstore.NewWatch(chunkstore.Options{}, 1).Begin(bucketName("b"), "get", unit,
			bytes)
		request.End(true)
		if left := request.Left(0); left > want || left < want-unit/2 {
			t.Errorf("%d bytes have %v, want %v", bytes, left, want)
		}
	}
}
