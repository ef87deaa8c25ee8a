package spool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"verneuil/spool"
)

// Processes that open a database at one time write source.json at one time.
func TestWriteSourceConfigAtOnce(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Create(root, filepath.Join(root, "a.db"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				err := sp.WriteSourceConfig(spool.SourceConfig{Path: sp.Path(),
					Host: fmt.Sprint("host", i, n)})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := spool.ReadSourceConfig(sp.Dir()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left, err := filepath.Glob(filepath.Join(sp.Dir(), "source.json.*")); err != nil ||
		len(left) > 0 {
		t.Errorf("left behind: %q, error %v", left, err)
	}
}
