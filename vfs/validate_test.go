package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"verneuil/replicate"
	"verneuil/replicate/mirror"
)

func TestValidationCounts(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger("error", &out)
	if err != nil {
		t.Fatal(err)
	}
	v := &validations{log: log}
	if v.status() != nil {
		t.Error("a status of what nobody asked for")
	}
	differs := errors.New("mirror differs")
	unsettled := fmt.Errorf("verify: %w: its journal mode", mirror.ErrUnsettled)
	for _, c := range []struct{ err, want error }{
		{unsettled, nil}, {replicate.ErrStandby, nil}, {differs, differs},
	} {
		if err := v.count("spool", time.Millisecond, c.err); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	// that nothing at all could be validated must not look like success
	v.report()
	if !strings.Contains(out.String(), "no commit could be validated") ||
		!strings.Contains(out.String(), "its journal mode") {
		t.Errorf("logged: %s", out.String())
	}
	if err := v.count("spool", time.Millisecond, nil); err != nil {
		t.Error(err)
	}
	out.Reset()
	v.report()
	if out.Len() > 0 {
		t.Errorf("logged: %s", out.String())
	}
	if s := v.status(); s.Equal != 1 || s.Elsewhere != 1 || s.Unsettled != 1 ||
		len(s.Failures) != 1 {
		t.Errorf("counts: %+v", s)
	}
}

// TestValidationRests: only what takes very long is not done after each commit.
func TestValidationRests(t *testing.T) {
	v := &validations{}
	for range 9 {
		v.count("large", validateBudget/10, nil)
		if v.rests("large") {
			t.Error("within its budget")
		}
	}
	v.count("large", validateBudget, nil)
	if !v.rests("large") || v.rests("small") {
		t.Error("beyond its budget, or another's")
	}
	if s := v.status(); s.Rested != 1 || s.Equal != 10 {
		t.Errorf("counts: %+v", s)
	}
}
