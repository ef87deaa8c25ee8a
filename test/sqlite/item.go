package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// programs is what build.sh has left.
type programs struct {
	root, here string
	scripts    string // of mptest, see copyScripts
}

func (p programs) bin(name string) string { return filepath.Join(p.root, "bin", name) }
func (p programs) src() string            { return filepath.Join(p.root, "src") }
func (p programs) suites() string         { return filepath.Join(p.here, "suites.tcl") }

// item is what is run twice and compared.
type item struct {
	suite  string // of suites.tcl; mptest or threadtest3
	file   string
	remote bool // the databases live in a store
}

func (i item) String() string { return i.suite + " " + i.file }

// command returns the item's command line. It is run in a new directory.
func (i item) command(p programs) []string {
	switch i.suite {
	case "mptest":
		script, mode, _ := strings.Cut(i.file, ":")
		return []string{p.bin("mptester"), "mptest.db", filepath.Join(p.scripts, script),
			"--journalmode", mode, "--repeat", "4"}
	case "threadtest3":
		return []string{p.bin("threadtest3"), i.file}
	}
	return []string{p.bin("testfixture"), p.suites(), "run", i.suite, i.file}
}

// onlyUnix is the line that config01.test begins with, an --if without an end: for any other
// VFS that is no script.
const onlyUnix = "--if vfsname() GLOB 'unix'\n"

// copyScripts copies mptest's scripts into a new directory, without onlyUnix.
func (p *programs) copyScripts(dir string) error {
	scripts, err := filepath.Glob(filepath.Join(p.src(), "mptest", "*test"))
	if err != nil {
		return err
	}
	p.scripts = dir
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range scripts {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(b), onlyUnix, "")
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text),
			0o644); err != nil {
			return err
		}
	}
	return nil
}

// fullSuites are run whole: both ways of committing with all files of SQLite's "quick" (its
// everyday tests), the slow ones that concern the VFS, and what permutations.test has for a
// few files at a time. What else is there is about memory, mutexes or the query planner.
var fullSuites = []string{
	"quick", "slow", "all-wal", "wal",
	"exclusive", "exclusive-truncate", "persistent_journal", "persistent_journal_error",
	"truncate_journal",
	"no_journal", "no_journal_error", "autovacuum_crash", "autovacuum_ioerr",
}

// cutSuites bring another journal mode, locking mode or mmap into some 1,100 files each,
// most of which are about the parser, the planner, FTS, R-Tree, JSON, dates and printf, and
// commit the same way all the time. Of each, the files of storageFiles are run.
var cutSuites = []string{
	"all-exclusive", "all-walex", "all-truncate", "all-persist", "mmap", "inmemory_journal",
	"journaltest", "safe_append",
}

// storageFiles are the files whose subject is how a database gets into files and back: the pager
// and the cache, journals, WAL, locks, several connections and processes, faults and crashes,
// corruption, vacuum, attached and temporary databases, savepoints, backup, large rows and blobs,
// pragmas of storage. Not what makes malloc fail: quick has it.
var storageFiles = regexp.MustCompile(`^(8_3_names|aggerror|async.*|atomic.*|attach[0-9]*|` +
	`autovacuum.*|avtrans|backup.*|bigfile.*|bigrow|` +
	`btree.*|busy.*|cacheflush|cacheSpill|changes|chunksize|cksumvfs|conflict|corrupt.*|crash.*|` +
	`createtab|delete.*|descidx.*|` +
	`dbfuzz|dbpage|diskfull|e_vacuum|e_wal.*|exclusive.*|external_reader|filectrl|filefmt|hook.*|` +
	`incrblob.*|incrcorrupt|incrvacuum.*|` +
	`insert|interrupt.*|io|ioerr.*|jrnlmode.*|journal.*|lock.*|memdb.*|memjournal.*|misc[1-7]|` +
	`mmap.*|multiplex.*|nockpt|nolock|` +
	`notify.*|oserror|ovfl|page.*|pagesize|pcache.*|pragma.*|ptrchng|quick|quota.*|rdonly|` +
	`readonly|reservebytes|` +
	`rollback.*|savepoint.*|schema[0-9]*|securedel.*|shared.*|shmlock|shrink|sidedelete|` +
	`skipscan1|snapshot.*|spellfix|stmt.*|` +
	`subjournal|superlock|symlink.*|sync.*|syscall|sysfault|temp.*|thread.*|tkt2(409|565|854|` +
	`920)|tkt3457|tkt-(5d863f876e|9d68c883|f3e5abed55|fc62af4523|2d1a5c67d)|` +
	`trans.*|uri.*|unixexcl|unlink|update|vacuum.*|wal.*|win32.*|writecrash|zeroblob.*|` +
	`zerodamage|nan|e_uri|stat|superjrnl|mjournal)\.test$`)

// runWhole and runCut report whether an item of the list belongs to the whole run.
func runWhole(i item) bool { return slices.Contains(fullSuites, i.suite) }
func runCut(i item) bool {
	return slices.Contains(cutSuites, i.suite) && storageFiles.MatchString(i.file) &&
		!strings.Contains(i.file, "malloc")
}

// shortSuites are part of make test: of each the files of shortFiles.
var shortSuites = []string{"quick", "slow", "all-wal", "wal"}

// shortFiles are those that do most with the file and take little time.
var shortFiles = regexp.MustCompile(`^(aggerror|alter3|attach|attach2|autovacuum|avtrans|backup2|` +
	`bigrow|capi3|` +
	`cacheflush|conflict|corrupt2|crash8|createtab|delete2|enc3|exclusive|exclusive2|filefmt|` +
	`incrblob|incrvacuum|` +
	`index|insert|interrupt|io|ioerr5|journal1|journal2|journal3|lock|lock2|lock5|memjournal|` +
	`misc1|misc4|` +
	`mmap1|multiplex|nolock|pager2|pagesize|pragma|quota|readonly|rollback|rollback2|savepoint|` +
	`savepoint2|` +
	`select1|shared|stmt|superlock|symlink|syscall|sysfault|tempdb|temptrigger|tkt3457|` +
	`tkt-9d68c883|trans|trans3|update|` +
	`vacuum|vacuum2|vacuum4|vacuum5|wal|wal2|wal5|wal6|wal7|wal8|wal9|walbak|walcksum|walhook|` +
	`walmode|walnoshm|` +
	`waloverwrite|walpersist|walro|walro2|walsetlk|walvfs|zerodamage)\.test$`)

var mptests = []string{"crash01.test", "multiwrite01.test", "config01.test", "config02.test"}

var threadtests = []string{
	"walthread1", "walthread2", "walthread3", "walthread4", "walthread5", "cgt_pager_1",
	"dynamic_triggers",
	"checkpoint_starvation_1", "checkpoint_starvation_2", "create_drop_index_1", "lookaside1",
	"vacuum1", "stress1",
	"stress2", "shared1",
}

// items lists what there is to run.
func items(ctx context.Context, p programs, which selection) ([]item, error) {
	all, err := list(ctx, p)
	if err != nil {
		return nil, err
	}
	var found []item
	short := which.short
	for _, i := range all {
		if which.remote {
			if i.remote = true; runRemote(i, short) {
				found = append(found, i)
			}
			continue
		}
		if short && slices.Contains(shortSuites, i.suite) && shortFiles.MatchString(i.file) ||
			!short && (runWhole(i) || runCut(i)) {
			found = append(found, i)
		}
	}
	if which.remote {
		return found, nil
	}
	for _, script := range mptests {
		for _, mode := range []string{"DELETE", "WAL", "PERSIST", "TRUNCATE"} {
			if !short || script == "config02.test" && mode != "PERSIST" && mode != "TRUNCATE" {
				found = append(found, item{suite: "mptest", file: script + ":" + mode})
			}
		}
	}
	if !short {
		for _, test := range threadtests {
			found = append(found, item{suite: "threadtest3", file: test})
		}
	}
	return found, nil
}

func list(ctx context.Context, p programs) ([]item, error) {
	dir, err := os.MkdirTemp("", "sqlite-test-list-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	command := exec.CommandContext(ctx, p.bin("testfixture"), p.suites(), "list")
	command.Dir, command.Stderr = dir, os.Stderr
	command.Env = append(os.Environ(), "SUITE_SRC="+p.src())
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	var all []item
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		suite, file, ok := strings.Cut(lines.Text(), " ")
		if ok && strings.HasSuffix(file, ".test") {
			all = append(all, item{suite: suite, file: file})
		}
	}
	slices.SortFunc(all, func(a, b item) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all), nil
}
