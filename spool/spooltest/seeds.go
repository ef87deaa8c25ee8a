package spooltest

import (
	"fmt"
	"os"
	"testing"
)

// Seeds returns the range of seeds to run: from and to, or what VERNEUIL_TEST_SEEDS says, as
// "6-600".
func Seeds(t testing.TB, from, to uint64) (uint64, uint64) {
	t.Helper()
	if seeds := os.Getenv("VERNEUIL_TEST_SEEDS"); seeds != "" {
		if _, err := fmt.Sscanf(seeds, "%d-%d", &from, &to); err != nil {
			t.Fatal(err)
		}
	}
	return from, to
}
