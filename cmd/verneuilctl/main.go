// Verneuilctl is the operator's command line: it backs up, restores, flushes and inspects databases
// that are, or will be, replicated.
//
// Output that a program may want goes to stdout; messages and progress go to stderr. Exit codes: 0
// done, 1 failed, 2 wrong usage, 128 plus the signal's number interrupted (130 by Ctrl-C). main.go
// has what the commands share; each other file has one command, or something that commands use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"verneuil/chunkstore"
	"verneuil/replicate/locate"
	"verneuil/replicate/restore"
	"verneuil/vfs"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, interrupt := untilInterrupted()
	root := rootCommand()
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if failed := (*failure)(nil); errors.As(err, &failed) {
		code := 1
		if ctx.Err() != nil {
			message := "interrupted"
			if unfinished := (*restore.UnfinishedError)(nil); errors.As(err, &unfinished) {
				message += "; " + unfinished.Remains()
			}
			failed.err, code = errors.New(message), 128+int(interrupt.Load())
		}
		fmt.Fprintf(os.Stderr, "verneuilctl: %s\n", oneLine(failed.Error()))
		return code
	}
	fmt.Fprintf(os.Stderr, "verneuilctl: %s (see %s --help)\n", oneLine(err.Error()),
		command.CommandPath())
	return 2
}

// untilInterrupted returns a context that the first interrupt ends, and the signal's number
// once it has: the command then removes its temporary files, or says what it leaves. A second
// interrupt ends the process at once.
func untilInterrupted() (context.Context, *atomic.Int32) {
	ctx, cancel := context.WithCancel(context.Background())
	number := new(atomic.Int32)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if s, ok := (<-signals).(syscall.Signal); ok {
			number.Store(int32(s))
		}
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		cancel()
	}()
	return ctx, number
}

// failure is an error of a command that was called correctly: exit code 1. Every
// other error that reaches run is about how it was called.
type failure struct {
	doing string // the command and what it was about, such as "sync /x/y.db"
	err   error
}

// Error says what was being done, and says it only once if err begins with that, too.
func (f *failure) Error() string {
	command, _, _ := strings.Cut(f.doing, " ")
	message := strings.TrimPrefix(f.err.Error(), f.doing+": ")
	return f.doing + ": " + strings.TrimPrefix(message, command+": ")
}

func (f *failure) Unwrap() error { return f.err }

// fail returns err as the failure of doing; nil if err is nil.
func fail(err error, doing ...string) error {
	if err == nil {
		return nil
	}
	return &failure{strings.Join(doing, " "), err}
}

// oneLine joins the lines of a message: errors.Join and some libraries make several. It escapes
// control characters: anybody may have chosen a name in it, which must not control the terminal.
func oneLine(message string) string {
	var lines []string
	for line := range strings.Lines(message) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	var b strings.Builder
	for _, r := range strings.Join(lines, "; ") {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// global holds the flags of all commands.
type global struct {
	config  string
	level   string
	log     *slog.Logger // of that level
	timeout time.Duration
}

// noneEmpty fails if a flag or an argument that was given is empty: a script's variable is, and its
// caller would get something else than he asked for, such as the newest version for --at.
func noneEmpty(flags *pflag.FlagSet, args []string) (err error) {
	if n := slices.Index(args, ""); n >= 0 {
		err = fmt.Errorf("argument %d is empty", n+1)
	}
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.String() == "" {
			err = fmt.Errorf("--%s: empty", f.Name)
		}
	})
	return err
}

// usageColumns is how wide the list of a command's flags is.
const usageColumns = 84

func rootCommand() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:   "verneuilctl",
		Short: "Back up, restore and query replicated SQLite databases",
		Long: `verneuilctl backs up SQLite databases to S3 (or a directory), restores them, and
opens their replicas. It also looks after databases that live in a store.

SOURCE is a database's path, or the URI of its manifest: see --source-path and --manifest; or
file:///STORE/any/path.db, a database that lives in a store of the configuration.
The configuration is a JSON file, or JSON text. In the environment's VERNEUIL_CONFIG an @
stands before a file's path.`,
		Version:       vfs.Program,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(command *cobra.Command, args []string) (err error) {
			if n := command.ArgsLenAtDash(); n >= 0 {
				args = args[:n]
			}
			// A shell that completes gives an empty word where nothing is typed yet.
			if command.Name() != cobra.ShellCompRequestCmd {
				if err := noneEmpty(command.Flags(), args); err != nil {
					return err
				}
			}
			if g.timeout < 0 {
				return fmt.Errorf("--timeout %v: want more than 0", g.timeout)
			}
			g.log, err = g.logger()
			return err
		},
		RunE: func(*cobra.Command, []string) error {
			return errors.New("missing command")
		},
		Args: unknownCommand,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ",
		fmt.Sprintf(".FlagUsagesWrapped %d ", usageColumns)))
	root.SetFlagErrorFunc(unknownFlag)
	flags := root.PersistentFlags()
	flags.StringVarP(&g.config, "config", "c", "",
		"configuration: a file, or JSON (default: $VERNEUIL_CONFIG)")
	flags.StringVarP(&g.level, "log", "l", "",
		"error, warn, info, debug or off (default: $VERNEUIL_LOG, else warn)")
	flags.DurationVar(&g.timeout, "timeout", 0,
		"how long a store may take to answer, such as 10s (default: "+
			"store_timeout_ms of the configuration, else 30s)")
	levels := cobra.FixedCompletions([]string{"error", "warn", "info", "debug", "off"},
		cobra.ShellCompDirectiveNoFileComp)
	if err := root.RegisterFlagCompletionFunc("log", levels); err != nil {
		panic(err) // there is no such flag
	}
	root.AddCommand(
		runCommand(g), statusCommand(g),
		syncCommand(g), restoreCommand(g), flushCommand(g), lsCommand(g),
		manifestCommand(g), manifestNameCommand(g), versionsCommand(g), verifyCommand(g),
		gcCommand(g), shellCommand(g), replicaCommand(g),
		createCommand(g), importCommand(g), exportCommand(g), lockCommand(g), rmCommand(g),
		configCommand(g), keyCommand(g), doctorCommand(g), versionCommand(), manCommand(),
	)
	refuseUnknown(root)
	return root
}

// refuseUnknown has the commands that cobra makes refuse what they do not know. They would print
// help, and succeed: a script's redirection takes that for what it has asked for.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, command := range root.Commands() {
		switch command.Name() {
		case "help":
			command.Args = func(_ *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err == nil {
					err = unknownCommand(about, rest)
				}
				return err
			}
		case "completion":
			command.Args = unknownCommand
			command.RunE = func(*cobra.Command, []string) error {
				return errors.New("missing shell: completion bash, fish, powershell or zsh")
			}
		}
	}
}

// unknownCommand refuses arguments of a command that has others below it, and takes none itself.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	root.SuggestionsMinimumDistance = 2
	return fmt.Errorf("unknown command %q%s", args[0], didYouMean("", root.SuggestionsFor(args[0])))
}

// unknownFlag adds to the error about an unknown flag which flag may have been meant.
func unknownFlag(command *cobra.Command, err error) error {
	unknown := (*pflag.NotExistError)(nil)
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	// cobra suggests only names of commands, so the flags become commands for a moment.
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	command.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Hidden: f.Hidden,
			Run: func(*cobra.Command, []string) {}})
	})
	return fmt.Errorf("%w%s", err, didYouMean("--",
		flags.SuggestionsFor(unknown.GetSpecifiedName())))
}

func didYouMean(prefix string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": did you mean " + prefix + strings.Join(names, " or "+prefix) + "?"
}

// atMost accepts up to n arguments; whether there are too few is for each command to judge.
func atMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return fmt.Errorf("unexpected argument %q", args[n])
		}
		return nil
	}
}

// text returns the configuration as [vfs.ParseConfig] wants it.
func (g *global) text() string {
	if g.config == "" {
		return os.Getenv("VERNEUIL_CONFIG")
	}
	text := strings.TrimSpace(g.config)
	if !strings.HasPrefix(text, "@") && !strings.HasPrefix(text, "{") {
		return "@" + text
	}
	return g.config
}

// parse returns the configuration.
func (g *global) parse() (*vfs.Config, error) {
	config, err := vfs.ParseConfig(g.text())
	if err != nil && g.config == "" {
		err = fmt.Errorf("VERNEUIL_CONFIG: %w", err)
	}
	if err == nil && g.timeout > 0 {
		config.StoreTimeout = g.timeout
	}
	return config, err
}

// logger returns the log to stderr. A bad level in a flag is an error; in the
// environment, which other programs share, it only gets a line.
func (g *global) logger() (*slog.Logger, error) {
	if g.level != "" {
		return vfs.NewLogger(g.level, os.Stderr)
	}
	log, err := vfs.NewLogger(vfs.LevelFromEnv(), os.Stderr)
	if err != nil {
		log.Error("VERNEUIL_LOG", "error", err)
	}
	return log, nil
}

// session is what most commands need.
type session struct {
	config *vfs.Config
	store  *chunkstore.Store // of the targets of replication, or the one that databases live in
	name   string            // of the latter in the configuration; empty: it is the former
	log    *slog.Logger
}

// open reads the configuration and opens its targets; the caller closes the store.
func (g *global) open(ctx context.Context) (*session, error) {
	config, err := g.parse()
	if err != nil {
		return nil, err
	}
	store, err := config.OpenForegroundStore(ctx, g.log)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return &session{config, store, "", g.log}, nil
}

// openNamed is open of a store that databases live in; of the targets if name is empty.
func (g *global) openNamed(ctx context.Context, name string) (*session, error) {
	if name == "" {
		return g.open(ctx)
	}
	config, err := g.parse()
	if err != nil {
		return nil, err
	}
	store, err := config.OpenNamedStore(ctx, name, g.log)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return &session{config, store, name, g.log}, nil
}

func (s *session) Close() error { return s.store.Close() }

// errNoTargets is the error of a command that needs a target.
func (g *global) errNoTargets() error {
	if g.text() == "" {
		return errors.New("no configuration: give --config FILE or set VERNEUIL_CONFIG to @FILE")
	}
	err := errors.New("configuration: replication_targets names no s3 or dir target")
	if config, _ := g.parse(); config != nil && len(config.Remote.Stores) > 0 {
		return fmt.Errorf("%w; for databases that live in a store (%s) give "+
			"file:///STORE/PATH, or --store STORE", err, strings.Join(config.Remote.Names(), ", "))
	}
	return err
}

// addressOf is [locate.ParseAddressURI] by the stores of the configuration. Where there are any, it
// fails for the URI of a database in another, unless that is the name of a file.
func addressOf(config *vfs.Config, uri string) (a locate.Address, ok bool, err error) {
	a, ok, err = locate.ParseAddressURI(uri, config.Remote.Has)
	if ok || err != nil || len(config.Remote.Stores) == 0 {
		return a, ok, err
	}
	other, isURI, otherErr := locate.ParseAddressURI(uri, func(string) bool { return true })
	if !isURI || otherErr != nil {
		return a, false, nil
	}
	if _, statErr := os.Lstat(other.Name()); errors.Is(statErr, fs.ErrNotExist) {
		err = config.Remote.Missing(other.Store)
	}
	return a, false, err
}

// checkFile fails if given names a database that lives in a store, of which a command that sends
// what is on this host has nothing to send.
func (g *global) checkFile(given string) error {
	config, err := g.parse()
	if err != nil {
		return nil // this command may need no configuration
	}
	_, stored, err := addressOf(config, given)
	if stored && err == nil {
		err = errors.New("it lives in a store, which has all that COMMIT has answered for: " +
			"nothing is to be sent")
	}
	return err
}
