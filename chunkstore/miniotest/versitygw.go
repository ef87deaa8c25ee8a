package miniotest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// StartVersity is [Start] of a versitygw, which is in VERNEUIL_VERSITYGW or in .tools/bin of the
// module, where `make bench` puts it; without one the test is skipped. Its region is region.
func StartVersity(tb testing.TB, region string) (endpoint string) {
	tb.Helper()
	program := findVersity(tb)
	setCredentials(tb)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(tb))
	command := exec.Command(program, "--port", address, "--access", AccessKey,
		"--secret", SecretKey, "--region", region, "posix", tb.TempDir())
	answers := func(int) bool { return true }
	s, err := serve(command, address, "", answers)
	if err != nil {
		tb.Fatalf("start versitygw: %v", err)
	}
	tb.Cleanup(s.Stop)
	return s.Endpoint
}

func findVersity(tb testing.TB) string {
	tb.Helper()
	if program := os.Getenv("VERNEUIL_VERSITYGW"); program != "" {
		return program
	}
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		program := filepath.Join(dir, ".tools", "bin", "versitygw")
		if _, err := exec.LookPath(program); err == nil {
			return program
		}
	}
	tb.Skip("no versitygw: `make bench` installs one in .tools/bin, or name one in " +
		"VERNEUIL_VERSITYGW")
	return ""
}
