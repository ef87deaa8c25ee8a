// Package vfs is what SQLite sees, in pure Go: the configuration, the engine
// that a process runs for its databases (replicators, followers, status), and
// the meaning of the pragmas. Package cgo binds it to SQLite; verneuilctl uses it
// without SQLite.
//
// # Beliefs
//
// Processes with one configuration mean one spool and one store. Witness: their directories are absolute,
// once parsed. Defeated by relative ones (they are relative to the configuration's file, or refused),
// by variables (refused), and by "~/" where the processes have other homes, as two users or a daemon and a
// shell may: whoever shares a database between them writes the directories out.
//
// It does no cgo: CGO_ENABLED=0 go test ./vfs works.
package vfs
