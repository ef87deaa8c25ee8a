package stores_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"verneuil/chunkstore/miniotest"
	"verneuil/test/e2e/harness"
)

// TestPlantedSpool: a spool that somebody else may have planted is not used, and the
// application is told why, and works.
func TestPlantedSpool(t *testing.T) {
	link := func(s *harness.Site, path string) {
		harness.Must(s.T, os.Rename(path, path+".real"))
		harness.Must(s.T, os.Symlink(path+".real", path))
	}
	for name, test := range map[string]struct {
		plant func(s *harness.Site, root, spool string)
		want  string
		root  bool // only root can arrange it
	}{
		"link for the root": {func(s *harness.Site, root, _ string) { link(s, root) },
			"replication_spooling_dir is a symbolic link", false},
		"link for the spool": {func(s *harness.Site, _, spool string) { link(s, spool) },
			"it is a symbolic link", false},
		"dangling link": {func(s *harness.Site, root, _ string) {
			harness.Must(s.T, os.RemoveAll(root))
			harness.Must(s.T, os.Symlink(s.Path("nothing"), root))
		}, "symbolic link", false},
		"root open to others": {func(s *harness.Site, root,
			_ string) {
			harness.Must(s.T, os.Chmod(root, 0o777))
		}, "chmod +t", false},
		"above open to others": {func(s *harness.Site, root,
			_ string) {
			harness.Must(s.T, os.Chmod(filepath.Dir(root), 0o777))
		}, "chmod +t", false},
		"open to others": {func(s *harness.Site, _,
			spool string) {
			harness.Must(s.T, os.Chmod(spool, 0o777))
		}, "other users may write to", false},
		"another user's root": {func(s *harness.Site, root, _ string) {
			harness.Must(s.T, os.Chown(root, harness.Nobody, harness.Nobody))
		}, "replication_spooling_dir belongs to another user", true},
		"another user's": {func(s *harness.Site, _, spool string) {
			harness.Must(s.T, os.Chown(spool, harness.Nobody, harness.Nobody))
		}, "it belongs to another user", true},
	} {
		t.Run(name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			s := harness.DirSite(t)
			shell := s.Written("a.db", "delete")
			shell.Flush()
			shell.EndsWith(0)
			spools, err := filepath.Glob(s.Path("spool/*"))
			if err != nil || len(spools) != 1 {
				t.Fatal(spools, err)
			}
			test.plant(s, s.Path("spool"), spools[0])
			shell = s.Shell("")
			shell.Ask(".open " + s.Path("a.db"))
			shell.Must("update t set b = 'new';")
			shell.Refused()
			if status := shell.Ask("select verneuil_status();"); !json.Valid([]byte(status)) ||
				!strings.Contains(status, test.want) {
				t.Errorf("verneuil_status() does not say %q: %s", test.want, status)
			}
			shell.EndsWith(1)
			if log := shell.Stderr(); !strings.Contains(log, test.want) {
				t.Errorf("the log does not say %q: %s", test.want, log)
			}
			if b := s.Stock("a.db", "select b from t"); b != "new" {
				t.Errorf("the database says %q", b)
			}
		})
	}
}

// TestSharedRoot: users whose spooling directory is made for all to write to cannot rename each
// other's spools.
func TestSharedRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	s := harness.DirSite(t)
	for dir := s.Dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		harness.Must(t, os.Chmod(dir, 0o755))
	}
	s.Configure(map[string]any{"replication_spooling_dir_permissions": "0777"})
	shell := harness.Start(t, []string{s.Env()}, "sh", "-c", `umask 0 && exec "$@"`, "sh",
		harness.SQLiteShell(t), "-batch")
	shell.Must(".load " + harness.Library(t))
	shell.Ask(".open " + s.Path("a.db"))
	shell.Must("create table t(a);")
	shell.Flush()
	r := harness.Run(t, nil, "setpriv", "--reuid", fmt.Sprint(harness.Nobody), "--clear-groups",
		"--no-new-privs", "sh", "-c",
		`mv "$1" "$2" && echo renamed`, "sh", s.Glob("spool/*"), s.Path("spool/away"))
	if r.Code == 0 || r.Stdout != "" {
		t.Errorf("another user has renamed a spool: %s%s", r.Stdout, r.Stderr)
	}
	if info, err := os.Stat(s.Path("spool")); err != nil || info.Mode().Perm() != 0o777 ||
		info.Mode()&os.ModeSticky == 0 {
		t.Errorf("the spooling directory: %v, %v", info.Mode(), err)
	}
	shell.EndsWith(0)
}

// TestSetuid: a program that runs with other rights than its caller's obeys no
// configuration of that one's.
func TestSetuid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := harness.DirSite(t)
	for dir := s.Dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		harness.Must(t, os.Chmod(dir, 0o755))
	}
	b, err := os.ReadFile(harness.HostProgram(t))
	harness.Must(t, err)
	program := s.Path("program")
	harness.Must(t, os.WriteFile(program, b, 0o755))
	harness.Must(t, os.Mkdir(s.Path("data"), 0o755))
	harness.Must(t, os.Chown(s.Path("data"), harness.Nobody, harness.Nobody))
	harness.Must(t, os.Chown(program, harness.Nobody, harness.Nobody))
	harness.Must(t, os.Chmod(program, os.ModeSetuid|0o755))
	s.Configure(map[string]any{"replication_spooling_dir": s.Path("data/spool")})
	config, err := os.ReadFile(s.Path("verneuil.json"))
	harness.Must(t, err)
	h := harness.Start(t, []string{"VERNEUIL_CONFIG=" + string(config), "VERNEUIL_LOG=debug"},
		program, harness.Library(t))
	h.Must(".open " + s.Path("data/a.db"))
	h.Ask("create table t(a)")
	h.EndsWith(0)
	if _, err := os.Stat(s.Path("data/spool")); err == nil {
		t.Error("its caller's configuration counts: there is a spool")
	}
	if log := h.Stderr(); strings.Contains(log, "level=INFO") ||
		strings.Contains(log, "level=DEBUG") {
		t.Errorf("its caller has it log: %s", log)
	}
}

// TestPermissions: whatever the umask and the database's own mode, what we make is the
// owner's alone: spool, target, cache, and what is restored.
func TestPermissions(t *testing.T) {
	for _, umask := range []string{"0000", "0022", "0077"} {
		for _, journal := range harness.Journals {
			t.Run(umask+"/"+journal, func(t *testing.T) {
				s := harness.DirSite(t)
				s.Targets = append(s.Targets,
					map[string]any{"local": map[string]any{"directory": s.Path("cache"),
						"num_shards": 4, "capacity": 100}})
				s.Configure(map[string]any{"tempdir": s.Dir})
				shell := harness.Start(t, []string{s.Env()}, "sh", "-c",
					"umask "+umask+` && exec "$@"`, "sh", harness.SQLiteShell(t), "-batch")
				shell.Must(".load " + harness.Library(t))
				shell.Must(".open " + s.Path("a.db"))
				shell.Want("pragma journal_mode="+journal+";", journal)
				// shared with everybody: that is the database's matter
				harness.Must(t, os.Chmod(s.Path("a.db"), 0o666))
				shell.Must("create table t(a integer primary key, b);")
				shell.Must("insert into t(b) values(randomblob(2000000));")
				shell.Must("update t set b = zeroblob(100);")
				shell.Flush()
				shell.Must(".open file:verneuil://" + harness.Hostname + s.Path("a.db") +
					"?vfs=verneuil_snapshot")
				shell.Want("select length(b) from t;", "100")
				out := s.Path("restored.db")
				r := harness.Run(t, []string{s.Env()}, "sh", "-c", "umask "+umask+` && exec "$@"`,
					"sh", harness.Built(t, "VERNEUIL_CTL"), "restore", "--force", "-s",
					s.Path("a.db"), "-o", out)
				if r.Code != 0 {
					t.Fatal(r.Stderr)
				}
				for _, root := range []string{"spool", "store", "cache", "restored.db"} {
					ownersAlone(s, root)
				}
				shell.EndsWith(0)
			})
		}
	}
}

// ownersAlone checks that nobody but its owner may do anything with what is at and
// below that path.
func ownersAlone(s *harness.Site, name string) {
	s.T.Helper()
	files := 0
	err := filepath.WalkDir(s.Path(name), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&0o077 != 0 {
			s.T.Errorf("%s has mode %v", path, info.Mode())
		}
		if !d.IsDir() {
			files++
		}
		return nil
	})
	if err != nil || files == 0 {
		s.T.Errorf("%s: %d files, %v", name, files, err)
	}
}

// TestSecrets: no credentials, and no URL that is one, stand in logs, errors, statuses or
// the spool, whether things go well or not.
func TestSecrets(t *testing.T) {
	const secret = "Zq9SecretZq9"
	endpoint := miniotest.Start(t)
	minioSecret := os.Getenv("AWS_SECRET_ACCESS_KEY")
	if minioSecret == "" {
		t.Fatal("MinIO's secret is not in the environment")
	}
	s3 := func(endpoint string) []any {
		return []any{map[string]any{"s3": map[string]any{"region": "minio", "endpoint": endpoint,
			"chunk_bucket":    "chunks",
			"manifest_bucket": "manifests", "create_buckets_on_demand": true}}}
	}
	host := strings.TrimPrefix(endpoint, "http://")
	for name, test := range map[string]struct {
		endpoint string
		env      []string
		flushed  string
	}{
		"all is well": {endpoint, nil, "1"},
		"wrong secret": {endpoint, []string{"AWS_SECRET_ACCESS_KEY=" + secret,
			"AWS_SESSION_TOKEN=" + secret}, "0"},
		"profile": {endpoint, []string{"AWS_SECRET_ACCESS_KEY=", "AWS_ACCESS_KEY_ID=",
			"AWS_PROFILE=p"}, "0"},
		"in the endpoint": {"http://user:" + secret + "@" + host, nil, "refused"},
		"unparsable":      {"http://user:" + secret + "/x@" + host, nil, "refused"},
		"other scheme":    {"ftp://" + host + "/?" + secret, nil, "refused"},
		"in a query":      {endpoint + "/?X-Amz-Signature=" + secret, nil, "refused"},
		"proxy is down": {"http://store.invalid",
			[]string{"HTTP_PROXY=http://u:" + secret + "@127.0.0.1:1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.EmptySite(t)
			s.Write("credentials",
				[]byte("[p]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = "+secret+
					"\n"))
			s.Targets = s3(test.endpoint)
			s.Configure(nil)
			env := append([]string{"VERNEUIL_LOG=debug",
				"AWS_SHARED_CREDENTIALS_FILE=" + s.Path("credentials"),
				"AWS_EC2_METADATA_DISABLED=true"}, test.env...)
			said := saidOfStore(s, host, secret, test.flushed, env)
			for _, word := range []string{secret, minioSecret} {
				if at := strings.Index(said, word); at >= 0 {
					t.Errorf("said: %s", said[max(0, at-200):min(len(said), at+200)])
				}
				nowhere(s, "spool", word)
			}
		})
	}
}

// saidOfStore has a shell, and verneuilctl, use the site's store and URLs with the secret in them,
// and returns all that they say. A flush is to say flushed; "refused" is an error, and "" asks for
// none.
func saidOfStore(s *harness.Site, host, secret, flushed string, env []string) (said string) {
	s.T.Helper()
	shell := s.Shell("", env...)
	shell.Ask(".open file:" + s.Path("a.db") + "?vfs=verneuil")
	shell.Ask("create table t(b);")
	shell.Ask("insert into t values(randomblob(100000));")
	switch flushed {
	case "": // the one that would be tried for half a minute
	case "refused":
		shell.Refused()
	default:
		shell.Want("pragma verneuil_flush_replication_data;", flushed)
	}
	for _, sql := range []string{
		"select verneuil_status();", "select verneuil_perf();",
		".open 'file:http://u:" + secret + "@" + host +
			"/manifests/x?vfs=verneuil_snapshot'", "select 1 from t;",
		".open 'file:verneuil://h/none.db?vfs=verneuil_snapshot'", "select 1 from t;",
		"select verneuil_status();",
	} {
		said += shell.Ask(sql)
	}
	shell.End()
	for line := range strings.Lines(shell.Stderr()) {
		// the shell itself repeats what it was told
		if !strings.HasPrefix(line, "Error: unable to open database") {
			said += line
		}
	}
	// What a command line holds is no secret from those who see it; what it writes is
	// another matter.
	commands := [][]string{{"sync", s.Path("a.db")}}
	if flushed != "" {
		commands = append(commands, [][]string{
			{"flush", s.Path("spool")}, {"restore", "--force", "-s", s.Path("a.db"), "-o",
				s.Path("r.db")},
			{"manifest", "-m", "http://u:" + secret + "@" + host +
				"/manifests/x?X-Amz-Signature=" + secret},
			{"restore", "-m", "http://u:" + secret + "@127.0.0.1:1/x?X-Amz-Signature=" +
				secret, "-o", s.Path("r.db")},
			{"manifest", "-m", "http://u:" + secret + "/@:x:y/?" + secret},
			{"manifest", "-m", "htps://u:" + secret + "@h/x"},
			{"manifest", "-m", "s3://u:" + secret + "@bucket.region/x"},
		}...)
	}
	for _, args := range commands {
		r := harness.Run(s.T, append(env, s.Env()),
			append([]string{harness.Built(s.T, "VERNEUIL_CTL")}, args...)...)
		said += r.Stdout + r.Stderr
	}
	return said
}

// nowhere checks that no file below that path holds text.
func nowhere(s *harness.Site, name, text string) {
	s.T.Helper()
	err := filepath.WalkDir(s.Path(name), func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a broken configuration makes no spool
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), text) {
			s.T.Errorf("%s holds %q", path, text)
		}
		return err
	})
	if err != nil {
		s.T.Error(err)
	}
}

// TestForeignURIs: whatever the name of a replica, nothing is opened but manifests, and the
// host is told, in a line, which name was wrong. (SQLite itself refuses those that are too long.)
func TestForeignURIs(t *testing.T) {
	s := harness.DirSite(t)
	shell := s.Written("a.db", "delete")
	shell.Flush()
	harness.Must(t, os.WriteFile(s.Path("letter"), []byte("precious"), 0o600))
	harness.Must(t, syscall.Mkfifo(s.Path("fifo"), 0o600))
	long := strings.Repeat("x", 100000)
	for uri, want := range map[string]string{
		"verneuil://" + harness.Hostname + "/../.." + s.Path("a.db"):           "not found",
		"verneuil://" + harness.Hostname + "/%252e%252e%252f" + s.Path("a.db"): "not found",
		"verneuil://../../" + s.Path("a.db"):                                   "not found",
		"verneuil://%0a/x%0ay":                                                 "not found",
		"verneuil://h/" + long:                                                 "",
		"verneuil://h": "want " +
			"verneuil://HOST/PATH",
		"file://" + s.Path("store/../letter"): "corrupt",
		s.Path("letter"):                      "corrupt",
		s.Path("fifo"):                        "not a regular file",
		s.Path("store"):                       "not a regular file",
		s.Path("a.db"): "a database, " +
			"not a manifest",
		"/dev/zero":    "not a regular file",
		"/" + long:     "",
		"gopher://h/x": "not found",
		"s3://../../x": "want " +
			"s3://BUCKET.REGION",
	} {
		before := len(shell.Stderr())
		shell.Ask(".open 'file:" + uri + "?vfs=verneuil_snapshot'")
		shell.Ask("select 1 from t;")
		said := shell.Stderr()[before:]
		if !strings.Contains(said, want) || !strings.Contains(said, "unable to open") ||
			strings.Contains(said, "\n/x") {
			t.Errorf("%.200s: does not say %q, in a line: %.1000s", uri, want, said)
		}
	}
	shell.Must(".open 'file:verneuil://" + harness.Hostname + s.Path("a.db") +
		"?vfs=verneuil_snapshot'")
	shell.Want("select count(*) > 0 from t;", "1")
	shell.End()
	if b, err := os.ReadFile(s.Path("letter")); string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFullTempdir: a replica that has no room says where, does not crash its host, and goes
// on when there is some.
func TestFullTempdir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	s := harness.DirSite(t)
	s.Configure(map[string]any{"tempdir": s.Path("small")})
	shell := s.Written("a.db", "delete")
	shell.Must("insert into t(b) values(randomblob(3000000));")
	shell.Flush()
	shell.EndsWith(0)
	harness.Must(t, os.Mkdir(s.Path("small"), 0o700))
	if err := syscall.Mount("tmpfs", s.Path("small"), "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer syscall.Unmount(s.Path("small"), syscall.MNT_DETACH)
	replica := s.Shell("")
	replica.Must(".open 'file:verneuil://" + harness.Hostname + s.Path("a.db") +
		"?vfs=verneuil_snapshot'")
	if said := replica.Ask(content + ";"); said != "" {
		t.Errorf("read %q where there is no room", said)
	}
	if said := replica.Stderr(); !strings.Contains(said, s.Path("small")) ||
		!strings.Contains(said, "no space left on device") {
		t.Errorf("it does not say where there is no room: %s", said)
	}
	harness.Must(t, syscall.Mount("", s.Path("small"), "", syscall.MS_REMOUNT, "size=100m"))
	replica.Want(content+";", s.Stock("a.db", content))
	replica.End()
}

// TestForeignNames: databases of whatever names are replicated, each to where it belongs.
func TestForeignNames(t *testing.T) {
	s := harness.DirSite(t)
	deep := strings.Repeat("d/", 180) // SQLite's own limit for a path is 512 bytes
	harness.Must(t, os.MkdirAll(s.Path(deep), 0o700))
	shell := s.Shell("")
	names := map[string]string{ // in a URI, of the file
		"%0aa.db": "\na.db", "%252f..%252f..%252fb.db": "%2f..%2f..%2fb.db", "...db": "...db",
		"-c.db": "-c.db", "%1b%5b2Jd.db": "\x1b[2Jd.db",
		"%c3%a9%ff.db": "é\xff.db", strings.Repeat("n", 200) + ".db": strings.Repeat("n", 200) +
			".db", "x/../y.db": "y.db", deep + "e.db": deep + "e.db",
	}
	harness.Must(t, os.Mkdir(s.Path("x"), 0o700))
	for uri := range names {
		shell.Must(".open 'file:" + s.Dir + "/" + uri + "?vfs=verneuil'")
		shell.Must("create table t(b);")
		shell.Must("insert into t values(randomblob(100000));")
		shell.Flush()
	}
	shell.EndsWith(0)
	for _, name := range names {
		s.MustEqual(name)
	}
	entries, err := os.ReadDir(s.Dir)
	harness.Must(t, err)
	for _, e := range entries {
		if known := []string{"spool", "store", "verneuil.json", "d", "x"}; !slices.Contains(known,
			e.Name()) && !slices.Contains(slices.Collect(maps.Values(names)), e.Name()) {
			t.Errorf("%q was made", e.Name())
		}
	}
}
