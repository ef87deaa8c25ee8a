package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMakeSaysWhatIsMissing: an old Go, or no compiler, is said before a compiler says it in its
// own words.
func TestMakeSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	toolchain := func(assignment string) (string, error) {
		said, err := exec.CommandContext(t.Context(), "make", "-C", root, "--no-print-directory",
			"toolchain", assignment).CombinedOutput()
		return string(said), err
	}
	goSays := func(inModule string) string {
		return fmt.Sprintf(`[ "$1" = version ] && echo "go version go1.19.8 linux/amd64"; [ "$1" `+
			`= env ] && { %s; }`, inModule)
	}
	for what, c := range map[string]struct{ assignment, want string }{
		"an old Go": {"GO=" + program("go1", goSays("echo go1.19.8")),
			"needs Go 1.26: this is go version go1.19.8"},
		"one that knows no go.mod": {"GO=" + program("go2", goSays("exit 1")),
			"needs Go 1.26: this is go version go1.19.8"},
		"no Go":       {"GO=" + dir + "/none", "needs Go 1.26, and there is no"},
		"no compiler": {"CC=" + dir + "/none", "needs a C compiler"},
		"no headers":  {"CC=" + program("cc", "exit 1"), "libc6-dev"},
	} {
		if said, err := toolchain(c.assignment); err == nil || !strings.Contains(said, c.want) {
			t.Errorf("%s: make says %q, %v; want %q", what, said, err, c.want)
		}
	}
	for _, version := range []string{"go1.26.0", "go1.26.8", "go1.27rc1", "go2.0",
		"devel go1.28-abc"} {
		if said, err := toolchain("GO=" + program("go3", goSays("echo "+version))); err != nil {
			t.Errorf("%s: make says %q", version, said)
		}
	}
}
