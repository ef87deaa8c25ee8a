package vfs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/spool"
)

// Config is one parsed configuration. Build it with [ParseConfig], which fills
// in the defaults; a Config is not changed afterwards and may be shared.
type Config struct {
	MakeDefault bool     // verneuil becomes the process's default VFS
	Patterns    Patterns // of the databases that are replicated then

	TempDir                string      // absolute; empty: SQLite's
	ReplicationSpoolingDir string      // absolute; empty: no replication
	SpoolingDirPermissions fs.FileMode // of ReplicationSpoolingDir if we create it

	Targets               []chunkstore.TargetConfig
	SnapshotLoadingPolicy LoadingPolicy
	SnapshotAutoRefresh   bool          // of replicas that say nothing of it
	CephVFS               bool          // verneuil_remote is called ceph, too (cgo/config.c)
	ReplicaFiles          bool          // a replica file opens as a replica through verneuil, too
	SnapshotReadDeadline  time.Duration // of a replica's read that waits for a chunk

	Hostname          string        // empty: the machine's, see [Config.Host]
	APICallsPerSecond float64       // 0: not set; see [Config.OpenStore]
	ManifestInterval  time.Duration // at most one manifest per database in this time
	UploadConcurrency int
	PatrolDays        int           // 0: never
	HistoryHours      int           // how far back verneuilctl gc leaves every version
	DurableTimeout    time.Duration // that a durable commit waits at most
	RequestPrice      float64       // dollars for a million requests
	StoreTimeout      time.Duration // of one request to a store, and of what waits for nothing else

	// Keys encrypt what targets hold, and stores that have none of their own.
	Keys keyring.Source

	Remote Remote // of databases that live in a store
}

// LoadingMode says how much of a database a replica fetches when it is opened.
type LoadingMode int

const (
	LoadLazy    LoadingMode = iota // what queries touch, with read-ahead
	LoadEager                      // everything
	LoadPartial                    // a first part, the rest when touched
)

// LoadingPolicy is snapshot_loading_policy. For LoadPartial the first
// ceil(sqrt(n)) of n chunks are fetched, but at least MinChunks and at most MaxChunks.
type LoadingPolicy struct {
	Mode                 LoadingMode
	MinChunks, MaxChunks int
}

// configBytesMax bounds a configuration file: enough for thousands of targets,
// and a mistaken @/dev/zero ends.
const configBytesMax = 1 << 20

// backgroundCallsPerSecond is the rate of replication if api_calls_per_second is not set.
const backgroundCallsPerSecond = 30

const day = 24 * time.Hour

// downloadConcurrency: at 30 ms for a request, 32 at a time are at most 70 MB of plain
// chunks a second.
const downloadConcurrency = 32

func defaultConfig() *Config {
	return &Config{
		SpoolingDirPermissions: 0o700,
		SnapshotReadDeadline:   30 * time.Second,
		ManifestInterval:       time.Second,
		UploadConcurrency:      8,
		PatrolDays:             7,
		HistoryHours:           24,
		StoreTimeout:           30 * time.Second,
		DurableTimeout:         30 * time.Second,
		RequestPrice:           5,
		Remote: Remote{
			LeaseTimeout:   10 * time.Second,
			LeaseRenewal:   2 * time.Second,
			LeaseLinger:    time.Second,
			Deadline:       30 * time.Second,
			CommitInterval: 100 * time.Millisecond,
		},
	}
}

// ParseConfig reads a configuration: JSON text, or @ and the path of a JSON file. Empty text gives
// the defaults. It makes directories absolute: see [base]. An unknown key or an impossible value is
// an error that names the key's path; malformed JSON is an error that names the line and column.
func ParseConfig(text string) (*Config, error) {
	source, from := "configuration", base("")
	text = strings.TrimSpace(text)
	if text == "" {
		return defaultConfig(), nil
	}
	if path, ok := strings.CutPrefix(text, "@"); ok {
		path, err := expandHome(path)
		if path == "" {
			err = fmt.Errorf("@ names no file: want @ and a file's path")
		}
		if err == nil {
			text, err = readConfigFile(path)
		}
		if err == nil {
			path, err = filepath.Abs(path)
			from = base(filepath.Dir(path))
		}
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		source = "configuration " + path
	} else if text[0] != '{' {
		const message = "configuration: want a JSON object, or @ and a file's path: %.60q"
		return nil, fmt.Errorf(message, text)
	}
	value, err := parseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	config := defaultConfig()
	if err := config.read(value, from); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return config, nil
}

func readConfigFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, configBytesMax+1))
	if err != nil {
		return "", err
	}
	if len(text) > configBytesMax {
		return "", fmt.Errorf("%s: longer than %d bytes", path, configBytesMax)
	}
	return string(text), nil
}

// OpenStore opens the targets and caches for replication in the background, at
// the configured rate. It sends no request.
func (c *Config) OpenStore(ctx context.Context, log *slog.Logger) (*chunkstore.Store, error) {
	o := c.storeOptions(log, cmp.Or(c.APICallsPerSecond, backgroundCallsPerSecond),
		c.UploadConcurrency)
	o.Background = c.APICallsPerSecond == 0 // else the user wants a limit
	return c.openStore(ctx, c.Keys, chunkstore.Entries("replication_targets", c.Targets), o)
}

// OpenForegroundStore is OpenStore for requests that somebody waits for: commands, and the reads of
// a replica. Unless api_calls_per_second is set, only the stores' own limits bound its rate.
func (c *Config) OpenForegroundStore(
	ctx context.Context, log *slog.Logger,
) (*chunkstore.Store, error) {
	o := c.storeOptions(log, cmp.Or(c.APICallsPerSecond, -1), c.DownloadConcurrency())
	return c.openStore(ctx, c.Keys, chunkstore.Entries("replication_targets", c.Targets), o)
}

// DownloadConcurrency is how many requests restore and verify make at a time. Mostly they wait. It
// is upload_concurrency if that is more.
func (c *Config) DownloadConcurrency() int { return max(c.UploadConcurrency, downloadConcurrency) }

// openStore opens a store of what those keys seal.
func (c *Config) openStore(
	ctx context.Context, keys keyring.Source, entries []chunkstore.Entry, o chunkstore.Options,
) (store *chunkstore.Store, err error) {
	if o.Sealer, err = keyring.Open(keys, o.Log); err != nil {
		return nil, err
	}
	return chunkstore.OpenEntries(ctx, entries, o)
}

func (c *Config) storeOptions(
	log *slog.Logger, callsPerSecond float64, concurrency int,
) chunkstore.Options {
	return chunkstore.Options{
		CallsPerSecond: callsPerSecond,
		Concurrency:    concurrency,
		Timeout:        c.StoreTimeout,
		Log:            log,
	}
}

// Host returns the source's name in manifests: hostname, or else the machine's name.
func (c *Config) Host() string {
	if c.Hostname != "" {
		return c.Hostname
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		return host
	}
	return "localhost"
}

// RequestDollars is what so many requests cost.
func (c *Config) RequestDollars(requests float64) float64 { return requests * c.RequestPrice / 1e6 }

// sendsTo returns how many targets are not caches.
func (c *Config) sendsTo() (n int) {
	for _, t := range c.Targets {
		if _, ok := t.(chunkstore.TargetOpener); ok {
			n++
		}
	}
	return n
}

// Source is what another process, or verneuilctl flush, needs to replicate the database
// at path.
func (c *Config) Source(path string) spool.SourceConfig {
	return spool.SourceConfig{
		Path:               path,
		Host:               c.Host(),
		Targets:            c.Targets,
		ManifestIntervalMS: c.ManifestInterval.Milliseconds(),
		APICallsPerSecond:  c.APICallsPerSecond,
		UploadConcurrency:  c.UploadConcurrency,
		TimeoutMS:          c.StoreTimeout.Milliseconds(),
		KeyFile:            c.Keys.File,
		KeyCommand:         c.Keys.Command,
	}
}

// read reads the table of keys.
func (c *Config) read(value any, from base) error {
	err := readObject("", value, fields{
		"make_default":                         c.readMakeDefault,
		"tempdir":                              from.directory(&c.TempDir),
		"replication_spooling_dir":             from.directory(&c.ReplicationSpoolingDir),
		"replication_spooling_dir_permissions": permissions(&c.SpoolingDirPermissions),
		"replication_targets": list(from.target(func(_ string, t chunkstore.TargetConfig) error {
			c.Targets = append(c.Targets, t)
			return nil
		})),
		"snapshot_loading_policy":    c.SnapshotLoadingPolicy.read,
		"snapshot_auto_refresh":      boolean(&c.SnapshotAutoRefresh),
		"replica_files":              boolean(&c.ReplicaFiles),
		"snapshot_read_deadline_ms":  milliseconds(&c.SnapshotReadDeadline, 1, day),
		"hostname":                   c.readHostname,
		"api_calls_per_second":       positive(&c.APICallsPerSecond, 1e6),
		"manifest_interval_ms":       milliseconds(&c.ManifestInterval, 1, day),
		"upload_concurrency":         integer(&c.UploadConcurrency, 1, 1024),
		"store_timeout_ms":           milliseconds(&c.StoreTimeout, 1, day),
		"durable_timeout_ms":         milliseconds(&c.DurableTimeout, 1, day),
		"price_per_million_requests": positive(&c.RequestPrice, 1e9),
		"patrol_days":                integer(&c.PatrolDays, 0, 36500),
		"history_hours":              integer(&c.HistoryHours, 1, 876000),
		"key_file":                   from.directory(&c.Keys.File),
		"key_command":                from.command(&c.Keys.Command),

		"stores":                    c.Remote.readStores(from),
		"ceph_vfs":                  boolean(&c.CephVFS),
		"lease_timeout_ms":          milliseconds(&c.Remote.LeaseTimeout, 100, day),
		"lease_renewal_ms":          milliseconds(&c.Remote.LeaseRenewal, 10, day),
		"lease_linger_ms":           milliseconds(&c.Remote.LeaseLinger, 0, day),
		"remote_deadline_ms":        milliseconds(&c.Remote.Deadline, 100, day),
		"remote_commit_interval_ms": milliseconds(&c.Remote.CommitInterval, 1, day),
	})
	if err == nil {
		err = chunkstore.ValidateEntries(chunkstore.Entries("replication_targets", c.Targets))
	}
	if err == nil {
		err = c.Keys.Validate()
	}
	if err == nil {
		err = c.Remote.validate()
	}
	return err
}

func (c *Config) readHostname(at string, value any) error {
	if err := text(&c.Hostname)(at, value); err != nil {
		return err
	}
	if strings.ContainsFunc(c.Hostname,
		func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }) {
		return fmt.Errorf("%s: %q contains a blank, a slash or a control character", at, c.Hostname)
	}
	if len(c.Hostname) > 255 {
		return fmt.Errorf("%s: longer than 255 bytes", at)
	}
	return nil
}

// partialMaxDefault is the original system's default for partial.max.
const partialMaxDefault = 16

func (p *LoadingPolicy) read(at string, value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		switch v {
		case "default":
			*p = LoadingPolicy{Mode: LoadLazy}
			return nil
		case "eager":
			*p = LoadingPolicy{Mode: LoadEager}
			return nil
		}
		return fmt.Errorf(`%s: %q, want "default", "eager" or {"partial": …}`, at, v)
	case object:
		if len(v) == 0 {
			return fmt.Errorf(`%s: has no keys, want "partial"`, at)
		}
		*p = LoadingPolicy{Mode: LoadPartial, MinChunks: 1, MaxChunks: -1}
		return readObject(at, v, fields{"partial": p.readPartial})
	}
	return wrongType(at, value, "a string or an object")
}

func (p *LoadingPolicy) readPartial(at string, value any) error {
	err := readObject(at, value, fields{
		"min": integer(&p.MinChunks, 0, math.MaxInt32),
		"max": integer(&p.MaxChunks, 0, math.MaxInt32),
	})
	if err != nil {
		return err
	}
	if p.MaxChunks < 0 {
		p.MaxChunks = max(partialMaxDefault, p.MinChunks)
	}
	if p.MinChunks > p.MaxChunks {
		return fmt.Errorf("%s: min is %d, which is more than max, %d", at, p.MinChunks, p.MaxChunks)
	}
	return nil
}

// permissions accepts a mode as a decimal JSON number (448), or, easier to read, as an octal string
// ("0700"). The owner always keeps all rights.
func permissions(dst *fs.FileMode) reader {
	return func(at string, value any) error {
		var mode int64
		switch v := value.(type) {
		case nil:
			return nil
		case string:
			octal, err := strconv.ParseInt(v, 8, 32)
			if err != nil || octal < 0 || octal > 0o777 {
				return fmt.Errorf(`%s: %q, want an octal mode such as "0700"`, at, v)
			}
			mode = octal
		default:
			if err := integer(&mode, 0, 0o777)(at, value); err != nil {
				return err
			}
		}
		*dst = fs.FileMode(mode) | 0o700
		return nil
	}
}
