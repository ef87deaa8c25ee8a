package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"verneuil/chunkstore/keyring"
	"verneuil/replicate/upkeep"
)

// keyFileMax bounds what is read as a key file.
const keyFileMax = 64 << 10

func keyCommand(g *global) *cobra.Command {
	command := &cobra.Command{
		Use:   "key new|rotate|drop|show FILE",
		Short: "Make and change key files, with which targets are encrypted",
		Long: `Make and change the key file that key_file in the configuration names: what targets and stores
hold is encrypted with it. See docs/encryption.md.

A FILE of - stands for standard input and output, for keys that a key_command prints.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("key: want new, rotate, drop or show")
			}
			return fmt.Errorf("key: unknown command %q: want new, rotate, drop or show", args[0])
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	command.AddCommand(keyNewCommand(), keyRotateCommand(), keyDropCommand(g), keyShowCommand())
	return command
}

func keyNewCommand() *cobra.Command {
	var names bool
	command := &cobra.Command{
		Use:   "new FILE",
		Short: "Make a new key file",
		Long: `Make FILE, which must not be there, with a new identity and a key. It is readable by its owner
only. Keep a copy elsewhere: without it nobody can read what was stored with it.

With --encrypt-names, what is stored with it does not show hosts and paths of databases, either.
That cannot be changed later: it is for a bucket that is empty.`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			keys := keyring.Generate(time.Now(), names)
			if args[0] == "-" {
				_, err := os.Stdout.Write(keys.Encode())
				return fail(err, "key", "new")
			}
			return fail(makeKeyFile(args[0], keys), "key", "new", args[0])
		},
	}
	command.Flags().BoolVar(&names, "encrypt-names", false,
		"encrypt hosts and paths of databases, too")
	return command
}

// makeKeyFile writes a key file that is not there, durably, and whole or not at all.
func makeKeyFile(path string, keys *keyring.Keys) error {
	temp, err := writeTemp(path, keys, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil {
		if errors.Is(err, os.ErrExist) {
			return errors.New("it is there already: to add a key, use verneuilctl key rotate")
		}
		return err
	}
	return syncDirectory(path)
}

func keyRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate FILE",
		Short: "Add a key, which seals from then on",
		Long: `Add a new key to FILE. What is stored from then on is sealed with it; programs that run notice
that FILE has changed. The older keys stay, to open what they have sealed. Bring FILE to all that
read, first: who does not have the new key cannot read what it has sealed.

verneuilctl gc --delete seals anew, with the new key, what older ones have sealed, and says what is
left. Then verneuilctl key drop takes an older key out.`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			err := changeKeyFile(args[0], func(k *keyring.Keys) (*keyring.Keys, error) {
				return k.Rotate(time.Now()), nil
			})
			return fail(err, "key", "rotate", args[0])
		},
	}
}

func keyDropCommand(g *global) *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "drop FILE KEY",
		Short: "Take an older key out",
		Long: `Take KEY, which verneuilctl key show names, out of FILE. What it has sealed cannot be opened any
more: run verneuilctl gc --delete first, in every target and store that FILE is for, until it says
that nothing is left under an older key. Those of the configuration are asked, as gc asks them;
with --force, or where FILE is -, nothing is asked. The newest key cannot be dropped.`,
		Args: exactly("FILE", "KEY"),
		RunE: func(command *cobra.Command, args []string) error {
			path, name := args[0], args[1]
			err := error(nil)
			if !force && path != "-" {
				err = g.mayDrop(command.Context(), path, name)
			}
			if err == nil {
				err = changeKeyFile(path, func(k *keyring.Keys) (*keyring.Keys, error) {
					return k.Drop(name)
				})
			}
			return fail(err, append([]string{"key", "drop"}, args...)...)
		},
	}
	command.Flags().BoolVar(&force, "force", false,
		"do not ask whether something still needs the key")
	return command
}

// mayDrop fails if something that is sealed with an older key of that file is still needed in a
// target or store of the configuration, or if that cannot be known.
func (g *global) mayDrop(ctx context.Context, path, name string) error {
	const remedy = "(--force drops it all the same: what it has sealed nobody can read then)"
	keys, _, err := readKeyFile(path)
	if err == nil {
		_, err = keys.Drop(name)
	}
	if err != nil {
		return err
	}
	if g.text() == "" {
		return fmt.Errorf("no configuration says what may need it: give --config %s", remedy)
	}
	s, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	targets, _, err := s.everywhere(ctx, "")
	if err != nil {
		return err
	}
	asked := false
	for _, targets := range byChunks(targets) {
		if ring, _ := targets[0].Sealer.Ring(); ring != keys.Ring() {
			continue
		}
		asked = true
		found, err := upkeep.Collect(ctx, targets, s.collectOptions(upkeep.CollectOptions{}))
		if err == nil && found.Older != nil && found.Older.Left() {
			err = errors.New("something there still needs an older key: verneuilctl gc says what")
		}
		if err != nil {
			return fmt.Errorf("%s: %w %s", targets[0].Name, err, remedy)
		}
	}
	if !asked {
		return fmt.Errorf("nothing in the configuration is encrypted with this file %s", remedy)
	}
	return nil
}

// changeKeyFile replaces a key file by what change makes of it, durably. Of several who do so at
// once, each begins with what the one before has made: else a key would be lost, with which
// something may be sealed already.
func changeKeyFile(path string, change func(*keyring.Keys) (*keyring.Keys, error)) error {
	f := os.Stdin
	if path != "-" {
		var err error
		if path, err = filepath.EvalSymlinks(path); err != nil { // the link stays
			return err
		}
		if f, err = lockKeyFile(path); err != nil {
			return err
		}
		defer f.Close()
	}
	keys, mode, err := readKeys(f)
	if err == nil {
		keys, err = change(keys)
	}
	if err == nil {
		_, err = keyring.Parse(keys.Encode()) // it may be too long now
	}
	if err != nil {
		return err
	}
	if path == "-" {
		_, err := os.Stdout.Write(keys.Encode())
		return err
	}
	temp, err := writeTemp(path, keys, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDirectory(path)
}

// lockKeyFile opens the key file at path, and locks it against others who would replace it, until
// it is closed.
func lockKeyFile(path string) (*os.File, error) {
	for {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		var locked, now os.FileInfo
		if err == nil {
			locked, err = f.Stat()
		}
		if err == nil {
			now, err = os.Stat(path)
		}
		if err == nil && os.SameFile(locked, now) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		// somebody has replaced it meanwhile
	}
}

// writeTemp writes keys, durably, to a file beside path, and returns its name.
func writeTemp(path string, keys *keyring.Keys, mode os.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".verneuil-keys-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(keys.Encode())
	if err == nil {
		err = f.Chmod(mode)
	}
	if info, statErr := os.Stat(path); statErr == nil && err == nil {
		err = keepOwner(f, info)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// keepOwner gives f the owner and group of the file that it replaces.
func keepOwner(f *os.File, old os.FileInfo) error {
	var is, was unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &is); err != nil {
		return err
	}
	if err := unix.Stat(filepath.Join(filepath.Dir(f.Name()), old.Name()), &was); err != nil {
		return err
	}
	if is.Uid == was.Uid && is.Gid == was.Gid {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}

func syncDirectory(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readKeyFile(path string) (*keyring.Keys, os.FileMode, error) {
	if path == "-" {
		return readKeys(os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	return readKeys(f)
}

func readKeys(f *os.File) (*keyring.Keys, os.FileMode, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileMax+1))
	if err != nil {
		return nil, 0, err
	}
	keys, err := keyring.Parse(text)
	return keys, info.Mode().Perm(), err
}

func keyShowCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "show FILE",
		Short: "Print the names of a key file's keys",
		Long: `Print the names of the keys in FILE, when they were made, and which one seals. No secret
is shown.`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			return fail(showKeys(args[0], asJSON), "key", "show", args[0])
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return command
}

func showKeys(path string, asJSON bool) error {
	keys, _, err := readKeyFile(path)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(map[string]any{"ring": keys.Ring(), "keys": keys.Infos(),
			"encrypts_names": keys.SealsNames()})
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	names := "names of databases are not encrypted"
	if keys.SealsNames() {
		names = "names of databases are encrypted"
	}
	fmt.Fprintf(out, "ring %s; %s\n", keys.Ring(), names)
	fmt.Fprintln(out, "KEY\tMADE\tSEALS")
	for _, k := range keys.Infos() {
		seals := "no: it only opens"
		if k.Newest {
			seals = "yes"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\n", k.Name, k.Made.Format(time.RFC3339), seals)
	}
	return out.Flush()
}

// exactly wants these arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("missing %s", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}
