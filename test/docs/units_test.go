package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits: systemd takes the units among the examples.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	units, err := filepath.Glob("../../examples/systemd/*")
	if err != nil || len(units) < 3 {
		t.Fatalf("%d units (%v)", len(units), err)
	}
	dir := t.TempDir()
	var copies []string
	for _, unit := range units {
		b, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// the program and the alert are not installed here
		text := strings.ReplaceAll(string(b), "/usr/local/bin/verneuilctl", "/bin/true")
		text = strings.ReplaceAll(text, "OnFailure=alert@%n.service\n", "")
		name := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, name)
	}
	out, err := exec.Command(analyze, append([]string{"verify"}, copies...)...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verneuil") {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
}
