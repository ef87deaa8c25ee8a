package vfs_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"verneuil/chunkstore"
	"verneuil/chunkstore/cache"
	"verneuil/chunkstore/dir"
	"verneuil/chunkstore/s3"
	"verneuil/chunkstore/storetest"
	"verneuil/vfs"
)

func TestParseConfigDefaults(t *testing.T) {
	for _, text := range []string{"", " \n", "{}"} {
		got, err := vfs.ParseConfig(text)
		if err != nil {
			t.Fatalf("ParseConfig(%q): %v", text, err)
		}
		want := &vfs.Config{
			SpoolingDirPermissions: 0o700,
			ManifestInterval:       time.Second,
			UploadConcurrency:      8,
			SnapshotReadDeadline:   30 * time.Second,
			PatrolDays:             7,
			HistoryHours:           24,
			StoreTimeout:           30 * time.Second,
			DurableTimeout:         30 * time.Second,
			RequestPrice:           5,
			Remote: vfs.Remote{
				LeaseTimeout:   10 * time.Second,
				LeaseRenewal:   2 * time.Second,
				LeaseLinger:    time.Second,
				Deadline:       30 * time.Second,
				CommitInterval: 100 * time.Millisecond,
			},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ParseConfig(%q) = %+v, want %+v", text, got, want)
		}
	}
}

const everyKey = `{
	"make_default": true,
	"tempdir": "/tmp/t",
	"replication_spooling_dir": "/tmp/verneuil/",
	"replication_spooling_dir_permissions": 493,
	"replication_targets": [
		{"s3": {"region": "minio", "endpoint": "http://127.0.0.1:7777", "chunk_bucket": "chunks",
			"manifest_bucket": "manifests", "domain_addressing": false,
			"create_buckets_on_demand": true}},
		{"s3": {"region": "us-east-2", "bucket": "b", "prefix": "app/"}},
		{"dir": {"path": "/srv/store"}},
		{"local": {"directory": "/tmp/verneuil-cache/", "num_shards": 128, "capacity": 10000}},
		{"read_only": {"directory": "/srv/cache", "num_shards": 4}}
	],
	"snapshot_loading_policy": {"partial": {"min": 2, "max": 5}},
	"snapshot_read_deadline_ms": 1500,
	"snapshot_auto_refresh": true,
	"replica_files": true,
	"hostname": "pk-m2-mba",
	"api_calls_per_second": 0.5,
	"manifest_interval_ms": 250,
	"upload_concurrency": 3,
	"patrol_days": 0,
	"durable_timeout_ms": 2500,
	"price_per_million_requests": 0.4,
	"history_hours": 48,
	"store_timeout_ms": 1250,
	"stores": {
		"main": {"s3": {"region": "us-east-2", "bucket": "b", "prefix": "app/"}},
		"nas_1.x-y": {"dir": {"path": "/srv/nas"}}
	},
	"lease_timeout_ms": 5000,
	"lease_renewal_ms": 2500,
	"lease_linger_ms": 0,
	"remote_deadline_ms": 7000,
	"remote_commit_interval_ms": 20
}`

func TestParseConfigEveryKey(t *testing.T) {
	want := &vfs.Config{
		MakeDefault:            true,
		TempDir:                "/tmp/t",
		ReplicationSpoolingDir: "/tmp/verneuil",
		SpoolingDirPermissions: 0o755,
		Targets: []chunkstore.TargetConfig{
			&s3.Config{Region: "minio", Endpoint: "http://127.0.0.1:7777", ChunkBucket: "chunks",
				ManifestBucket: "manifests", CreateBucketsOnDemand: true},
			&s3.Config{Region: "us-east-2", Bucket: "b", Prefix: "app/"},
			&dir.Config{Path: "/srv/store"},
			&cache.Local{Directory: "/tmp/verneuil-cache", NumShards: 128, Capacity: 10000},
			&cache.ReadOnly{Directory: "/srv/cache", NumShards: 4},
		},
		SnapshotLoadingPolicy: vfs.LoadingPolicy{Mode: vfs.LoadPartial, MinChunks: 2, MaxChunks: 5},
		SnapshotReadDeadline:  1500 * time.Millisecond,
		SnapshotAutoRefresh:   true,
		ReplicaFiles:          true,
		Hostname:              "pk-m2-mba",
		APICallsPerSecond:     0.5,
		ManifestInterval:      250 * time.Millisecond,
		UploadConcurrency:     3,
		HistoryHours:          48,
		StoreTimeout:          1250 * time.Millisecond,
		DurableTimeout:        2500 * time.Millisecond,
		RequestPrice:          0.4,
		Remote: vfs.Remote{
			Stores: map[string]chunkstore.TargetConfig{
				"main":      &s3.Config{Region: "us-east-2", Bucket: "b", Prefix: "app/"},
				"nas_1.x-y": &dir.Config{Path: "/srv/nas"},
			},
			LeaseTimeout:   5 * time.Second,
			LeaseRenewal:   2500 * time.Millisecond,
			Deadline:       7 * time.Second,
			CommitInterval: 20 * time.Millisecond,
		},
	}
	path := filepath.Join(t.TempDir(), "verneuil.json")
	if err := os.WriteFile(path, []byte(everyKey), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{everyKey, "@" + path} {
		got, err := vfs.ParseConfig(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got.Host() != "pk-m2-mba" {
			t.Errorf("Host() = %q", got.Host())
		}
	}
}

func TestParseConfigLoadingPolicy(t *testing.T) {
	for text, want := range map[string]vfs.LoadingPolicy{
		`"default"`:                       {Mode: vfs.LoadLazy},
		`"eager"`:                         {Mode: vfs.LoadEager},
		`null`:                            {Mode: vfs.LoadLazy},
		`{"partial": {}}`:                 {Mode: vfs.LoadPartial, MinChunks: 1, MaxChunks: 16},
		`{"partial": {"min": 40}}`:        {Mode: vfs.LoadPartial, MinChunks: 40, MaxChunks: 40},
		`{"partial":{"min":0,"max":100}}`: {Mode: vfs.LoadPartial, MinChunks: 0, MaxChunks: 100},
	} {
		got, err := vfs.ParseConfig(`{"snapshot_loading_policy": ` + text + `}`)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got.SnapshotLoadingPolicy != want {
			t.Errorf("%s: got %+v, want %+v", text, got.SnapshotLoadingPolicy, want)
		}
	}
}

// directories are the keys of directories, and a configuration that has one of them only.
var directories = map[string]string{
	"replication_spooling_dir": `{"replication_spooling_dir": %q}`,
	"tempdir":                  `{"tempdir": %q}`,
	"replication_targets[0].dir.path": `{"replication_targets": [
		{"dir": {"path": %q}}]}`,
	"stores.a.dir.path": `{"stores": {"a": {"dir": {"path": %q}}}}`,
	"replication_targets[0].local.directory": `{"replication_targets": [
		{"local": {"directory": %q, "num_shards": 1, "capacity": 9}}]}`,
	"replication_targets[0].read_only.directory": `{"replication_targets": [
		{"read_only": {"directory": %q, "num_shards": 1}}]}`,
}

// TestParseConfigDirectories: directories mean the same place in each process, or are refused by an
// error that names the key and the remedy.
func TestParseConfigDirectories(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SPOOL", "/elsewhere")
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	const inFile, inline = 1, 2
	for _, c := range []struct {
		path string
		in   int
		want string // a directory, or what the error says
	}{
		{"/srv/a/../spool/", inFile | inline, "/srv/spool"},
		{"~/spool", inFile | inline, home + "/spool"},
		{"~", inFile | inline, home},
		{"spool", inFile, dir + "/conf/spool"},
		{"./spool", inFile, dir + "/conf/spool"},
		{"../spool", inFile, dir + "/spool"},
		{"./~x", inFile, dir + "/conf/~x"},
		{"/srv/a$", inFile | inline, "/srv/a$"},
		{"/srv/$1", inFile | inline, "/srv/$1"},
		{"spool", inline, `"spool" is relative, and there is no configuration file`},
		{"../spool", inline, "begin it with / or ~/"},
		{"$HOME/spool", inFile | inline, `"$HOME/spool": variables are not expanded: ` +
			`write out the path, or begin it with ~/`},
		{"${SPOOL}", inFile | inline, "variables are not expanded"},
		{"/srv/$SPOOL/x", inFile | inline, "variables are not expanded"},
		{"/srv/$(hostname)", inFile | inline, "variables are not expanded"},
		{"~root/spool", inFile | inline, `"~root/spool": only ~/ is expanded`},
		{"file:///srv/spool", inFile | inline, "is a URL: want a directory"},
	} {
		for key, format := range directories {
			text := fmt.Sprintf(format, c.path)
			file := filepath.Join(dir, "conf", "verneuil.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Chdir(dir)
			for in, configs := range map[int][]string{
				inline: {text},
				inFile: {"@" + file, "@conf/verneuil.json", "@./conf/../conf/verneuil.json"},
			} {
				for _, config := range configs {
					if c.in&in == 0 {
						continue
					}
					got, err := vfs.ParseConfig(config)
					switch {
					case err == nil && onlyDirectory(got) != c.want:
						t.Errorf("%s in %s: %q, want %q", text, config, onlyDirectory(got), c.want)
					case err != nil && (!strings.Contains(err.Error(), key+": ") ||
						!strings.Contains(err.Error(), c.want)):
						t.Errorf("%s in %s: %v, want %q", text, config, err, c.want)
					}
				}
			}
		}
	}
}

// TestParseConfigHome: a file in the home directory is found, if there is one.
func TestParseConfigHome(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	file := filepath.Join(home, "v.json")
	if err := os.WriteFile(file, []byte(`{"tempdir": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := vfs.ParseConfig("@~/v.json"); err != nil || got.TempDir != home+"/x" {
		t.Errorf("@~/v.json: %+v, %v", got, err)
	}
	for _, unset := range []string{"", "relative"} {
		t.Setenv("HOME", unset)
		if _, err := vfs.ParseConfig(`{"tempdir": "~/x"}`); err == nil ||
			!strings.Contains(err.Error(), `tempdir: "~/x": HOME names no directory`) {
			t.Errorf("HOME=%q: %v", unset, err)
		}
	}
}

// onlyDirectory returns the one directory that c names.
func onlyDirectory(c *vfs.Config) string {
	dirs := c.TempDir + c.ReplicationSpoolingDir
	for _, t := range append(slices.Collect(maps.Values(c.Remote.Stores)), c.Targets...) {
		switch t := t.(type) {
		case *dir.Config:
			dirs += t.Path
		case chunkstore.CacheOpener:
			place, _ := t.Place()
			dirs += place
		}
	}
	return dirs
}

func TestParseConfigPermissions(t *testing.T) {
	got, err := vfs.ParseConfig(`{"replication_spooling_dir_permissions": "0750"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got.SpoolingDirPermissions != 0o750 {
		t.Errorf("permissions %o, want 750", got.SpoolingDirPermissions)
	}
}

// openS3 is a target, but for its last brace.
const openS3 = `{"region": "r", "chunk_bucket": "chunks", "manifest_bucket": "manifests"`

var configErrors = []struct{ text, want string }{
	// Malformed.
	{"{\n  \"make_default\": true,\n  oops\n}", "configuration: line 3, column 3: "},
	{`{"hostname": "h"`, "line 1, column 16: unexpected end"},
	{`{} {}`, "line 1, column 4: "},
	{`/tmp/verneuil.json`,
		`want a JSON object, or @ and a file's path: "/tmp/verneuil.json"`},
	{`[]`, "want a JSON object"},
	{`@/nonexistent/verneuil.json`, "/nonexistent/verneuil.json: no such file"},
	{`@`, "configuration: "},
	{"@/dev/zero", "/dev/zero: longer than"},
	{"{\"hostname\": \"\xff\"}", "not UTF-8"},
	{"{\"hostname\": " + strings.Repeat("[", 20000), "depth"},
	// Unknown, doubled.
	{`{"make_defualt": true}`, "make_defualt: unknown key"},
	{`{"MAKE_DEFAULT": true}`, "MAKE_DEFAULT: unknown key"},
	{`{"replication_targets": [{"s3": {"chunk_buket": "x"}}]}`,
		"replication_targets[0].s3.chunk_buket: unknown key"},
	{`{"hostname": "a", "hostname": "b"}`, "hostname: given twice"},
	{`{"replication_targets": [{"dir": {"path": "/a", "path": "/b"}}]}`,
		"replication_targets[0].dir.path: given twice"},
	{`{"snapshot_loading_policy": {"partial": {"mid": 1}}}`,
		"snapshot_loading_policy.partial.mid: unknown key"},
	// Wrong types.
	{`{"make_default": 1}`, "make_default: is a number, want true, false, or an object"},
	{`{"tempdir": {}}`, "tempdir: is an object, want a string"},
	{`{"replication_targets": {}}`, "replication_targets: is an object, want an array"},
	{`{"replication_targets": ["dir"]}`, "replication_targets[0]: is a string, want an object"},
	{`{"replication_targets": [{"dir": "/a"}]}`,
		"replication_targets[0].dir: is a string, want an object"},
	{`{"replication_targets": [{"s3": ` + openS3 + `, "domain_addressing": "no"}}]}`,
		"replication_targets[0].s3.domain_addressing: is a string, want true or false"},
	{`{"api_calls_per_second": "30"}`, "api_calls_per_second: is a string, want a number"},
	{`{"upload_concurrency": 1.5}`, "upload_concurrency: 1.5, want a whole number"},
	{`{"snapshot_loading_policy": 7}`,
		"snapshot_loading_policy: is a number, want a string or an object"},
	// Impossible values.
	{`{"api_calls_per_second": 0}`, "api_calls_per_second: 0, want more than 0"},
	{`{"api_calls_per_second": 1e999}`, "api_calls_per_second: 1e999"},
	{`{"manifest_interval_ms": 0}`, "manifest_interval_ms: 0, want 1 to"},
	{`{"upload_concurrency": 99999999999999999999}`,
		"upload_concurrency: 99999999999999999999, want 1 to 1024"},
	{`{"snapshot_read_deadline_ms": 0}`, "snapshot_read_deadline_ms: 0, want 1 to"},
	{`{"store_timeout_ms": 0}`, "store_timeout_ms: 0, want 1 to"},
	{`{"patrol_days": -1}`, "patrol_days: -1, want 0 to"},
	{`{"history_hours": 0}`, "history_hours: 0, want 1 to"},
	{`{"hostname": "a b"}`, `hostname: "a b" contains a blank`},
	{`{"replication_spooling_dir": ""}`, "replication_spooling_dir: empty"},
	{`{"tempdir": "/a\u0000b"}`, "tempdir: "},
	{`{"replication_spooling_dir_permissions": 512}`,
		"replication_spooling_dir_permissions: 512, want 0 to 511"},
	{`{"replication_spooling_dir_permissions": "0999"}`,
		`replication_spooling_dir_permissions: "0999", want an octal mode`},
	{`{"snapshot_loading_policy": "partial"}`, `snapshot_loading_policy: "partial", want`},
	{`{"snapshot_loading_policy": {}}`, `snapshot_loading_policy: has no keys`},
	{`{"snapshot_loading_policy": {"partial": {"min": 9, "max": 3}}}`,
		"snapshot_loading_policy.partial: min is 9, which is more than max, 3"},
	// Targets.
	{`{"replication_targets": [{}]}`,
		"replication_targets[0]: has 0 keys (none), " +
			"want exactly one of dir, local, rados, read_only, s3"},
	{`{"replication_targets": [{"dir": {"path": "/a"}}, {"dir": {"path": "/a"}, "s3": {}}]}`,
		"replication_targets[1]: has 2 keys (dir, s3)"},
	{`{"replication_targets": [{"gcs": {}}]}`,
		"replication_targets[0].gcs: unknown kind of target"},
	{`{"replication_targets": [{"dir": null}]}`, "replication_targets[0].dir"},
	{`{"replication_targets": [{"s3": {"region":"r","chunk_bucket":"c","manifest_bucket":"m",` +
		`"endpoint":"http://h?token=x"}}]}`,
		"replication_targets[0].s3.endpoint: want http://HOST"},
	{`{"replication_targets": [{"s3": {"region":"r","chunk_bucket":"c","manifest_bucket":"m",` +
		`"endpoint":"http://h/c"}}]}`,
		"replication_targets[0].s3.endpoint: it ends with the path /c: leave that out"},
	{`{"replication_targets": [{"s3": {}}]}`, "replication_targets[0].s3"},
	{`{"replication_targets": [{"s3": ` + openS3 + `, "bucket": "b"}}]}`,
		"replication_targets[0].s3.bucket: excludes"},
	{`{"replication_targets": [{"dir": {"path": "/a"}}, {"dir": {"path": "/a/"}}]}`,
		"replication_targets[1]: is the same place as replication_targets[0]"},
	{`{"replication_targets": [{"local": {"directory": "/c", "num_shards": -1}}]}`,
		"replication_targets[0].local.num_shards: -1"},
	{`{"replication_targets": [{"local": ` +
		`{"directory": "/c", "num_shards": 1, "capacity": 0}}]}`,
		"replication_targets[0].local.capacity: 0"},
	// Stores.
	{`{"stores": []}`, "stores: is an array, want an object"},
	{`{"stores": {"a/b": {"dir": {"path": "/x"}}}}`,
		`stores.a/b: "a/b" cannot be the name of a store: want letters`},
	{`{"stores": {"": {"dir": {"path": "/x"}}}}`, `"" cannot be the name of a store`},
	{`{"stores": {"..": {"dir": {"path": "/x"}}}}`, `stores...: ".." cannot be the name`},
	{`{"stores": {"ä": {"dir": {"path": "/x"}}}}`, `"ä" cannot be the name of a store`},
	{`{"stores": {"` + strings.Repeat("a", 101) + `": {}}}`, "longer than 100 bytes"},
	{`{"stores": {"a": {"dir": {"path": "/x"}}, "a": {}}}`, "stores.a: given twice"},
	{`{"stores": {"a": {}}}`, "stores.a: has 0 keys (none), want exactly one of dir"},
	{`{"stores": {"a": {"dir": {}}}}`, "stores.a.dir.path: missing"},
	{`{"stores": {"a": {"s3": {"region": "r"}}}}`, "stores.a.s3.bucket: missing"},
	{`{"stores": {"a": {"read_only": {"directory": "/c", "num_shards": 1}}}}`,
		"stores.a.read_only: is a cache: want a store"},
	{`{"stores": {"b": {"dir": {"path": "/x"}}, "a": {"dir": {"path": "/x"}}}}`,
		"stores.b: is the same place as stores.a"},
	{`{"lease_timeout_ms": 99}`, "lease_timeout_ms: 99, want 100 to"},
	{`{"lease_renewal_ms": 5001}`,
		"lease_renewal_ms: 5001 is more than half of lease_timeout_ms, 10000"},
	{`{"lease_linger_ms": -1}`, "lease_linger_ms: -1, want 0 to"},
	{`{"remote_deadline_ms": 100, "remote_commit_interval_ms": 101}`,
		"remote_commit_interval_ms: 101 is more than remote_deadline_ms, 100"},
}

// TestOpenNamedStore: a store has the one target that its name stands for, and the caches of the
// configuration; who names another one is told which there are.
func TestOpenNamedStore(t *testing.T) {
	dirs := t.TempDir()
	c, err := vfs.ParseConfig(fmt.Sprintf(`{
		"stores": {"b": {"dir": {"path": %q}}, "a": {"dir": {"path": "%[1]s/a"}}},
		"replication_targets": [{"dir": {"path": "%[1]s/target"}},
			{"local": {"directory": "%[1]s/cache", "num_shards": 1, "capacity": 9}}]}`, dirs))
	if err != nil {
		t.Fatal(err)
	}
	store, err := c.OpenNamedStore(t.Context(), "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(store.Targets) != 1 || store.Targets[0].Name != "directory "+dirs+"/a" {
		t.Errorf("targets: %+v", store.Targets)
	}
	refs := storetest.PutObjects(t, store.Targets[0], []byte("chunk"))
	if _, err := store.GetObject(t.Context(), store.Targets[0], refs[0]); err != nil {
		t.Error(err)
	}
	if cached := storetest.FilesIn(t, dirs+"/cache"); len(cached) == 0 {
		t.Error("what was read is not in the cache")
	}
	_, err = c.OpenNamedStore(t.Context(), "c", nil)
	if !errors.Is(err, vfs.ErrNoStore) || !strings.Contains(err.Error(), "has a, b") {
		t.Errorf("a store that is not there: %v", err)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for _, c := range configErrors {
		config, err := vfs.ParseConfig(c.text)
		if err == nil {
			t.Errorf("ParseConfig(%.100q) = %+v, want an error with %q", c.text, config, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseConfig(%.100q): %v, want an error with %q", c.text, err, c.want)
		} else if strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("ParseConfig(%.100q): error has more than one line: %v", c.text, err)
		}
	}
}

// FuzzParseConfig: no text panics, and what is accepted keeps the promises of
// Config's fields.
func FuzzParseConfig(f *testing.F) {
	f.Add(everyKey)
	f.Add(`{"snapshot_loading_policy": "eager", "replication_spooling_dir_permissions": "0700"}`)
	f.Add(`{"replication_targets": [{"dir": null}, {}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(strings.TrimSpace(text), "@") {
			t.Skip("reads a file")
		}
		c, err := vfs.ParseConfig(text)
		if err != nil {
			return
		}
		for _, dir := range []string{c.TempDir, c.ReplicationSpoolingDir} {
			if dir != "" && !filepath.IsAbs(dir) {
				t.Errorf("directory %q is relative", dir)
			}
		}
		if c.APICallsPerSecond < 0 || c.ManifestInterval <= 0 || c.SnapshotReadDeadline <= 0 ||
			c.UploadConcurrency < 1 || c.PatrolDays < 0 || c.HistoryHours < 1 {
			t.Errorf("pacing out of bounds: %+v", c)
		}
		if p := c.SnapshotLoadingPolicy; p.MinChunks < 0 || p.MinChunks > p.MaxChunks {
			t.Errorf("loading policy out of bounds: %+v", p)
		}
		if c.SpoolingDirPermissions&0o700 != 0o700 {
			t.Errorf("permissions %o", c.SpoolingDirPermissions)
		}
	})
}
