// Package vfs is what SQLite sees, in pure Go: the configuration, the engine
// that a process runs for its databases, the status, and the log. Package cgo binds it to SQLite;
// verneuilctl uses it without SQLite. It does no cgo: CGO_ENABLED=0 go test ./vfs works.
//
// # Engine
//
// A process has one [Engine]. It is made of
//
//	stores       what is replicated to, and what replicas read from
//	services     the spools that are served: a replicator each, until all is sent
//	sourceFiles  the databases' files that replicators read; when they may be closed
//	children     what forked children, which cannot run Go, have open
//	adoption     spools that nobody serves, and those of databases that were deleted
//	replicas     the sources that are read
//	validations  what VERNEUIL_VALIDATE=1 has found
//	panics       those that were kept from the host
//
// A database that is opened is served. When its last connection is closed, its service drains: it
// sends what is left, at its pace, and then ends, unless the database was opened again. When the
// process ends, all services send what they have, in the time that is left.
//
// # Concurrency
//
// Each part has a mutex of its own, under which no file is looked at and no network is waited
// for: a disk that hangs holds up the databases on it, and no others. Lock order: children,
// services, sourceFiles; the other parts' mutexes are taken alone.
//
// # Beliefs
//
// Processes with one configuration mean one spool and one store. Witness: their directories are
// absolute, once parsed. Defeated by: relative ones (they are relative to the configuration's file,
// or refused), variables (refused), and "~/" where the processes have other homes, as two users or
// a daemon and a shell may. Whoever shares a database between them writes the directories out.
package vfs
