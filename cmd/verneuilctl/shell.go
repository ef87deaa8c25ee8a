package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
)

const (
	libraryName = "libverneuil_vfs.so"
	entryPoint  = "sqlite3_verneuilvfs_init" // SQLite's guess fails if the file was renamed
)

// shellFlags are the flags of shell.
type shellFlags struct {
	executable, library string
	readOnly            bool
}

func shellCommand(g *global) *cobra.Command {
	var (
		from  origin
		flags shellFlags
	)
	command := &cobra.Command{
		Use:   "shell SOURCE [-- ARGUMENTS]",
		Short: "Open a read replica, or a database in a store, in the sqlite3 shell",
		Long: `Run the sqlite3 shell with the extension loaded and the replica of a database open; or,
if SOURCE is file:///STORE/path.db, the database itself, to read and to write, unless
--readonly is given. ARGUMENTS go to sqlite3: options, or SQL to run instead of reading it
from stdin.`,
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
			return fail(shell(command.Context(), g, &from, flags, args), "shell", from.String())
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	command.Flags().StringVarP(&flags.executable, "executable", "e", "sqlite3", "the sqlite3 shell")
	command.Flags().StringVar(&flags.library, "vfs", "",
		"the extension (default: "+libraryName+" beside verneuilctl or in ../lib)")
	command.Flags().BoolVar(&flags.readOnly, "readonly", false,
		"open a database in a store for reading only")
	return command
}

// shell replaces this process by sqlite3, once it knows that there is something to open. An older
// version has no URI: then shell waits, so that it can remove the manifest's file.
func shell(
	ctx context.Context, g *global, from *origin, flags shellFlags, args []string,
) error {
	program, err := exec.LookPath(flags.executable)
	if err != nil {
		return fmt.Errorf("sqlite3 shell: %w (install it, or name it with --executable)", err)
	}
	if flags.library, err = findLibrary(flags.library); err != nil {
		return err
	}
	s, err := from.open(ctx, g)
	if err != nil {
		return err
	}
	defer s.Close()
	found, err := from.fetch(ctx, s)
	if err != nil {
		return err
	}
	uri, object, err := from.sqlite(s, flags.readOnly)
	if err != nil {
		return err
	}
	env, err := s.shellEnv(g, object || from.past())
	if err != nil {
		return err
	}
	if from.past() {
		stored, err := found.Manifest.Alone().Encode(s.store.Sealer())
		if err != nil {
			return err
		}
		return runWith(stored, func(name string) *exec.Cmd {
			argv := flags.argv(sqliteURI(name, "verneuil_snapshot"), args)
			return &exec.Cmd{Path: program, Args: argv, Env: env, Stdin: os.Stdin,
				Stdout: os.Stdout, Stderr: os.Stderr}
		})
	}
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, flags.argv(uri, args), env))
}

// argv is sqlite3's. It opens its first argument that is not an option. With :memory: there, it
// does not mistake SQL among args for that; .open then closes it.
func (f shellFlags) argv(uri string, args []string) []string {
	return append([]string{f.executable, ":memory:",
		"-cmd", ".load " + shellQuote(f.library) + " " + entryPoint,
		"-cmd", ".open " + shellQuote(uri),
	}, args...)
}

// sqlite returns the URI by which SQLite opens the newest version; object says that it names a
// manifest.
func (o *origin) sqlite(s *session, readOnly bool) (uri string, object bool, err error) {
	address, inStore, err := locate.ParseAddressURI(o.uri, s.config.Remote.Has)
	switch {
	case err != nil:
		return "", false, err
	case inStore && readOnly:
		return sqliteURI("//"+address.Name(), "verneuil_remote") + "&mode=ro", false, nil
	case inStore:
		return sqliteURI("//"+address.Name(), "verneuil_remote") + "&mode=rw", false, nil
	}
	uri, err = o.resolve(s.config.Host())
	return sqliteURI(uri, "verneuil_snapshot"), true, err
}

// shellEnv returns the environment of the shell. What a manifest's object names is in the targets
// of the shell's configuration: where that is a store, it gets one of its own.
func (s *session) shellEnv(g *global, object bool) ([]string, error) {
	env, text := os.Environ(), g.text()
	if s.name != "" && object {
		config := struct {
			Targets chunkstore.TargetConfigs `json:"replication_targets"`
			TempDir *string                  `json:"tempdir"`
		}{Targets: s.config.TargetsOf(s.name)}
		if s.config.TempDir != "" {
			config.TempDir = &s.config.TempDir
		}
		b, err := json.Marshal(config)
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	if text != "" {
		env = setenv(env, "VERNEUIL_CONFIG", text)
	}
	if g.level != "" {
		env = setenv(env, "VERNEUIL_LOG", g.level)
	}
	return env, nil
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

// multiarch are the directories below lib in which Debian keeps the libraries of a processor.
var multiarch = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// findLibrary returns the absolute path of the extension: the one that is named, or that
// beside this program, or that in ../lib, or where Debian has it.
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
	lib := filepath.Join(dir, "..", "lib")
	for _, path := range []string{filepath.Join(dir, libraryName), filepath.Join(lib, libraryName),
		filepath.Join(lib, multiarch[runtime.GOARCH], libraryName)} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("extension: %w", err)
		}
	}
	return "", fmt.Errorf("extension: no %s in %s or %s: name it with --vfs", libraryName, dir,
		lib)
}
