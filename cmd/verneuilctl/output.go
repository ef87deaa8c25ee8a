package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"verneuil/replicate/restore"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// printJSON prints value as one line of JSON.
func printJSON(value any) error {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return out.Encode(value)
}

// table prints rows in columns. It is to be flushed.
type table struct {
	*tabwriter.Writer
	withTarget bool // the last column says which target
}

func newTable(withTarget bool) table {
	return table{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0), withTarget}
}

// row prints one row, of which each cell becomes one line. target is left out unless withTarget.
func (t table) row(target string, cells ...string) {
	if t.withTarget {
		cells = append(cells, target)
	}
	for i := range cells {
		cells[i] = oneLine(cells[i])
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

// humanBytes formats a size for people.
func humanBytes(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// output is the file that a command writes, completely or not at all.
type output struct {
	file  string // empty, or -: stdout
	force bool   // replace what is there
}

// flags adds --out and --force.
func (o *output) flags(command *cobra.Command) {
	command.Flags().StringVarP(&o.file, "out", "o", "", "the file to write (default, or -: stdout)")
	command.Flags().BoolVar(&o.force, "force", false, "replace an existing file")
}

// toStdout reports whether stdout is written.
func (o *output) toStdout() bool { return o.file == "" || o.file == "-" }

// checkDatabase fails if stdout is to have a database, and cannot.
func (o *output) checkDatabase(asJSON bool) error {
	switch {
	case !o.toStdout():
		return nil
	case isTerminal(os.Stdout):
		return errors.New("a database is binary, and stdout a terminal: name a file")
	case asJSON:
		return errors.New("--json needs a file: without one the database goes to stdout")
	}
	return nil
}

// check fails if the file exists and may not be replaced. It is called before all the work, and
// again after it.
func (o *output) check() error {
	if o.toStdout() {
		return nil
	}
	return o.refused(restore.Replaceable(o.file, o.force))
}

// refused adds the remedy to err.
func (o *output) refused(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w (--force replaces it)", err)
	}
	return err
}

// write writes to stdout, or the file so that it appears completely or not at all: temporary file,
// fsync, rename, fsync of the directory.
func (o *output) write(content []byte) error {
	if o.toStdout() {
		_, err := os.Stdout.Write(content)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(o.file), ".verneuilctl-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := restore.PutInPlace(f.Name(), o.file, o.force); err != nil {
		return errors.Join(o.refused(err), os.Remove(f.Name()))
	}
	return nil
}
