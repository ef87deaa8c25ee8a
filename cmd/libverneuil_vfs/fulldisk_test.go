package main_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestFullDisk: the spool lies on a disk that is full at some moment: the application sees
// what it would see without us, and in particular no SIGBUS from a mapped file.
func TestFullDisk(t *testing.T) {
	for _, journal := range []string{"delete", "wal"} {
		s := dirSite(t)
		lines := workload(journal)
		want, sum := s.stockOutput(lines)
		for _, kib := range []int{4, 40, 1100, 2500} {
			t.Run(fmt.Sprintf("%s/%dKiB", journal, kib), func(t *testing.T) {
				s.t = t
				s.anew()
				if err := os.Mkdir(s.path("spool"), 0o700); err != nil {
					t.Fatal(err)
				}
				err := syscall.Mount("tmpfs", s.path("spool"), "tmpfs", 0, fmt.Sprintf("size=%dk,mode=700", kib))
				if err != nil {
					t.Skipf("cannot mount a small file system: %v", err)
				}
				mounted := true
				unmount := func() {
					if mounted {
						mounted = false
						if err := syscall.Unmount(s.path("spool"), 0); err != nil {
							t.Errorf("unmount: %v", err)
						}
					}
				}
				defer unmount()
				r := s.calm()
				r.log = "off"
				got := r.run(s.script("a.db", lines, true), sqliteShell(t), "-batch")
				if got.code != 0 || got.stdout != want || got.stderr != "" {
					t.Fatalf("the application saw %q, %q, exit code %d; want %q", got.stdout, got.stderr, got.code, want)
				}
				unmount()
				s.recovers(words("a full disk"), sum)
			})
		}
		s.t = t
	}
}
