package vfs

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestCalm: what is repeated is said once a minute, with how often it was; what is about
// something else is said.
func TestCalm(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	log := slog.New(newCalm(slog.NewTextHandler(&out, nil), func() time.Time { return now }))
	said := func() int {
		n := strings.Count(out.String(), "\n")
		return n
	}
	for i := range 100 {
		log.Warn("lost", "spool", "a", "error", i)
	}
	log.With("spool", "b").Warn("lost")
	log.With("spool", "a").Warn("lost") // the same thing, named otherwise
	log.Error("lost", "spool", "a")
	if said() != 3 {
		t.Errorf("%d lines, want 3: %s", said(), out.String())
	}
	out.Reset()
	now = now.Add(calmPeriod)
	log.Warn("lost", "spool", "a")
	if want := "repeated=100"; said() != 1 || !strings.Contains(out.String(), want) {
		t.Errorf("want one line with %s: %s", want, out.String())
	}
}

// TestCalmIsBounded: however many things are logged, no more than calmMost are remembered.
func TestCalmIsBounded(t *testing.T) {
	p := &passed{of: make(map[string]*repeated)}
	for i := range 3 * calmMost {
		if _, passes := p.passes(fmt.Sprint(i), time.Unix(0, 0)); !passes {
			t.Fatalf("%d was held back, and is new", i)
		}
	}
	if len(p.of) > calmMost {
		t.Errorf("%d are remembered, want at most %d", len(p.of), calmMost)
	}
}
