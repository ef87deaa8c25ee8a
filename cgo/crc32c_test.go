package cgo_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestChecksumForms: the checksum by an instruction is that by the table, on this processor, and on
// arm64 where there are a compiler for it and qemu.
func TestChecksumForms(t *testing.T) {
	for name, tools := range map[string]struct{ cc, runs []string }{
		"native": {[]string{"gcc"}, nil},
		"arm64": {[]string{"aarch64-linux-gnu-gcc", "-static"},
			[]string{"qemu-aarch64-static"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, program := range append(tools.cc[:1:1], tools.runs...) {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("no %s", program)
				}
			}
			forms := filepath.Join(t.TempDir(), "forms")
			argv := append(tools.cc[:len(tools.cc):len(tools.cc)], "-std=gnu11", "-O2", "-Wall",
				"-Wextra", "-Werror", "testdata/crc32c_forms.c", "-o", forms)
			if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			argv = append(tools.runs, forms)
			out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
			if err != nil || len(strings.TrimSpace(string(out))) < 4 {
				t.Errorf("%v: compared: %s", err, out)
			}
		})
	}
}
