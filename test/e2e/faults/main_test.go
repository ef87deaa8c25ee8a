// Package faults_test has everything go wrong once: calls fail, processes are killed before any
// call, machines crash, disks are full, other programs write to a database or damage its spool.
package faults_test

import (
	"os"
	"testing"

	"verneuil/test/e2e/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, TestFaults, TestFaultsOften, TestFaultsOfMirror, TestFaultsOfLock,
		TestKills, TestKillsOfReplicator, TestKillsOfCommands, TestKillsOfReplicas,
		TestCrashTable, TestReboot, TestSpoolDamaged, TestSpoolReadOnly))
}
