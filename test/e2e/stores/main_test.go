// Package stores_test has stores that fail each request in each way, or that somebody has tampered
// with, and users who must not get at what is not theirs.
package stores_test

import (
	"os"
	"testing"

	"verneuil/test/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, TestStoreFaults, TestTampered)) }
