package cgo_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestOverlayIsAFile: what was written on top of a file reads as it does in a plain array, also
// beyond what is kept in memory, and after calls that fail; and the blocks that are listed make the
// same of the file below (O1 to O3). The C file is compiled by itself, with the sanitizers.
func TestOverlayIsAFile(t *testing.T) {
	program := filepath.Join(t.TempDir(), "overlay")
	r := harness.Run(t, nil, "gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
		"-fsanitize=address,undefined", "-fno-sanitize-recover", "-I.", "-I"+harness.GoSQLite(t),
		"-o", program, "overlay.c", filepath.Join("testdata", "overlay.c"))
	if r.Code != 0 {
		t.Fatalf("compile: %s%s", r.Stdout, r.Stderr)
	}
	for _, fail := range []int{0, 7, 50} {
		seed := fmt.Sprint(rand.Uint32())
		r := harness.Run(t, nil, program, seed, "4000", fmt.Sprint(fail))
		if r.Stdout != "ok\n" || r.Code != 0 {
			t.Errorf("overlay %s 4000 %d: exit code %d: %s%s", seed, fail, r.Code, r.Stdout,
				r.Stderr)
		}
	}
}
