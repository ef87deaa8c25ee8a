package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"verneuil/chunkstore"
	"verneuil/replicate"
	"verneuil/spool"
	"verneuil/vfs"
)

// watchEvery is how often status --watch looks.
const watchEvery = 2 * time.Second

// statusFlags are the flags of status.
type statusFlags struct{ watch, asJSON, prometheus, proof bool }

func statusCommand(g *global) *cobra.Command {
	var o statusFlags
	command := &cobra.Command{
		Use:   "status [SPOOLDIR | DB]",
		Short: "Show how replication stands of the databases here",
		Long: `Show how replication stands of each database that has a spool in SPOOLDIR, or in the
replication_spooling_dir of the configuration, or of DB alone: what replicates it, by how much
the targets are behind, when they got the last version, what fails, how many requests are sent,
and what these cost in a month at this rate (price_per_million_requests; after ten minutes). It
reads what recorders and replicators leave in the spools, and sends no request. A replicator
leaves its part at most every two seconds. Where nobody replicates, or a process has just begun
to, it shows what the one before has left, and when that was. A database that is replicated under
another host name, or to other targets, than the configuration has it, is not up to date;
nor is one whose files are not what was recorded: somebody without the extension has changed the
file, or its WAL was removed or replaced, say. The state says what to do.

A database without a spool is not recorded. If nothing can be written to SPOOLDIR, that is an
error.

With --proof it asks the targets of the configuration, once, when verify --drill last proved that
each database restores: a request for each database and target.

--prometheus prints metrics in Prometheus' text format, for node_exporter's textfile collector.
The fields of --json are those of verneuil_status()'s databases.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			if o.prometheus && (o.asJSON || o.watch) {
				return errors.New("--prometheus excludes --json and --watch")
			}
			doing := append([]string{"status"}, args...)
			return fail(showStatus(command.Context(), g, strings.Join(args, ""), o), doing...)
		},
	}
	flags := command.Flags()
	flags.BoolVarP(&o.watch, "watch", "w", false, "look again every two seconds, until interrupted")
	flags.BoolVar(&o.asJSON, "json", false, "print one JSON object per database")
	flags.BoolVar(&o.prometheus, "prometheus", false, "print metrics")
	flags.BoolVar(&o.proof, "proof", false, "ask the targets when verify --drill last succeeded")
	return command
}

func showStatus(ctx context.Context, g *global, path string, o statusFlags) error {
	if err := g.checkFile(path); err != nil {
		return err
	}
	here, err := g.place(path)
	if err != nil {
		return err
	}
	var proofs fixed
	if o.proof {
		if proofs, err = g.proofs(ctx, here); err != nil {
			return err
		}
	}
	if o.prometheus {
		return errors.Join(writeMetrics(os.Stdout, metrics{here, proofs.fill}),
			unwritable(here.dir))
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		all, err := here.statuses()
		if err != nil {
			return err
		}
		proofs.fill(all)
		if o.watch && !o.asJSON && term.IsTerminal(int(os.Stdout.Fd())) {
			fmt.Print("\x1b[H\x1b[2J") // the cursor goes home, and the screen is cleared
		}
		if err := printStatuses(all, o.asJSON); !o.watch {
			return errors.Join(err, unwritable(here.dir))
		} else if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// place is what status looks at: a spooling directory.
type place struct {
	config *vfs.Config
	dir    string
	only   string // the spool of the database that is meant; empty: all
}

// place returns what path stands for: a database, whose spool is in the directory that the
// configuration names, or a spooling directory; empty: the configuration's.
func (g *global) place(path string) (here place, err error) {
	if here.config, err = g.parse(); err != nil {
		return here, err
	}
	here.dir = cmp.Or(path, here.config.ReplicationSpoolingDir)
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		here.only, err = g.spoolOf(path)
		here.dir = filepath.Dir(here.only)
		return here, err
	}
	if here.dir == "" {
		return here, errors.New("no spooling directory: give SPOOLDIR, or a configuration " +
			"with replication_spooling_dir")
	}
	if here.dir, err = filepath.Abs(here.dir); err == nil {
		_, err = os.ReadDir(here.dir)
	}
	if path == "" && err != nil {
		err = notThere(here.dir, err)
	}
	return here, err
}

// notThere says what it means that the configuration's spooling directory cannot be read.
func notThere(root string, err error) error {
	if why := vfs.Usable(root); why != nil {
		return fmt.Errorf("nothing is replicated from here: the replication_spooling_dir %s "+
			"cannot be made, or used: %w", root, why)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("nothing is replicated from here: no program has written to a database "+
			"with this configuration, or none could make its replication_spooling_dir: %w", err)
	}
	return err
}

// standing is what status tells of one database.
type standing struct {
	replicate.Status
	Dollars float64 `json:"request_dollars_per_month"`
	// Proven is when the target whose proof is the oldest had one; zero: one has none, or none was
	// asked.
	Proven     time.Time `json:"last_proof,omitzero"`
	ProofAsked time.Time `json:"last_proof_asked,omitzero"` // when the targets were; zero: never
}

// proofs returns when each database of a place was last proven to restore, from each target.
func (g *global) proofs(ctx context.Context, here place) (fixed, error) {
	s, err := g.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	all, err := here.statuses()
	if err != nil {
		return nil, err
	}
	found := make(fixed)
	for _, d := range all {
		at, err := askProof(ctx, s.store, d.Host, d.Path)
		if err != nil {
			return nil, err
		}
		found[d.Path] = knownProof{at: at, asked: time.Now()}
	}
	return found, nil
}

// spools returns those that are here, and how it stands with databases of which there is only the
// spool's directory.
func (p place) spools() (dirs []string, bare []standing, err error) {
	if p.only != "" {
		return []string{p.only}, nil, nil
	}
	if dirs, err = spool.List(p.dir); err == nil {
		bare, err = unmade(p.dir)
	}
	return dirs, bare, err
}

// statuses returns how it stands with each database that has a spool here, by path.
func (p place) statuses() ([]standing, error) {
	dirs, bare, err := p.spools()
	if err != nil {
		return nil, err
	}
	purpose, err := purposeIn(p.dir, p.config)
	if err != nil {
		return nil, err
	}
	all := make([]standing, 0, len(dirs))
	for _, dir := range dirs {
		s, _ := replicate.ReadStatus(dir, purpose, time.Now()) // its error is in s
		s.Path = cmp.Or(s.Path, dir)
		all = append(all, standing{Status: s, Dollars: p.config.RequestDollars(s.PerMonth)})
	}
	all = append(all, bare...)
	slices.SortFunc(all, func(a, b standing) int { return cmp.Compare(a.Path, b.Path) })
	return all, nil
}

// purposeIn is what the configuration has the databases replicated for that have a spool in dir; 0:
// it says nothing of them.
func purposeIn(dir string, config *vfs.Config) (uint64, error) {
	if !sameDirectory(dir, config.ReplicationSpoolingDir) {
		return 0, nil
	}
	store, err := chunkstore.Open(context.Background(), config.Targets, chunkstore.Options{})
	if err != nil || len(store.Targets) == 0 {
		return 0, err
	}
	defer store.Close()
	return replicate.Purpose(config.Host(), store.Targets), nil
}

// trouble is what is wrong with a database's replication; empty: nothing.
func (s *standing) trouble() string {
	if s.Error != "" {
		return s.Error
	}
	for _, t := range s.Targets {
		damaged := ""
		if t.Damaged > 0 {
			damaged = fmt.Sprintf("%d objects are damaged, and not put again yet", t.Damaged)
		}
		if problem := cmp.Or(t.Error, damaged, t.CheckpointError, t.PatrolError); problem != "" {
			return t.Name + ": " + problem
		}
	}
	return ""
}

// last returns when the target that is furthest behind got its last version.
func (s *standing) last() (at time.Time) {
	for i, t := range s.Targets {
		if i == 0 || t.Manifest.Before(at) {
			at = t.Manifest
		}
	}
	return at
}

func printStatuses(all []standing, asJSON bool) error {
	if asJSON {
		for _, s := range all {
			if err := printJSON(s); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		return errors.New("no spool: nothing is replicated from here")
	}
	out := newTable(false)
	out.row("", "DATABASE", "PROCESS", "LAG", "UNSENT", "LAST VERSION", "SPOOL", "REQUESTS",
		"$/MONTH", "STATE")
	for _, s := range all {
		lag, process, last, dollars := "none", "none", "never", "?"
		if !s.UpToDate {
			lag = (time.Duration(s.LagSeconds*1000) * time.Millisecond).String()
		}
		if s.Replicator != 0 {
			process = fmt.Sprint(s.Replicator)
		}
		if at := s.last(); !at.IsZero() {
			last = humanize.Time(at)
		} else if s.UpToDate {
			last = "earlier" // than the replicator began
		}
		if s.PerMonth > 0 {
			dollars = fmt.Sprintf("%.2f", s.Dollars)
		}
		state := cmp.Or(s.trouble(), s.State)
		old := s.Replicator == 0 || s.State == replicate.TakingOver
		if old && !s.Reported.IsZero() {
			state += ", last told " + humanize.Time(s.Reported)
		}
		out.row("", s.Path, process, lag, humanBytes(s.LagBytes), last, humanBytes(s.SpoolBytes),
			humanize.Comma(s.Total), dollars, state)
	}
	return out.Flush()
}
