package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

const (
	libraryName = "libverneuil_vfs.so"
	entryPoint  = "sqlite3_verneuilvfs_init" // SQLite's guess fails if the file was renamed
)

func shellCommand(g *global) *cobra.Command {
	var (
		from       origin
		executable string
		library    string
	)
	command := &cobra.Command{
		Use:   "shell SOURCE [-- ARGUMENTS]",
		Short: "Open a read replica in the sqlite3 shell",
		Long: `Run the sqlite3 shell with the extension loaded and the replica of a database open.
ARGUMENTS go to sqlite3: options, or SQL to run instead of reading it from stdin.`,
		RunE: func(command *cobra.Command, args []string) error {
			// Arguments before the dashes are ours. Without dashes, the first argument is ours,
			// unless a flag names the source.
			own := command.ArgsLenAtDash()
			if own < 0 && from.uri == "" && from.sourcePath == "" {
				own = min(len(args), 1)
			}
			own = max(own, 0)
			if err := atMost(1)(command, args[:own]); err != nil {
				return err
			}
			if err := from.of(args[:own]); err != nil {
				return err
			}
			args = args[own:]
			return fail(shell(command.Context(), g, &from, executable, library, args), "shell",
				from.String())
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	command.Flags().StringVarP(&executable, "executable", "e", "sqlite3", "the sqlite3 shell")
	command.Flags().StringVar(&library, "vfs", "",
		"the extension (default: "+libraryName+" beside verneuilctl or in ../lib)")
	return command
}

// shell replaces this process by sqlite3, once it knows that there is a replica to open. An older
// version has no URI: then shell waits, so that it can remove the manifest's file.
func shell(ctx context.Context, g *global, from *origin, executable, library string,
	args []string) error {
	program, err := exec.LookPath(executable)
	if err != nil {
		return fmt.Errorf("sqlite3 shell: %w (install it, or name it with --executable)", err)
	}
	if library, err = findLibrary(library); err != nil {
		return err
	}
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	found, err := from.fetch(ctx, s)
	if err != nil {
		return err
	}
	uri, err := from.resolve(s.config.Host())
	if err != nil {
		return err
	}
	// sqlite3 opens its first argument that is not an option. With :memory: there, it does not
	// mistake SQL among args for that; .open then closes it.
	argv := func(uri string) []string {
		return append([]string{executable, ":memory:",
			"-cmd", ".load " + shellQuote(library) + " " + entryPoint,
			"-cmd", ".open " + shellQuote(sqliteURI(uri, "verneuil_snapshot")),
		}, args...)
	}
	env := os.Environ()
	if g.config != "" {
		env = setenv(env, "VERNEUIL_CONFIG", g.text())
	}
	if g.level != "" {
		env = setenv(env, "VERNEUIL_LOG", g.level)
	}
	if from.past() {
		stored, err := found.Manifest.Alone().Encode(s.store.Sealer())
		if err != nil {
			return err
		}
		return runWith(stored, func(name string) *exec.Cmd {
			return &exec.Cmd{Path: program, Args: argv(name), Env: env, Stdin: os.Stdin,
				Stdout: os.Stdout, Stderr: os.Stderr}
		})
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, argv(uri), env))
}

// runWith runs a program with the name of a file that has that content, and removes the file.
func runWith(content []byte, run func(name string) *exec.Cmd) error {
	dir, err := os.MkdirTemp("", "verneuilctl-shell-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "manifest")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return err
	}
	// An interrupt is for the shell, which gets it from the terminal as we do.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	return run(name).Run()
}

// setenv replaces a variable: if two have the same name, it is not defined which one counts.
func setenv(env []string, name, value string) []string {
	var others []string
	for _, entry := range env {
		if !strings.HasPrefix(entry, name+"=") {
			others = append(others, entry)
		}
	}
	return append(others, name+"="+value)
}

// findLibrary returns the absolute path of the extension: the one that is named, or that
// beside this program, or that in ../lib.
func findLibrary(named string) (string, error) {
	if named != "" {
		path, err := filepath.Abs(named)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("extension: %w", err)
		}
		return path, nil
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", fmt.Errorf("extension: look beside this program: %w", err)
	}
	dir := filepath.Dir(self)
	for _, path := range []string{filepath.Join(dir, libraryName),
		filepath.Join(dir, "..", "lib", libraryName)} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("extension: %w", err)
		}
	}
	return "", fmt.Errorf("extension: no %s in %s or %s: name it with --vfs", libraryName, dir,
		filepath.Join(dir, "..", "lib"))
}
