package main

import "verneuil/vfs"

// What every package says of itself.
const (
	name       = "verneuil"
	version    = vfs.Version
	summary    = "replicated SQLite databases, on S3 or in a directory"
	maintainer = "Verneuil developers <verneuil@localhost>"
	license    = "MIT"
	// description has paragraphs of whole lines.
	description = `A SQLite extension that replicates a live database to S3, or to a
directory, and read replicas that fetch only what a query touches. The
application keeps its ordinary local database and its speed. Every commit
goes out in the background.

The tool verneuilctl backs up, restores, verifies and inspects them.`
)
