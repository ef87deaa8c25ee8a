// Package remote_test has several processes, of several machines, use one database that lives in a
// store, while a nemesis strikes them and the store. A machine is a tempdir, by which processes of
// one find each other, and a way to the store.
package remote_test

import (
	"os"
	"testing"

	"verneuil/test/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, TestRounds)) }
