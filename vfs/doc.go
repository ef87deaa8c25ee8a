// Package vfs is what SQLite sees, in pure Go: the configuration, the engine
// that a process runs for its databases (replicators, followers, status), and
// the meaning of the pragmas. Package cgo binds it to SQLite; verneuilctl uses it
// without SQLite.
//
// It does no cgo: CGO_ENABLED=0 go test ./vfs works.
package vfs
