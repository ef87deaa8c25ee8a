// Package hosts_test has other programs load the extension: Python, Node and Go, pre-forking
// servers, programs that fork, get signals, give up rights or live in a jail, and VFSes of others.
package hosts_test

import (
	"os"
	"testing"

	"verneuil/test/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, TestForbiddenCallFaults, TestDeadlySignals)) }
