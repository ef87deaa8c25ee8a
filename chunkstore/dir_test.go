package chunkstore_test

import "testing"

func TestDirConformance(t *testing.T) {
	testTarget(t, open(t, dirTarget(t, t.TempDir()+"/made/on demand")).Targets[0])
}
