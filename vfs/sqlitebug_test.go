package vfs

import (
	"strings"
	"testing"
)

func TestWALResetBug(t *testing.T) {
	for version, has := range map[string]bool{
		"3.6.23": false, "3.7.0": true, "3.40.1": true, "3.44.5": true, "3.44.6": false,
		"3.45.0": true, "3.50.6": true, "3.50.7": false, "3.51.2": true, "3.51.3": false,
		"3.52.0": false, "3.54.1": false, "4.0.0": false, "": false, "3.x": false,
		"3.8.10.2": true,
	} {
		said := WALResetBug(version)
		if (said != "") != has || has && !strings.Contains(said, "SQLite "+version+" ") {
			t.Errorf("%s: %q, want it to have the bug: %v", version, said, has)
		}
	}
}
