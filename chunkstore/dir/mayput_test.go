package dir_test

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"verneuil/chunkstore"
	"verneuil/chunkstore/storetest"
)

// TestMayPut: who may not write to the directory is told so before anything is tried.
func TestMayPut(t *testing.T) {
	root := t.TempDir()
	target := storetest.Open(t, dirTarget(root)).Targets[0]
	if _, err := target.Prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root+"/chunks", 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(root+"/chunks", 0o700) })
	said := make(chan error)
	go func() {
		if os.Geteuid() == 0 { // who may write everywhere: another user, in a thread that ends
			runtime.LockOSThread()
			const nobody = 65534
			if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); no != 0 {
				said <- no
				return
			}
		}
		_, err := target.Prove(t.Context())
		said <- err
	}()
	if err := <-said; !errors.Is(err, chunkstore.ErrDenied) {
		t.Errorf("it says %v", err)
	}
}
