package faults_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"verneuil/test/e2e/harness"
)

// TestFullDisk: the spool lies on a disk that is full at some moment: the application sees
// what it would see without us, and in particular no SIGBUS from a mapped file.
func TestFullDisk(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		s := harness.DirSite(t)
		lines := workload(journal)
		want, sum := stockOutput(s, lines)
		for _, kib := range []int{4, 40, 1100, 2500} {
			t.Run(fmt.Sprintf("%s/%dKiB", journal, kib), func(t *testing.T) {
				s.T = t
				anew(s)
				if err := os.Mkdir(s.Path("spool"), 0o700); err != nil {
					t.Fatal(err)
				}
				err := syscall.Mount("tmpfs", s.Path("spool"), "tmpfs", 0,
					fmt.Sprintf("size=%dk,mode=700", kib))
				if err != nil {
					t.Skipf("cannot mount a small file system: %v", err)
				}
				mounted := true
				unmount := func() {
					if mounted {
						mounted = false
						if err := syscall.Unmount(s.Path("spool"), 0); err != nil {
							t.Errorf("unmount: %v", err)
						}
					}
				}
				defer unmount()
				r := calm(s)
				r.log = "off"
				got := r.run(script(s, "a.db", lines, true), harness.SQLiteShell(t), "-batch")
				if got.Code != 0 || got.Stdout != want || got.Stderr != "" {
					t.Fatalf("the application saw %q, %q, exit code %d; want %q", got.Stdout,
						got.Stderr, got.Code, want)
				}
				unmount()
				recovers(s, words("a full disk"), sum)
			})
		}
		s.T = t
	}
}
