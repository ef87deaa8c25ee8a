package chunkstore_test

import "testing"

func TestDirConformance(t *testing.T) {
	target := open(t, dirTarget(t, t.TempDir()+"/made/on demand")).Targets[0]
	testTarget(t, target)
	testLongKeys(t, target.Manifests) // MinIO refuses keys of more than 255 bytes without a slash
}
