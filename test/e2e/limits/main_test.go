// Package limits_test measures: memory, disk, descriptors and requests stay within their bounds.
package limits_test

import (
	"os"
	"testing"

	"verneuil/test/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
