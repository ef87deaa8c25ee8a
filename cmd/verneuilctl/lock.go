package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/remote"
)

func lockCommand(g *global) *cobra.Command {
	command := &cobra.Command{
		Use:        "lock",
		SuggestFor: []string{"lease", "holder", "unlock"},
		Short:      "See who holds a database in a store, or take it from him",
		Args:       unknownCommand,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("missing command: lock info or lock break")
		},
	}
	var asJSON, force bool
	info := &cobra.Command{
		Use:   "info file:///STORE/PATH",
		Short: "Print who holds a database in a store",
		Long: `Print who holds the database, or held it last, and since when; when the store got the last
record of it, and the holder's last heartbeat; and who waits for it. A holder writes a
heartbeat while he has nothing else to write. Who shows no sign of life for lease_timeout_ms
is taken for dead, and the next one who wants to write takes the database over.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			return withDatabase(command.Context(), g, "lock info", args, func(
				ctx context.Context, d inStore,
			) error {
				h, err := remote.Inspect(ctx, d.target(), d.key())
				if err != nil {
					return d.explain(ctx, d.locator(), err)
				}
				return d.printHold(h, asJSON)
			})
		},
	}
	info.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	breaks := &cobra.Command{
		Use:   "break file:///STORE/PATH [--force]",
		Short: "Take a database in a store from whoever holds it",
		Long: `Take the database from whoever holds it, and give it back at once, so that the next one who
wants to write need not wait until the holder is taken for dead. What he has committed
stays. What he has not is lost: his next commit fails, once, and says who took over. He
goes on at his next transaction, as anybody. On his own machine, others wait as before until
he ends his transaction, or dies.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			return withDatabase(command.Context(), g, "lock break", args, func(
				ctx context.Context, d inStore,
			) error {
				return d.breakLock(ctx, force, asJSON)
			})
		},
	}
	breaks.Flags().BoolVar(&force, "force", false, "do not ask")
	breaks.Flags().BoolVar(&asJSON, "json", false, "print as JSON who held it")
	command.AddCommand(info, breaks)
	return command
}

// inStore is a database that lives in a store.
type inStore struct {
	*session
	address locate.Address
}

func (d inStore) target() *chunkstore.Target { return d.store.Targets[0] }

// key is that of the database's manifest.
func (d inStore) key() string { return d.address.Key(d.store.Sealer()) }

func (d inStore) locator() *locate.Locator { return locate.InStore(d.address, d.store) }

// withDatabase calls do with the database that the argument names.
func withDatabase(
	ctx context.Context, g *global, doing string, args []string,
	do func(context.Context, inStore) error,
) error {
	if len(args) == 0 {
		return errors.New("which database? " + wantInStore)
	}
	d := inStore{}
	var err error
	if d.session, err = g.openAt(ctx, args[0], &d.address); err == nil {
		defer d.Close()
		err = do(ctx, d)
	}
	return fail(err, doing, args[0])
}

// sign says when the store got something.
func sign(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), humanize.Time(t))
}

// holder says who holds it, in one word or a few.
func holder(h *remote.Hold) string {
	switch {
	case !h.Held:
		return "nobody"
	case h.Owner == nil:
		return "somebody, it is not known who"
	}
	return h.Owner.String()
}

// beatsUnknown reports whether the store has not said that there are heartbeats, nor that there are
// none.
func beatsUnknown(h *remote.Hold) bool { return h.Denied != nil && h.Beat.IsZero() }

// holds says who holds it, as a line before a question.
func holds(h *remote.Hold) string {
	if beatsUnknown(h) {
		return oneLine(holder(h)) + " holds it.\n"
	}
	return fmt.Sprintf("%s holds it; its last sign of life was %s.\n", oneLine(holder(h)),
		humanize.Time(h.Sign()))
}

// confirm asks the user, and fails unless he says yes; or with refusal if there is nobody to ask.
func confirm(question, refusal string) error {
	if !isTerminal(os.Stdin) || !isTerminal(os.Stderr) {
		return errors.New(refusal)
	}
	fmt.Fprint(os.Stderr, question+" [y/N] ")
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// quiet returns for how long its holder has shown no sign of life; 0: there is none, or who wants
// to write may not take him for dead yet, or it is not known.
func (s *session) quiet(h *remote.Hold) time.Duration {
	quiet := time.Since(h.Sign())
	if !h.Held || beatsUnknown(h) || quiet <= s.config.Remote.LeaseTimeout {
		return 0
	}
	return quiet.Round(time.Second)
}

func (d inStore) printHold(h *remote.Hold, asJSON bool) error {
	if asJSON {
		return printJSON(d.json(h))
	}
	fmt.Printf("held by:        %s\n", oneLine(holder(h)))
	if !h.Held && h.Owner != nil {
		fmt.Printf("last held by:   %s\n", oneLine(h.Owner.String()))
	}
	if h.Wanted != nil {
		fmt.Printf("wanted by:      %s\n", oneLine(h.Wanted.String()))
	}
	if quiet := d.quiet(h); quiet > 0 {
		fmt.Printf("sign of life:   none since %s: who wants to write takes it over\n", quiet)
	}
	beat := sign(h.Beat)
	if beatsUnknown(h) {
		beat = "not known: who may not list (s3:ListBucket) is denied what is not there, too"
	}
	fmt.Printf("last record:    %d, %s\n", h.Record, sign(h.Appended))
	fmt.Printf("last heartbeat: %s\n", beat)
	_, err := fmt.Printf("epoch:          %d\n", h.Epoch)
	return err
}

// json is what lock info prints of a database.
func (d inStore) json(h *remote.Hold) map[string]any {
	line := map[string]any{
		"database": d.address.String(), "store": d.address.Store, "path": d.address.Path,
		"held": h.Held, "epoch": h.Epoch, "record": h.Record,
	}
	by := "holder"
	if !h.Held {
		by = "last_holder"
	}
	for name, o := range map[string]*manifest.Owner{by: h.Owner, "wanted_by": h.Wanted} {
		if o != nil {
			line[name] = map[string]any{"host": o.Host, "pid": o.PID, "program": o.Program,
				"since": o.Since.UTC()}
		}
	}
	if d.quiet(h) > 0 {
		line["taken_for_dead"] = true
	}
	if h.Denied != nil {
		line["denied"] = h.Denied.Error()
	}
	for name, t := range map[string]time.Time{"record": h.Appended, "heartbeat": h.Beat} {
		if !t.IsZero() {
			line[name+"_stored"] = t.UTC()
			line[name+"_age_seconds"] = int64(time.Since(t).Seconds())
		}
	}
	return line
}

func (d inStore) breakLock(ctx context.Context, force, asJSON bool) error {
	h, err := remote.Inspect(ctx, d.target(), d.key())
	if err != nil {
		return d.explain(ctx, d.locator(), err)
	}
	if h.Denied != nil {
		return fmt.Errorf("it takes the rights to get, put and list: %w", h.Denied)
	}
	if h.Held && !force {
		err := confirm(holds(h)+"What it has not committed will be lost. Take it?",
			holder(h)+" holds it: what he has not committed will be lost (--force takes it)")
		if err != nil {
			return err
		}
	}
	if h, err = remote.Break(ctx, d.target(), d.key(), d.owner()); err != nil {
		return err
	}
	if asJSON {
		return printJSON(d.json(h))
	}
	if !h.Held {
		_, err = fmt.Println("nobody holds it: nothing was done")
		return err
	}
	_, err = fmt.Printf("taken from %s; whoever wants to write may take it\n", oneLine(holder(h)))
	return err
}
