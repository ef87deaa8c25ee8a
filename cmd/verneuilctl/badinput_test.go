package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore/miniotest"
)

// refuse runs verneuilctl, which must end with that code, say one line that holds
// each of wants, and write nothing to stdout.
func refuse(t *testing.T, code int, wants []string, args ...string) {
	t.Helper()
	r := ctl(t, args...)
	line := strings.TrimSuffix(r.said(), "\n")
	if r.code != code {
		t.Errorf("verneuilctl %s: exit code %d, want %d\n%s", strings.Join(args, " "), r.code, code,
			r.stderr)
	}
	if !strings.HasPrefix(line, "verneuilctl: ") || strings.Contains(line, "\n") {
		t.Errorf("verneuilctl %s: stderr is not one line of ours: %q", strings.Join(args, " "),
			r.stderr)
	}
	for _, want := range wants {
		if !strings.Contains(line, want) {
			t.Errorf("verneuilctl %s: message %q, want %q in it", strings.Join(args, " "), line,
				want)
		}
	}
	if r.stdout != "" {
		t.Errorf("verneuilctl %s: writes %q to stdout", strings.Join(args, " "), r.stdout)
	}
}

func TestUsage(t *testing.T) {
	s := dirSite(t)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"missing command", nil},
		{`unknown command "snyc": did you mean sync?`, []string{"snyc"}},
		{`unknown command "chek": did you mean check?`, []string{"config", "chek"}},
		{"missing command: config check", []string{"config"}},
		{"missing shell: completion bash", []string{"completion"}},
		{`unknown command "zhs": did you mean zsh?`, []string{"completion", "zhs"}},
		{`unknown command "nosh"`, []string{"completion", "nosh"}},
		{`unknown command "snyc": did you mean sync?`, []string{"help", "snyc"}},
		{`unknown command "chek": did you mean check?`, []string{"help", "config", "chek"}},
		{"unknown flag: --optimise: did you mean --optimize?",
			[]string{"sync", "x.db", "--optimise"}},
		{"which database?", []string{"sync"}},
		{`unexpected argument "b"`, []string{"sync", "a", "b"}},
		{"which database?", []string{"manifest-name"}},
		{"which database?", []string{"restore"}},
		{"which database?", []string{"restore", "--force", "--hostname", "h"}},
		{"--manifest, excludes --hostname and --source-path",
			[]string{"restore", "--manifest", "f", "--source-path", "/x"}},
		{"--manifest, excludes --hostname and --source-path",
			[]string{"shell", "--manifest", "f", "--hostname", "h"}},
		{"give one", []string{"manifest", "/x", "--source-path", "/x"}},
		{"give one", []string{"restore", "/x", "--manifest", "f"}},
		{"a URI, or --manifest, excludes --hostname",
			[]string{"restore", "verneuil://h/x", "--hostname", "h"}},
		{`unexpected argument "y"`, []string{"restore", "/x", "y"}},
		{"give one", []string{"sync", "/x", "-s", "/x"}},
		{"--json needs a file", []string{"restore", "/x", "--json"}},
		{"flag needs an argument", []string{"restore", "--out"}},
		{"--out: empty", []string{"restore", "/x", "--out", ""}},
		{"--at: empty", []string{"restore", "/x", "--out", "y", "--at="}},
		{"--version-id: empty", []string{"shell", "/x", "--version-id", ""}},
		{"--config: empty", []string{"-c", "", "ls"}},
		{"--hostname: empty", []string{"ls", "--hostname", ""}},
		{"argument 1 is empty", []string{"flush", ""}},
		{"argument 2 is empty", []string{"export", "/x", ""}},
		{`log level "loud"`, []string{"-l", "loud", "-c", s.config(), "sync", "x.db"}},
	} {
		refuse(t, 2, []string{c.want}, c.args...)
	}
	for _, args := range [][]string{{"--help"}, {"sync", "--help"}, {"--version"}, {"help"},
		{"help", "config", "check"}, {"completion", "--help"}, {"completion", "fish"}} {
		if r := ctl(t, args...); r.code != 0 || r.stdout == "" || r.stderr != "" {
			t.Errorf("verneuilctl %s: exit code %d, stdout %q, stderr %q", args, r.code, r.stdout,
				r.stderr)
		}
	}
}

func TestBadConfiguration(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	for _, c := range []struct {
		config string
		wants  []string
	}{
		{"{", []string{"configuration: line 1, column"}},
		{"@" + s.path("none.json"), []string{s.path("none.json"), "no such file"}},
		{"@" + s.write("bad.json", []byte("{\n\"hostname\" 1}")),
			[]string{"bad.json", "line 2, column 12"}},
		{`{"replication_target": []}`, []string{"replication_target: unknown key"}},
		{`{"make_default": "yes"}`, []string{"make_default: is a string"}},
		{`{"replication_spooling_dir": "` + s.path("spool") + `"}`,
			[]string{"sync " + db, "replication_targets"}},
		{`{"replication_targets": [{"ftp": {}}]}`,
			[]string{"replication_targets[0].ftp: unknown kind of target"}},
		{`{"replication_targets": [{"s3": {"chunk_buket": "c"}}]}`,
			[]string{"replication_targets[0].s3.chunk_buket: unknown key"}},
		{`{"replication_targets": [{"dir": {"path": "` + s.path("store") + `"}}]}`,
			[]string{"replication_spooling_dir"}},
	} {
		refuse(t, 1, c.wants, "-c", c.config, "sync", db)
	}
	t.Setenv("VERNEUIL_CONFIG", "")
	refuse(t, 1, []string{"sync " + db, "no configuration"}, "sync", db)
	t.Setenv("VERNEUIL_CONFIG", "@")
	refuse(t, 1, []string{"VERNEUIL_CONFIG: configuration: @ names no file"}, "sync", db)
	t.Setenv("VERNEUIL_CONFIG", "{")
	refuse(t, 1, []string{"VERNEUIL_CONFIG: configuration: line 1"}, "restore", "--force", "-s", db,
		"-o", s.path("out"))
	if _, err := os.Stat(s.path("store")); err == nil {
		t.Error("a refused command made the store")
	}
}

func TestBadDatabase(t *testing.T) {
	s := dirSite(t)
	garbage := s.write("garbage.db", []byte(strings.Repeat("not a database. ", 1000)))
	for path, want := range map[string]string{
		s.path("none.db"): "no such file",
		garbage:           "not a database",
		s.dir:             "is a directory",
		os.DevNull:        "not a regular file",
	} {
		refuse(t, 1, []string{"sync " + path, want}, "-c", s.config(), "sync", path)
	}
	if _, err := os.Stat(s.path("none.db")); err == nil {
		t.Error("sync made the missing database")
	}
	if _, err := os.Stat(s.path("store")); err == nil {
		t.Error("a refused sync wrote to the store")
	}
}

func TestUnknownSource(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	for _, args := range [][]string{
		{"--hostname", "elsewhere", "--source-path", db},
		{"--source-path", s.path("other.db")},
		{"--manifest", "verneuil://elsewhere" + db},
		{"--manifest", s.path("none.manifest")},
		{"--manifest", "file://" + s.path("none.manifest")},
	} {
		name := args[len(args)-1]
		refuse(t, 1, []string{"restore", name, "not found"},
			append([]string{"-c", s.config(), "restore", "--out", s.path("out.db")}, args...)...)
		refuse(t, 1, []string{"manifest", name, "not found"},
			append([]string{"-c", s.config(), "manifest", "--json"}, args...)...)
	}
	refuse(t, 1, []string{"gopher"}, "-c", s.config(), "restore", "--manifest", "gopher://x/y",
		"--out", s.path("out.db"))
	refuse(t, 1, []string{"relative.db", "must be absolute"}, "-c", s.config(), "restore",
		"--force", "--hostname", "elsewhere", "-s", "relative.db", "-o", s.path("out.db"))
	refuse(t, 1, []string{db, "a database, not a manifest"}, "-c", s.config(), "restore",
		"--manifest", db, "--out", s.path("out.db"))
	s.noLeftovers("out.db")
}

// noLeftovers checks that neither the file nor a temporary one is there.
func (s *site) noLeftovers(name string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == name || strings.HasPrefix(entry.Name(), ".") {
			s.t.Errorf("%s was left behind", entry.Name())
		}
	}
}

// damages are what may become of a stored file, which has the content b.
var damages = map[string]func(file string, b []byte) error{
	"missing": func(file string, _ []byte) error { return os.Remove(file) },
	"empty":   func(file string, _ []byte) error { return os.WriteFile(file, nil, 0o600) },
	"truncated": func(file string, b []byte) error {
		return os.WriteFile(file, b[:len(b)/2], 0o600)
	},
	// Several: of what zstd has packed there are single bits that make no difference.
	"flipped bits": func(file string, b []byte) error {
		for i := len(b) - 40; i < len(b)-8; i++ {
			b[i] ^= 0x20
		}
		return os.WriteFile(file, b, 0o600)
	},
	"other content": func(file string, _ []byte) error {
		return os.WriteFile(file, []byte(strings.Repeat("x", 9999)), 0o600)
	},
}

// leafPacks returns the names of the packs in which the leaves on top of db's manifest stand.
func (s *site) leafPacks(db string) (names []string) {
	s.t.Helper()
	var m struct {
		Levels int
		Top    []struct{ Pack string }
	}
	if err := json.Unmarshal([]byte(must(s.t, "-c", s.config(), "manifest", "--json", db)),
		&m); err != nil {
		s.t.Fatal(err)
	}
	for _, leaf := range m.Top {
		if m.Levels > 0 {
			names = append(names, leaf.Pack)
		}
	}
	return names
}

// TestDamagedStore: each kind of object, damaged in each way, is named by restore,
// which leaves nothing behind, and is never restored.
func TestDamagedStore(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 6<<20) // above 4 MiB there are leaves
	must(t, "-c", s.config(), "sync", db)
	leaves := s.leafPacks(db)
	if len(leaves) == 0 {
		t.Fatal("the manifest names no leaf")
	}
	objects := map[string]string{}
	for _, file := range s.packs() {
		if slices.Contains(leaves, filepath.Base(file)) {
			objects["leaf"] = file
		} else {
			objects["chunk"] = file
		}
	}
	manifests := s.files("store/manifests")
	if len(manifests) != 1 || len(objects) != 2 {
		t.Fatalf("found manifests %q and objects %q", manifests, objects)
	}
	objects["manifest"] = manifests[0]
	for kind, file := range objects {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for damage, apply := range damages {
			t.Run(kind+" "+damage, func(t *testing.T) {
				if err := apply(file, slices.Clone(whole)); err != nil {
					t.Fatal(err)
				}
				want := "corrupt"
				if damage == "missing" {
					want = "not found"
				}
				name := filepath.Base(file)
				if kind == "manifest" && damage != "missing" {
					name = "verneuil://" + hostname + db
				}
				refuse(t, 1, []string{"restore " + db, name, want}, "-c", s.config(), "restore",
					"--force", "-s", db, "-o", s.path("out.db"))
				refuse(t, 1, []string{name, want}, "-c", s.config(), "restore", "--force", "-s", db)
				s.noLeftovers("out.db")
				s.mustFind(name, want, kind == "chunk" && damage == "flipped bits")
			})
		}
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.path("out.db"))
	if s.sum(db) != s.sum(s.path("out.db")) {
		t.Error("the repaired store does not restore to the database")
	}
}

func TestBadS3(t *testing.T) {
	s := minioSite(t)
	db := s.database("d.db", 10000)
	s3 := s.target["s3"].(map[string]any)
	s3["create_buckets_on_demand"] = false
	s.configure(nil)
	refuse(t, 1, []string{"sync " + db, "bucket"}, "-c", s.config(), "sync", db)

	const secret = "c0mpletely-wr0ng-secret"
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	s3["create_buckets_on_demand"] = true
	s.configure(nil)
	for _, args := range [][]string{{"sync", db},
		{"restore", "--force", "-s", db, "-o", s.path("out.db")}} {
		args = append([]string{"-l", "debug", "-c", s.config()}, args...)
		r := ctl(t, args...)
		if r.code != 1 || !strings.Contains(r.stderr, "verneuilctl: ") {
			t.Errorf("wrong credentials: exit code %d, %q", r.code, r.stderr)
		}
		for _, hidden := range []string{secret, miniotest.SecretKey} {
			if strings.Contains(r.stdout+r.stderr, hidden) {
				t.Errorf("the secret is printed: %q", r.stderr)
			}
		}
	}
	s.noLeftovers("out.db")
}

func TestUnwritableOutput(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	out := s.path("no/such/directory/out.db")
	refuse(t, 1, []string{out, "no such file"}, "-c", s.config(), "restore", "--force", "-s", db,
		"-o", out)
	refuse(t, 1, []string{s.path("no/such/directory"), "no such file"}, "-c", s.config(),
		"manifest", db, "-o", out)
	refuse(t, 1, []string{db}, "-c", s.config(), "restore", "--force", "-s", db, "-o", s.dir)
	s.noLeftovers("out.db")
	// A journal beside the output would be replayed on what is restored.
	s.write("out.db-journal", []byte("journal"))
	refuse(t, 1, []string{s.path("out.db-journal")}, "-c", s.config(), "restore", "--force", "-s",
		db, "-o", s.path("out.db"))
}
