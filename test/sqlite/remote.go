package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// stored is what a run on databases in a store needs besides the programs.
type stored struct {
	extension string // compiled from fixture/remote.c; empty: databases are files
}

// prepare compiles the extension into dir.
func (s *stored) prepare(ctx context.Context, here, dir string) error {
	headers, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/mattn/go-sqlite3").Output()
	if err != nil {
		return fmt.Errorf("find sqlite3ext.h: %w", err)
	}
	s.extension = filepath.Join(dir, "suite_remote.so")
	command := exec.CommandContext(ctx, "gcc", "-shared", "-fPIC", "-Wl,-z,nodelete",
		"-I"+string(bytes.TrimSpace(headers)), "-o", s.extension,
		filepath.Join(here, "fixture", "remote.c"))
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the VFS of the tests: %w\n%s", err, out)
	}
	return os.Chmod(s.extension, 0o755)
}

// environment is what the tests run with in dir: nothing is replicated, and the default VFS is that
// of fixture/remote.c.
func (s *stored) environment(lib, dir string) ([]string, error) {
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o777); err != nil {
		return nil, err
	}
	if err := os.Chmod(state, 0o777); err != nil {
		return nil, err
	}
	return []string{"SUITE_EXTENSION=" + s.extension, "SUITE_LIBRARY=" + lib,
		"SUITE_STATE=" + state, "VERNEUIL_LOG=error",
		fmt.Sprintf(`VERNEUIL_CONFIG={"stores":{"tcl":{"dir":{"path":%q}}},`+
			`"replication_spooling_dir":%q}`, filepath.Join(dir, "store"),
			filepath.Join(dir, "spool"))}, nil
}

// afterRemote looks at the store that the processes have left.
func (r *runner) afterRemote(ctx context.Context, dir string, env []string, o *outcome) error {
	if _, err := os.Stat(filepath.Join(dir, "store")); err != nil {
		o.problems = append(o.problems, "nothing is in the store")
		return nil
	}
	_, stderr, exit, err := r.exec(ctx, dir, env, r.ctl, "verify", "--store", "tcl")
	if err == nil && exit != "" {
		o.problems = append(o.problems, "verneuilctl verify: "+exit+": "+last(stderr))
	}
	return err
}

// remoteSuites are the ways of committing that a database in a store has: each rollback mode, and
// WAL under exclusive locking.
var remoteSuites = []string{"quick", "all-truncate", "all-persist", "all-exclusive", "all-walex",
	"inmemory_journal"}

// remoteExceptions are what may differ where databases live in a store, beside exceptions.
var remoteExceptions = []statement{
	{`.*`, `attach|attach2|backup2|incrvacuum|savepoint|shared|shared3|tkt2409`,
		`.*(attach-(8\.[34]|10\.2)|attach2-4\.|` +
			`backup2-3\.1|incrvacuum-12\.3|savepoint-(5\.4|14|15)\.|shared-[0-9]\.(2\.4|10\.)|` +
			`shared3-2\.8|tkt2409-[23]\.).*`,
		"it expects that a reader keeps a writer from committing, or that one from reading"},
	{`.*`, `attach4|corruptL|e_vacuum|incrvacuum2|vacuum-into`, `.*(attach4-1\.5|corruptL-17\.|` +
		`e_vacuum-1\.3\.3\.2|incrvacuum2-4\.|vacuum-into-600).*`,
		"it sets journal_mode=wal without locking_mode=exclusive, which answers what it was"},
	{`.*`, `a?v?trans|misc1`, `.*(trans-9\.\d+\.[45]-N|misc1-14\.2b)`,
		"it counts the calls of fsync of SQLite's own VFS, or looks for a journal"},
	{`.*`, `backup2|filectrl|incrvacuum`, `.*(backup2-10|filectrl-1\.6|incrvacuum-16\.1)`,
		"it opens a directory in the place of a file, or asks the VFS of a file on disk for its " +
			"temporary file's name, or for mmap"},
	{`.*`, `incrblob3|rdonly`, `.*(incrblob3-7\.2|rdonly-1\.6)`,
		"it writes bytes of the header into the file, which are not stored, or while it is open"},
	{`all-exclusive`, `vacuum2`, `.*vacuum2-2\.2`,
		"it reads the change counter from the file, which readers need, and SQLite has not made"},
	{`.*`, `pageropt|pragma3`, `.*(pageropt-1\.2|pragma3-\w+)`,
		"the first commit to an empty database is shown with another change counter " +
			"than SQLite has written: it drops its page cache once, and data_version counts"},
	{`.*`, `pragma|shared`, `.*(pragma-8\.[12]\..*|shared-[0-9]\.8\.3\.3)`,
		"it has set a lower schema_version than before, or deleted the file, which empties the " +
			"database here: then a cookie is shown that was never shown before"},
}

// remoteNever are files that say nothing of a database in a store, by the reason.
var remoteNever = regexp.MustCompile(`^(` +
	// calls of SQLite's own VFS fail, or are counted
	`.*_?err|.*ioerr.*|diskfull|io|oserror|sync.*|syscall|sysfault|.*fault.*|unlink|tkt2565|` +
	// a VFS above it keeps writes back, which come after SQLITE_FCNTL_SYNC then
	`.*crash.*|async.*|journal[0-9]|atomic.*|` +
	// a VFS above it, or in the place of it, keeps a database in other ways
	`8_3_names|cksumvfs|memdb.*|multiplex.*|quota.*|win32.*|unixexcl|nolock|lock_proxy|` +
	// shared memory
	`wal.*|e_wal.*|snapshot.*|nockpt|external_reader|shmlock|mmap.*|interrupt2|stat|` +
	`tkt-(2d1a5c67d|5d863f876e)|` +
	// they look for a journal, or put one there
	`jrnlmode.*|rollback|tkt3457|delete_db|stmt|symlink|tempdb|pager3|tkt-fc62af4523|pager1|` +
	`zerodamage|` +
	// a reader keeps a writer out, or a writer a reader: here, neither does
	`busy.*|cacheflush|exclusive.*|lock[2-47]?|superlock|shared9|thread1|tkt2854|` +
	`tkt-f3e5abed55|` +
	// bytes of the file are written while it is open, or the file is put away
	`incrcorrupt|corrupt[DF]|pager4|` +
	// they are about the length of the file on disk; bigfile's would be written whole
	`bigfile.*|chunksize` +
	`)\.test$`)

// remoteAlone are files in which a second connection reads, in suites whose first one lets it not:
// here it does; or in which bytes are written while it is open. And those that look at the length
// of a file, which in WAL mode has less than the database.
var remoteAlone = regexp.MustCompile(`^(all-(exclusive|walex) ` +
	`(a?v?trans|corruptB|lock|pragma3|rdonly|savepoint|shared3)|` +
	`all-walex (filefmt|incrvacuum))\.test$`)

// remoteShort are those of CI.
var remoteShort = regexp.MustCompile(`^(quick (attach|attach2|autovacuum|backup|backup2|bigrow|` +
	`corrupt2|delete2|descidx1|filefmt|hook|incrblob|incrblob2|incrvacuum|insert|interrupt|misc4|` +
	`pager2|pagesize|pragma|savepoint|savepoint2|schema|shared|temptrigger|trans|trans2|update|` +
	`uri|vacuum|vacuum2|vacuum-into|zeroblob)|` +
	`all-walex (attach|backup|incrblob|insert|vacuum|vacuum2)|` +
	`all-persist (attach|savepoint|trans|vacuum))\.test$`)

// runRemote reports whether an item of the list is run on databases in a store.
func runRemote(i item, short bool) bool {
	return slices.Contains(remoteSuites, i.suite) && storageFiles.MatchString(i.file) &&
		!remoteNever.MatchString(i.file) && !remoteAlone.MatchString(i.String()) &&
		!strings.Contains(i.file, "malloc") &&
		(!short || remoteShort.MatchString(i.String()))
}
