package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/spf13/cobra"

	"verneuil/chunkstore/keyring"
	"verneuil/chunkstore/probe"
	"verneuil/vfs"
)

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	readOnly, all, asJSON bool
}

func doctorCommand(g *global) *cobra.Command {
	var o doctorFlags
	command := &cobra.Command{
		Use:        "doctor [--read-only]",
		SuggestFor: []string{"diagnose", "health", "probe"},
		Short:      "Find out what is wrong with the targets, the stores, and this host",
		Long: `Look at each target and store of the configuration, and at this host, and print what is
unsafe, or not as it should be, and what to do about it: reach and credentials, rights that
are missing, and those that a writer need not have, the conditions of writes, one after
another and at once, lists, ranges, checksums, versioning, object lock, lifecycle rules,
public access, clocks, and speed; the spool's file system, directories, limits, and the
SQLite that is installed.

It puts a few small objects, and one of 4 MiB, and deletes them again, if it may; with
--read-only it puts nothing, and finds less. The exit code is 1 if something is unsafe.`,
		Args: atMost(0),
		RunE: func(command *cobra.Command, _ []string) error {
			return fail(doctor(command.Context(), g, o), "doctor")
		},
	}
	command.Flags().BoolVar(&o.readOnly, "read-only", false, "put no objects")
	command.Flags().BoolVar(&o.all, "all", false, "print also what is as it should be")
	command.Flags().BoolVar(&o.asJSON, "json", false,
		"print one JSON object per finding, also of what is as it should be")
	return command
}

func doctor(ctx context.Context, g *global, o doctorFlags) error {
	config, err := g.parse()
	if err != nil {
		return err
	}
	found := append(config.CheckHost(), checkSQLite(ctx)...)
	found = append(found, checkForks()...)
	s, err := g.open(ctx)
	if err == nil {
		defer s.Close()
		var some []probe.Finding
		some, err = s.examine(ctx, g, o)
		found = append(found, some...)
	} else if isUnsafe(found, "keys") { // that is why
		err = nil
	}
	if err != nil {
		return err
	}
	if err := printFindings(found, o); err != nil {
		return err
	}
	unsafe := 0
	for _, f := range found {
		if f.Level == probe.Unsafe {
			unsafe++
		}
	}
	if unsafe > 0 {
		return fmt.Errorf("unsafe findings: %d", unsafe)
	}
	return nil
}

// isUnsafe reports whether check was found to be unsafe.
func isUnsafe(found []probe.Finding, check string) bool {
	return slices.ContainsFunc(found, func(f probe.Finding) bool {
		return f.Level == probe.Unsafe && f.Check == check
	})
}

// examine looks at the targets and stores. A store of which the keys cannot be read is left out:
// the host's finding says it.
func (s *session) examine(
	ctx context.Context, g *global, o doctorFlags,
) (found []probe.Finding, err error) {
	for _, t := range s.store.Targets {
		some, err := probe.Target(ctx, t, probe.Options{
			Write: !o.readOnly, PatrolDays: s.config.PatrolDays,
		})
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	for _, name := range s.config.Remote.Names() {
		if keys, own := s.config.Remote.Keys[name]; own {
			if _, err := keyring.Open(keys, s.log); err != nil {
				continue
			}
		}
		some, err := s.examineStore(ctx, name, o)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	if len(s.store.Targets) == 0 && len(s.config.Remote.Stores) == 0 {
		found = append(found, probe.Finding{Level: probe.Unsafe, Where: "configuration",
			Check: "targets", Text: g.errNoTargets().Error(),
			Remedy: "see docs/configuration.md"})
	}
	return found, nil
}

// examineStore looks at a store that databases live in.
func (s *session) examineStore(
	ctx context.Context, name string, o doctorFlags,
) ([]probe.Finding, error) {
	store, err := s.config.OpenNamedStore(ctx, name, s.log)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return probe.Target(ctx, store.Targets[0], probe.Options{Write: !o.readOnly, Lives: true})
}

func printFindings(found []probe.Finding, o doctorFlags) error {
	if o.asJSON {
		for _, f := range found {
			if err := printJSON(f); err != nil {
				return err
			}
		}
		return nil
	}
	// A finding is too long for a column: it has lines of its own, below those of the table.
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "LEVEL\tCHECK\tWHERE")
	fine := 0
	for _, f := range found {
		if f.Level == probe.OK && !o.all {
			fine++
			continue
		}
		fmt.Fprintf(out, "%s\t%s\t%s\n", f.Level, f.Check, oneLine(f.Where))
		fmt.Fprintf(out, "\t%s\n", oneLine(f.Text))
		if f.Remedy != "" {
			fmt.Fprintf(out, "\tremedy: %s\n", oneLine(f.Remedy))
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if fine > 0 {
		_, err := fmt.Printf("%d checks found nothing (--all shows them)\n", fine)
		return err
	}
	return nil
}

// sqliteTime bounds how long a sqlite3 shell may take to say what it is.
const sqliteTime = 10 * time.Second

// checkSQLite says which SQLite this program has, which sync uses, and the sqlite3 shell. Programs
// may bring others: verneuil_status() says which.
func checkSQLite(ctx context.Context) []probe.Finding {
	version, _, _ := sqlite3.Version()
	found := []probe.Finding{sqliteFinding("verneuilctl", version)}
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, sqliteTime)
	defer cancel()
	said, err := exec.CommandContext(ctx, shell, "-batch", "-init", os.DevNull, ":memory:",
		"select sqlite_version(); pragma compile_options;").Output()
	if err != nil {
		return append(found, probe.Finding{Level: probe.Note, Where: shell, Check: "SQLite",
			Text: "it does not run: " + err.Error()})
	}
	lines := strings.Fields(string(said))
	if len(lines) > 0 {
		found = append(found, sqliteFinding(shell, lines[0]))
	}
	for _, option := range lines {
		if option == "OMIT_LOAD_EXTENSION" {
			found = append(found, probe.Finding{Level: probe.Warning, Where: shell, Check: "SQLite",
				Text: "it was built without the loading of extensions " +
					"(SQLITE_OMIT_LOAD_EXTENSION)",
				Remedy: "use another build, or back up with verneuilctl sync"})
		}
	}
	return found
}

func sqliteFinding(where, version string) probe.Finding {
	if said := vfs.WALResetBug(version); said != "" {
		return probe.Finding{Level: probe.Warning, Where: where, Check: "SQLite", Text: said,
			Remedy: "update SQLite: see docs/operations.md, The WAL-reset bug"}
	}
	return probe.Finding{Level: probe.OK, Where: where, Check: "SQLite", Text: version}
}

// checkForks finds processes that have the extension and were forked from one that has it, too:
// they record, and it sends for them.
func checkForks() (found []probe.Finding) {
	all, _ := filepath.Glob("/proc/[0-9]*/maps") // fails only for a bad pattern
	with := make(map[int]bool)
	for _, maps := range all {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(maps)))
		if err == nil && hasLibrary(maps) {
			with[pid] = true
		}
	}
	for pid := range with {
		if parent := parentOf(pid); with[parent] {
			found = append(found, probe.Finding{Level: probe.Note, Where: fmt.Sprintf("process %d",
				pid),
				Check: "fork", Text: fmt.Sprintf("it was forked from %d, which sends what it "+
					"records", parent), Remedy: "nothing, while that process lives and commits; " +
					"else " +
					"open databases after the fork: see docs/operations.md, Limits"})
		}
	}
	return found
}

// hasLibrary reports whether a process, whose /proc/PID/maps that is, has the extension.
func hasLibrary(maps string) bool {
	f, err := os.Open(maps)
	if err != nil {
		return false // another user's, or gone
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "libverneuil_vfs") {
			return true
		}
	}
	return false
}

// parentOf returns the ID of a process' parent; 0: nobody knows.
func parentOf(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ := strconv.Atoi(strings.TrimSpace(text))
			return parent
		}
	}
	return 0
}
