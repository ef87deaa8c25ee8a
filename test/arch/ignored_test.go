package arch_test

import (
	"os/exec"
	"testing"
)

// TestIgnoredIsNotTracked: what .gitignore names is not in the source: a checkout would put it
// in the place of what somebody has built there.
func TestIgnoredIsNotTracked(t *testing.T) {
	out, err := exec.Command("git", "-C", "../..", "ls-files", "-ci", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("not a checkout: %v", err)
	}
	if len(out) > 0 {
		t.Errorf("ignored, and tracked:\n%s", out)
	}
}
