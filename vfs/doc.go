// Package vfs is what SQLite sees, in pure Go: the configuration, the engine
// that a process runs for its databases, the status, and the log. Package cgo binds it to SQLite;
// verneuilctl uses it without SQLite. It does no cgo: CGO_ENABLED=0 go test ./vfs works.
//
// # Engine
//
// A process has one [Engine]. It is made of
//
//	stores       the stores that we replicate to, and that replicas read from
//	services     the spools that are served: a replicator for each, until everything is sent
//	sourceFiles  the database files that replicators read, and when they may be closed
//	children     what forked children, which cannot run Go, have open
//	adoption     spools that nobody serves, and those of databases that were deleted
//	replicas     the sources that are read
//	remotes      the databases in stores
//	validations  what VERNEUIL_VALIDATE=1 has found
//	panics       panics that were kept from the host
//
// We serve each database that is opened. When its last connection is closed, its service drains: it
// sends what is left, at its pace, and then ends, unless the database was opened again. When the
// process ends, all services send what they have, in the time that is left.
//
// # Concurrency
//
// Each part has a mutex of its own. While it holds one, no part looks at a file or waits for the
// network: a disk that hangs holds up only the databases on it. Lock order: children, services,
// sourceFiles; the mutexes of the other parts are taken alone.
//
// # Beliefs
//
// Processes with the same configuration use the same spool and store. Witness: once parsed, its
// directories are absolute. Defeated by: relative ones (they are relative to the configuration's
// file, or refused), variables (refused), and "~/" if the processes have different homes, as two
// users, or a daemon and a shell, may. Whoever shares a database between these writes out the
// directories.
package vfs
