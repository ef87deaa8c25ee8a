package vfs

import (
	"os/exec"
	"path/filepath"
	"testing"

	"verneuil/spool"
)

// TestChildren: what children have open is served until it is closed, or they are dead; a
// name that leads elsewhere is not.
func TestChildren(t *testing.T) {
	root := t.TempDir()
	e := newTestEngine(&Config{ReplicationSpoolingDir: root})
	opens := func(name string, want int) {
		t.Helper()
		e.services.mu.Lock()
		defer e.services.mu.Unlock()
		got := -1
		if s := e.services.of[filepath.Join(root, name)]; s != nil {
			got = s.opens
		}
		if got != want {
			t.Errorf("%s: %d connections, want %d", name, got, want)
		}
	}
	self, err := spool.Self()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../x", "/etc", "a/b"} {
		e.Child(uint64(self), name, true)
	}
	if len(e.services.of) != 0 || len(e.children.of) != 0 {
		t.Errorf("served: %v", e.services.of)
	}
	e.Child(uint64(self), "a", false) // never opened
	opens("a", -1)
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	dead := uint64(child.Process.Pid) << 32
	for range 2 {
		e.Child(uint64(self), "a", true)
		e.Child(dead, "a", true)
		e.Child(dead, "b", true)
	}
	opens("a", 4)
	opens("b", 2)
	e.Child(uint64(self), "a", false)
	opens("a", 3)
	e.children.forgetDead()
	opens("a", 1)
	opens("b", 0)
	e.Child(dead, "a", false) // too late
	opens("a", 1)
	e.Child(uint64(self), "a", false)
	opens("a", 0)
	if len(e.children.of) != 0 {
		t.Errorf("children: %v", e.children.of)
	}
}
