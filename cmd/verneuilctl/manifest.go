package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/manifest"
	"verneuil/replicate/locate"
	"verneuil/replicate/versions"
)

// origin says which manifest a command is about: by URI, or by host and path; the
// newest, or that of a version or a time.
type origin struct {
	uri        string
	host       string
	sourcePath string
	version    string
	at         string
	time       time.Time // what at says, once checked
	store      string    // that a manifest's object stands for, or that its database lives in
}

// flags adds --manifest, --hostname and --source-path. The command's one argument may take
// the place of --manifest and --source-path: see take.
func (o *origin) flags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVarP(&o.uri, "manifest", "m", "",
		"a manifest: its file, file://, http(s)://, s3://bucket.region[.endpoint]/key, "+
			"verneuil://host/path; or file:///STORE/path")
	flags.StringVar(&o.store, "store", "",
		"a store of the configuration, which has what a manifest's file names")
	flags.StringVar(&o.host, "hostname", "", "the source's host (default: "+
		"hostname of the configuration, else this machine's)")
	flags.StringVarP(&o.sourcePath, "source-path", "s", "", "the database's path on the source")
}

// flagsOfPast adds --version-id and --at.
func (o *origin) flagsOfPast(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&o.version, "version-id", "",
		"the ID of a version, from the command versions (default: the newest)")
	flags.StringVar(&o.at, "at", "", "the version at that time: 2006-01-02T15:04:05Z, "+
		"or 2006-01-02 15:04:05 in local time")
}

// past reports whether another version than the newest is asked for.
func (o *origin) past() bool { return o.version != "" || o.at != "" }

// take takes the command's arguments, of which the first may be the SOURCE: a manifest's URI,
// or a database's path.
func (o *origin) take(args []string) error {
	if o.uri == "" && schemeOf(o.sourcePath) != "" { // -s is as good
		o.uri, o.sourcePath = o.sourcePath, ""
	}
	if len(args) == 0 {
		return nil
	}
	if o.uri != "" || o.sourcePath != "" {
		return fmt.Errorf("SOURCE %s and --manifest or --source-path both name it: give one",
			args[0])
	}
	if schemeOf(args[0]) != "" {
		o.uri = args[0]
	} else {
		o.sourcePath = args[0]
	}
	return nil
}

// named reports whether a database is named, and not only what may say of one which is meant.
func (o *origin) named() bool { return o.uri != "" || o.sourcePath != "" || o.host != "" }

// checkTime understands --at.
func (o *origin) checkTime() (err error) {
	if o.at != "" {
		o.time, err = parseTime(o.at)
	}
	return err
}

// check fails if the command was called wrongly.
func (o *origin) check() error {
	if err := o.checkTime(); err != nil {
		return err
	}
	switch {
	case o.version != "" && o.at != "":
		return errors.New("--version-id and --at exclude each other")
	case o.uri == "" && o.sourcePath == "":
		return errors.New("which database? give SOURCE, --source-path or --manifest")
	case o.uri != "" && (o.sourcePath != "" || o.host != ""):
		return errors.New("a URI, or --manifest, excludes --hostname and --source-path")
	case o.uri == "" && o.store != "":
		return errors.New("name a database that lives in a store by file:///" + o.store + "/path")
	}
	return nil
}

// of calls take and check.
func (o *origin) of(args []string) error {
	if err := o.take(args); err != nil {
		return err
	}
	return o.check()
}

// String names the origin in messages.
func (o *origin) String() string {
	if o.uri != "" {
		return locate.Redacted(o.uri)
	}
	if o.host != "" {
		return o.host + ":" + o.sourcePath
	}
	return o.sourcePath
}

// open opens what the origin is in: a store that databases live in, or the targets of replication.
func (o *origin) open(ctx context.Context, g *global) (*session, error) {
	address, inStore, err := o.address(g)
	if err != nil {
		return nil, err
	}
	if inStore && o.store != "" && o.store != address.Store {
		return nil, fmt.Errorf("--store %s, and %v is in another", o.store, address)
	}
	return g.openNamed(ctx, cmp.Or(address.Store, o.store))
}

// address returns where the database lives; ok is false if it is in no store.
func (o *origin) address(g *global) (a locate.Address, ok bool, err error) {
	if !strings.HasPrefix(o.uri, "file:") {
		return a, false, nil
	}
	config, err := g.parse()
	if err != nil {
		return a, false, err
	}
	return addressOf(config, o.uri)
}

// locate finds the manifest's place. A path of this machine is made canonical,
// as SQLite does; another host's is taken as it is.
func (o *origin) locate(s *session) (*locate.Locator, error) {
	if s.name != "" {
		address, inStore, err := locate.ParseAddressURI(o.uri, s.config.Remote.Has)
		if inStore || err != nil {
			return locate.InStore(address, s.store), err
		}
	}
	uri, err := o.resolve(s.config.Host())
	if err != nil {
		return nil, err
	}
	return locate.Parse(uri, s.config.Host(), s.store)
}

// resolve returns the manifest's URI; a relative file's name is made absolute.
func (o *origin) resolve(localHost string) (string, error) {
	if o.uri != "" {
		if schemeOf(o.uri) == "" {
			return filepath.Abs(o.uri)
		}
		return o.uri, nil
	}
	host, path, err := sourceName(o.host, o.sourcePath, localHost)
	if err != nil {
		return "", err
	}
	return "verneuil://" + host + path, nil
}

// fetch returns the manifest.
func (o *origin) fetch(ctx context.Context, s *session) (locate.Found, error) {
	locator, err := o.locate(s)
	if err != nil {
		return locate.Found{}, err
	}
	found, err := o.fetchFrom(ctx, s, locator)
	if errors.Is(err, locate.ErrNoVersion) {
		if _, _, newestErr := locator.FetchNewest(ctx); newestErr == nil {
			return found, fmt.Errorf("%w (verneuilctl versions lists those that are kept)", err)
		}
	}
	return found, s.explain(ctx, locator, err)
}

func (o *origin) fetchFrom(ctx context.Context, s *session,
	locator *locate.Locator) (locate.Found, error) {
	switch {
	case o.version != "":
		return locator.FetchVersion(ctx, o.version)
	case o.at != "":
		return locator.FetchAt(ctx, o.time)
	}
	found, failed, err := locator.FetchNewest(ctx)
	if failed != nil {
		s.log.Warn("a target that was not read may have a newer version", "manifest",
			locator.String(), "error", failed)
	}
	return found, err
}

// explain adds to the error of a database that is not there what the targets have of that path, or
// of that host.
func (s *session) explain(ctx context.Context, locator *locate.Locator, err error) error {
	absent := errors.Is(err, chunkstore.ErrAbsent) || errors.Is(err, locate.ErrNoVersion)
	isFile := strings.HasPrefix(locator.String(), "file:///")
	switch {
	case errors.Is(err, chunkstore.ErrDenied):
		return fmt.Errorf("%w (who may not list (s3:ListBucket) is denied what is not there, too: "+
			"is the name right?)", err)
	case !absent:
		return err
	case !locator.Named() && isFile:
		return fmt.Errorf("%w: there is no such file; a database is named by its path "+
			"(verneuilctl ls lists what there is)", err)
	case !locator.Named():
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	if s.name != "" {
		return s.explainIn(ctx, locator, err)
	}
	host, path, _ := strings.Cut(strings.TrimPrefix(locator.String(), "verneuil://"), "/")
	path = "/" + path
	err = fmt.Errorf("no target has %s of host %s: %w", path, host, err)
	var hosts, paths []string
	for _, t := range s.store.Targets {
		there := locate.LookElsewhere(ctx, t, host, path)
		hosts, paths = append(hosts, there.Hosts...), append(paths, there.Paths...)
	}
	switch {
	case len(hosts) > 0:
		return fmt.Errorf("%w; there are versions of %s under the host %s (--hostname)", err, path,
			few(hosts))
	case len(paths) > 0:
		return fmt.Errorf("%w; of host %s there is %s", err, host, few(paths))
	}
	return fmt.Errorf("%w (verneuilctl ls lists what there is)", err)
}

// explainIn is explain of a database that lives in a store.
func (s *session) explainIn(ctx context.Context, locator *locate.Locator, err error) error {
	var paths []string
	for _, t := range s.store.Targets {
		locate.FirstHoldings(ctx, t, "", func(h locate.Holding) {
			if h.Host == "" && h.Whole && h.Key != locator.Key() {
				paths = append(paths, h.Path)
			}
		})
	}
	if len(paths) == 0 {
		return fmt.Errorf("%w; no database lives in the store %s", err, s.name)
	}
	return fmt.Errorf("%w; in the store %s there is %s", err, s.name, few(paths))
}

// explainTime bounds what is looked for to explain an error.
const explainTime = 10 * time.Second

// few names the first of names.
func few(names []string) string {
	const most = 5
	slices.Sort(names)
	names = slices.Compact(names)
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more (verneuilctl ls lists them)", len(names)-most)
	}
	return text
}

// fetchFor is fetch, in a session that the caller closes, for a command that writes to out:
// nothing is fetched that may not be written there.
func (o *origin) fetchFor(ctx context.Context, g *global,
	out *output) (*session, locate.Found, error) {
	if err := out.check(); err != nil {
		return nil, locate.Found{}, err
	}
	s, err := o.open(ctx, g)
	if err != nil {
		return nil, locate.Found{}, err
	}
	found, err := o.fetch(ctx, s)
	if err != nil {
		s.Close()
		return nil, locate.Found{}, err
	}
	return s, found, nil
}

// parseTime understands RFC 3339, with a space for the T if one likes, and the zone as +02:00,
// +0200 or +02; without one it is local time. The seconds, or the whole time of day, may be left
// out.
func parseTime(text string) (time.Time, error) {
	const day = time.DateOnly
	for _, layout := range []string{day + " 15:04:05", day + " 15:04", day} {
		for _, zone := range []string{"", "Z07:00", "Z0700", "Z07"} {
			if zone != "" && layout == day {
				continue
			}
			t, err := time.ParseInLocation(layout+zone, strings.Replace(text, "T", " ", 1),
				time.Local)
			if err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("--at %q is not a time: want 2006-01-02T15:04:05Z or "+
		"2006-01-02 15:04:05", text)
}

func manifestCommand(g *global) *cobra.Command {
	var (
		from   origin
		out    output
		asJSON bool
	)
	command := &cobra.Command{
		Use:   "manifest SOURCE",
		Short: "Fetch a manifest of a database",
		Long: `Fetch the manifest of the newest version of the database SOURCE, or of an older one. It
opens and restores by itself: what records say is in it. With --json, show it to people.`,
		Args: atMost(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := from.of(args); err != nil {
				return err
			}
			if out.toStdout() && !asJSON && isTerminal(os.Stdout) {
				return errors.New("a manifest is binary: give --out or --json")
			}
			return fail(showManifest(command.Context(), g, &from, &out, asJSON), "manifest",
				from.String())
		},
	}
	from.flags(command)
	from.flagsOfPast(command)
	out.flags(command)
	command.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return command
}

func showManifest(ctx context.Context, g *global, from *origin, out *output, asJSON bool) error {
	s, found, err := from.fetchFor(ctx, g, out)
	if err != nil {
		return err
	}
	defer s.Close()
	var raw []byte
	if asJSON {
		raw, err = describe(s.store.Sealer(), found.Manifest)
	} else {
		raw, err = found.Manifest.Alone().Encode(s.store.Sealer())
	}
	if err != nil {
		return err
	}
	return out.write(raw)
}

// entry is a chunk, leaf or node as describe shows it.
type entry struct {
	ID     string `json:"id"`
	Pack   string `json:"pack,omitempty"` // none: zeros, which are stored nowhere
	Offset uint32 `json:"offset,omitempty"`
	Bytes  uint32 `json:"bytes,omitempty"`
}

func entryOf(ref chunkstore.Ref) entry {
	e := entry{ref.ID.String(), "", ref.Place.Offset, ref.Place.Bytes}
	if ref.Place.Bytes > 0 {
		e.Pack = ref.Place.Pack.String()
	}
	return e
}

// describe returns what a manifest says, for people. The bytes of inline pages
// are left out.
func describe(s chunkstore.Sealer, m *manifest.Manifest) ([]byte, error) {
	type patch struct {
		Chunk int `json:"chunk"`
		entry
	}
	type page struct {
		Offset int64 `json:"offset"`
		Bytes  int   `json:"bytes"`
	}
	text := struct {
		Name          string  `json:"name"`
		Host          string  `json:"host"`
		Path          string  `json:"path"`
		Program       string  `json:"program"`
		Lineage       string  `json:"lineage"`
		Epoch         uint64  `json:"epoch"`
		Sequence      uint64  `json:"sequence"`
		Cut           string  `json:"cut"`
		VersionID     string  `json:"version_id,omitempty"` // none: it is in no history
		Time          string  `json:"time"`
		SourceCtime   string  `json:"source_ctime"`
		FileBytes     int64   `json:"file_bytes"`
		PageBytes     int     `json:"page_bytes"`
		ChangeCounter uint32  `json:"change_counter"`
		Chunks        int     `json:"chunks"`
		Levels        int     `json:"levels"`
		Top           []entry `json:"top"`
		Patches       []patch `json:"patches"`
		InlinePages   []page  `json:"inline_pages"`
	}{
		Name: manifest.Name(s, m.Host, m.Path), Host: m.Host, Path: m.Path, Program: m.Program,
		Lineage: hex.EncodeToString(m.Lineage[:]), Epoch: m.Epoch, Sequence: m.Sequence,
		Cut:         hex.EncodeToString(m.Cut[:]),
		Time:        m.Time.UTC().Format(time.RFC3339Nano),
		SourceCtime: m.SourceCtime.UTC().Format(time.RFC3339Nano),
		FileBytes:   m.FileBytes, PageBytes: m.PageBytes, ChangeCounter: m.ChangeCounter,
		Chunks: m.Chunks(), Levels: m.Levels,
		Top: []entry{}, Patches: []patch{}, InlinePages: []page{},
	}
	if m.At.Lineage != [16]byte{} {
		text.VersionID = versions.IDOf(m.At).String()
	}
	for _, ref := range m.Top {
		text.Top = append(text.Top, entryOf(ref))
	}
	for _, p := range m.Patches {
		text.Patches = append(text.Patches, patch{p.Index, entryOf(p.Ref)})
	}
	for _, p := range m.Inline {
		text.InlinePages = append(text.InlinePages, page{p.Offset, len(p.Data)})
	}
	b, err := json.MarshalIndent(text, "", "  ")
	return append(b, '\n'), err
}

func manifestNameCommand(g *global) *cobra.Command {
	var (
		host, path string
		asJSON     bool
	)
	command := &cobra.Command{
		Use:   "manifest-name PATH|file:///STORE/PATH",
		Short: "Print the key of a database's manifest",
		Long: `Print the key under which the manifest of the database PATH is stored. On this
host, PATH is made absolute and its symbolic links are resolved.`,
		Args: atMost(1),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if path, err = onePath(path, args); err != nil {
				return err
			}
			return fail(printManifestName(g, host, path, asJSON), "manifest-name", path)
		},
	}
	flags := command.Flags()
	flags.StringVar(&host, "hostname", "", "the source's host (default: "+
		"hostname of the configuration, else this machine's)")
	flags.StringVarP(&path, "source-path", "s", "", "the database's path on the source")
	flags.BoolVar(&asJSON, "json", false, "print it with host and path as JSON")
	return command
}

func printManifestName(g *global, host, path string, asJSON bool) error {
	config, err := g.parse()
	if err != nil {
		return err
	}
	address, inStore, err := addressOf(config, path)
	keys := config.Keys
	if err == nil && !inStore && schemeOf(path) != "" {
		err = errors.New("give the path of a database, with --hostname that of another host, or " +
			"file:///STORE/PATH, with a STORE of the configuration")
	}
	if inStore {
		host, path, keys = "", address.Path, config.StoreKeys(address.Store)
	} else if err == nil {
		host, path, err = sourceName(host, path, config.Host())
	}
	if err != nil {
		return err
	}
	sealer, err := keyring.Open(keys, g.log)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	name := manifest.Name(sealer, host, path)
	if asJSON {
		return printJSON(map[string]any{"name": name, "host": host, "path": path})
	}
	_, err = fmt.Println(name)
	return err
}
