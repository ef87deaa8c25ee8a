package main_test

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
)

// nobody is another user than the one that runs the tests, without processes: RLIMIT_NPROC counts them all.
const nobody = 61534

// TestPlantedSpool: a spool that somebody else may have planted is not used, and the
// application is told why, and works.
func TestPlantedSpool(t *testing.T) {
	link := func(s *site, path string) {
		must(s.t, os.Rename(path, path+".real"))
		must(s.t, os.Symlink(path+".real", path))
	}
	for name, test := range map[string]struct {
		plant func(s *site, root, spool string)
		want  string
		root  bool // only root can arrange it
	}{
		"link for the root":  {func(s *site, root, _ string) { link(s, root) }, "replication_spooling_dir is a symbolic link", false},
		"link for the spool": {func(s *site, _, spool string) { link(s, spool) }, "it is a symbolic link", false},
		"dangling link": {func(s *site, root, _ string) {
			must(s.t, os.RemoveAll(root))
			must(s.t, os.Symlink(s.path("nothing"), root))
		}, "symbolic link", false},
		"root open to others":  {func(s *site, root, _ string) { must(s.t, os.Chmod(root, 0o777)) }, "chmod +t", false},
		"above open to others": {func(s *site, root, _ string) { must(s.t, os.Chmod(filepath.Dir(root), 0o777)) }, "chmod +t", false},
		"open to others":       {func(s *site, _, spool string) { must(s.t, os.Chmod(spool, 0o777)) }, "may be written to by other users", false},
		"another user's root":  {func(s *site, root, _ string) { must(s.t, os.Chown(root, nobody, nobody)) }, "replication_spooling_dir belongs to another user", true},
		"another user's":       {func(s *site, _, spool string) { must(s.t, os.Chown(spool, nobody, nobody)) }, "it belongs to another user", true},
	} {
		t.Run(name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			s := dirSite(t)
			shell := s.written("a.db", "delete")
			shell.flush()
			shell.endsWith(0)
			spools, err := filepath.Glob(s.path("spool/*"))
			if err != nil || len(spools) != 1 {
				t.Fatal(spools, err)
			}
			test.plant(s, s.path("spool"), spools[0])
			shell = s.shell("")
			shell.ask(".open " + s.path("a.db"))
			shell.must("update t set b = 'new';")
			shell.refused()
			if status := shell.ask("select verneuil_status();"); !json.Valid([]byte(status)) || !strings.Contains(status, test.want) {
				t.Errorf("verneuil_status() does not say %q: %s", test.want, status)
			}
			shell.endsWith(1)
			if log := shell.stderr(); !strings.Contains(log, test.want) {
				t.Errorf("the log does not say %q: %s", test.want, log)
			}
			if b := s.stock("a.db", "select b from t"); b != "new" {
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
	s := dirSite(t)
	for dir := s.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	s.configure(map[string]any{"replication_spooling_dir_permissions": "0777"})
	shell := start(t, []string{s.env()}, "sh", "-c", `umask 0 && exec "$@"`, "sh", sqliteShell(t), "-batch")
	shell.must(".load " + library(t))
	shell.ask(".open " + s.path("a.db"))
	shell.must("create table t(a);")
	shell.flush()
	r := run(t, nil, "setpriv", "--reuid", fmt.Sprint(nobody), "--clear-groups", "--no-new-privs", "sh", "-c",
		`mv "$1" "$2" && echo renamed`, "sh", s.glob("spool/*"), s.path("spool/away"))
	if r.code == 0 || r.stdout != "" {
		t.Errorf("another user has renamed a spool: %s%s", r.stdout, r.stderr)
	}
	if info, err := os.Stat(s.path("spool")); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("the spooling directory: %v, %v", info.Mode(), err)
	}
	shell.endsWith(0)
}

// TestSetuid: a program that runs with other rights than its caller's obeys no
// configuration of that one's.
func TestSetuid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := dirSite(t)
	for dir := s.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	b, err := os.ReadFile(hostProgram(t))
	must(t, err)
	program := s.path("program")
	must(t, os.WriteFile(program, b, 0o755))
	must(t, os.Mkdir(s.path("data"), 0o755))
	must(t, os.Chown(s.path("data"), nobody, nobody))
	must(t, os.Chown(program, nobody, nobody))
	must(t, os.Chmod(program, os.ModeSetuid|0o755))
	s.configure(map[string]any{"replication_spooling_dir": s.path("data/spool")})
	config, err := os.ReadFile(s.path("verneuil.json"))
	must(t, err)
	h := start(t, []string{"VERNEUIL_CONFIG=" + string(config), "VERNEUIL_LOG=debug"}, program, library(t))
	h.must(".open " + s.path("data/a.db"))
	h.ask("create table t(a)")
	h.endsWith(0)
	if _, err := os.Stat(s.path("data/spool")); err == nil {
		t.Error("its caller's configuration counts: there is a spool")
	}
	if log := h.stderr(); strings.Contains(log, "level=INFO") || strings.Contains(log, "level=DEBUG") {
		t.Errorf("its caller has it log: %s", log)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPermissions: whatever the umask and the database's own mode, what we make is the
// owner's alone: spool, target, cache, and what is restored.
func TestPermissions(t *testing.T) {
	for _, umask := range []string{"0000", "0022", "0077"} {
		for _, journal := range journals {
			t.Run(umask+"/"+journal, func(t *testing.T) {
				s := dirSite(t)
				s.targets = append(s.targets, map[string]any{"local": map[string]any{"directory": s.path("cache"), "num_shards": 4, "capacity": 100}})
				s.configure(map[string]any{"tempdir": s.dir})
				shell := start(t, []string{s.env()}, "sh", "-c", "umask "+umask+` && exec "$@"`, "sh", sqliteShell(t), "-batch")
				shell.must(".load " + library(t))
				shell.must(".open " + s.path("a.db"))
				shell.want("pragma journal_mode="+journal+";", journal)
				must(t, os.Chmod(s.path("a.db"), 0o666)) // shared with everybody: that is the database's matter
				shell.must("create table t(a integer primary key, b);")
				shell.must("insert into t(b) values(randomblob(2000000));")
				shell.must("update t set b = zeroblob(100);")
				shell.flush()
				shell.must(".open file:verneuil://" + hostname + s.path("a.db") + "?vfs=verneuil_snapshot")
				shell.want("select length(b) from t;", "100")
				out := s.path("restored.db")
				r := run(t, []string{s.env()}, "sh", "-c", "umask "+umask+` && exec "$@"`, "sh", built(t, "VERNEUIL_CTL"), "restore", "--force", "-s", s.path("a.db"), "-o", out)
				if r.code != 0 {
					t.Fatal(r.stderr)
				}
				for _, root := range []string{"spool", "store", "cache", "restored.db"} {
					s.ownersAlone(root)
				}
				shell.endsWith(0)
			})
		}
	}
}

// ownersAlone checks that nobody but its owner may do anything with what is at and
// below that path.
func (s *site) ownersAlone(name string) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(s.path(name), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&0o077 != 0 {
			s.t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !d.IsDir() {
			files++
		}
		return nil
	})
	if err != nil || files == 0 {
		s.t.Errorf("%s: %d files, %v", name, files, err)
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
		return []any{map[string]any{"s3": map[string]any{"region": "minio", "endpoint": endpoint, "chunk_bucket": "chunks",
			"manifest_bucket": "manifests", "create_buckets_on_demand": true}}}
	}
	host := strings.TrimPrefix(endpoint, "http://")
	for name, test := range map[string]struct {
		endpoint string
		env      []string
		flushed  string
	}{
		"all is well":     {endpoint, nil, "1"},
		"wrong secret":    {endpoint, []string{"AWS_SECRET_ACCESS_KEY=" + secret, "AWS_SESSION_TOKEN=" + secret}, "0"},
		"profile":         {endpoint, []string{"AWS_SECRET_ACCESS_KEY=", "AWS_ACCESS_KEY_ID=", "AWS_PROFILE=p"}, "0"},
		"in the endpoint": {"http://user:" + secret + "@" + host, nil, "refused"},
		"unparsable":      {"http://user:" + secret + "/x@" + host, nil, "refused"},
		"other scheme":    {"ftp://" + host + "/?" + secret, nil, "refused"},
		"in a query":      {endpoint + "/?X-Amz-Signature=" + secret, nil, "refused"},
		"proxy is down":   {"http://store.invalid", []string{"HTTP_PROXY=http://u:" + secret + "@127.0.0.1:1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := emptySite(t)
			s.write("credentials", []byte("[p]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = "+secret+"\n"))
			s.targets = s3(test.endpoint)
			s.configure(nil)
			env := append([]string{"VERNEUIL_LOG=debug", "AWS_SHARED_CREDENTIALS_FILE=" + s.path("credentials"), "AWS_EC2_METADATA_DISABLED=true"}, test.env...)
			shell := s.shell("", env...)
			shell.ask(".open file:" + s.path("a.db") + "?vfs=verneuil")
			shell.ask("create table t(b);")
			shell.ask("insert into t values(randomblob(100000));")
			said := ""
			switch test.flushed {
			case "": // the one that would be tried for half a minute
			case "refused":
				shell.refused()
			default:
				shell.want("pragma verneuil_flush_replication_data;", test.flushed)
			}
			for _, sql := range []string{
				"select verneuil_status();", "select verneuil_perf();",
				".open 'file:http://u:" + secret + "@" + host + "/manifests/x?vfs=verneuil_snapshot'", "select 1 from t;",
				".open 'file:verneuil://h/none.db?vfs=verneuil_snapshot'", "select 1 from t;",
				"select verneuil_status();",
			} {
				said += shell.ask(sql)
			}
			shell.end()
			for line := range strings.Lines(shell.stderr()) {
				if !strings.HasPrefix(line, "Error: unable to open database") { // the shell itself repeats what it was told
					said += line
				}
			}
			// What a command line holds is no secret from those who see it; what it writes is another matter.
			commands := [][]string{{"sync", s.path("a.db")}}
			if test.flushed != "" {
				commands = append(commands, [][]string{
					{"flush", s.path("spool")}, {"restore", "--force", "-s", s.path("a.db"), "-o", s.path("r.db")},
					{"manifest", "-m", "http://u:" + secret + "@" + host + "/manifests/x?X-Amz-Signature=" + secret},
					{"restore", "-m", "http://u:" + secret + "@127.0.0.1:1/x?X-Amz-Signature=" + secret, "-o", s.path("r.db")},
					{"manifest", "-m", "http://u:" + secret + "/@:x:y/?" + secret}, {"manifest", "-m", "htps://u:" + secret + "@h/x"},
					{"manifest", "-m", "s3://u:" + secret + "@bucket.region/x"},
				}...)
			}
			for _, args := range commands {
				r := run(t, append(env, s.env()), append([]string{built(t, "VERNEUIL_CTL")}, args...)...)
				said += r.stdout + r.stderr
			}
			for _, word := range []string{secret, minioSecret} {
				if at := strings.Index(said, word); at >= 0 {
					t.Errorf("said: %s", said[max(0, at-200):min(len(said), at+200)])
				}
				s.nowhere("spool", word)
			}
		})
	}
}

// nowhere checks that no file below that path holds text.
func (s *site) nowhere(name, text string) {
	s.t.Helper()
	err := filepath.WalkDir(s.path(name), func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a broken configuration makes no spool
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), text) {
			s.t.Errorf("%s holds %q", path, text)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

// TestForeignURIs: whatever the name of a replica, nothing is opened but manifests, and the
// host is told, in a line, which name was wrong. (SQLite itself refuses those that are too long.)
func TestForeignURIs(t *testing.T) {
	s := dirSite(t)
	shell := s.written("a.db", "delete")
	shell.flush()
	must(t, os.WriteFile(s.path("letter"), []byte("precious"), 0o600))
	must(t, syscall.Mkfifo(s.path("fifo"), 0o600))
	long := strings.Repeat("x", 100000)
	for uri, want := range map[string]string{
		"verneuil://" + hostname + "/../.." + s.path("a.db"):           "not found",
		"verneuil://" + hostname + "/%252e%252e%252f" + s.path("a.db"): "not found",
		"verneuil://../../" + s.path("a.db"):                           "not found",
		"verneuil://%0a/x%0ay":                                         "not found",
		"verneuil://h/" + long:                                         "",
		"verneuil://h":                                                 "want verneuil://HOST/PATH",
		"file://" + s.path("store/../letter"):                          "corrupt",
		s.path("letter"):                                               "corrupt",
		s.path("fifo"):                                                 "not a regular file",
		s.path("store"):                                                "not a regular file",
		s.path("a.db"):                                                 "a database, not a manifest",
		"/dev/zero":                                                    "not a regular file",
		"/" + long:                                                     "",
		"gopher://h/x":                                                 "not found",
		"s3://../../x":                                                 "want s3://BUCKET.REGION",
	} {
		before := len(shell.stderr())
		shell.ask(".open 'file:" + uri + "?vfs=verneuil_snapshot'")
		shell.ask("select 1 from t;")
		said := shell.stderr()[before:]
		if !strings.Contains(said, want) || !strings.Contains(said, "unable to open") || strings.Contains(said, "\n/x") {
			t.Errorf("%.200s: does not say %q, in a line: %.1000s", uri, want, said)
		}
	}
	shell.must(".open 'file:verneuil://" + hostname + s.path("a.db") + "?vfs=verneuil_snapshot'")
	shell.want("select count(*) > 0 from t;", "1")
	shell.end()
	if b, err := os.ReadFile(s.path("letter")); string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFullTempdir: a replica that has no room says where, does not crash its host, and goes
// on when there is some.
func TestFullTempdir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	s := dirSite(t)
	s.configure(map[string]any{"tempdir": s.path("small")})
	shell := s.written("a.db", "delete")
	shell.must("insert into t(b) values(randomblob(3000000));")
	shell.flush()
	shell.endsWith(0)
	must(t, os.Mkdir(s.path("small"), 0o700))
	if err := syscall.Mount("tmpfs", s.path("small"), "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer syscall.Unmount(s.path("small"), syscall.MNT_DETACH)
	replica := s.shell("")
	replica.must(".open 'file:verneuil://" + hostname + s.path("a.db") + "?vfs=verneuil_snapshot'")
	if said := replica.ask(content + ";"); said != "" {
		t.Errorf("read %q where there is no room", said)
	}
	if said := replica.stderr(); !strings.Contains(said, s.path("small")) || !strings.Contains(said, "no space left on device") {
		t.Errorf("it does not say where there is no room: %s", said)
	}
	must(t, syscall.Mount("", s.path("small"), "", syscall.MS_REMOUNT, "size=100m"))
	replica.want(content+";", s.stock("a.db", content))
	replica.end()
}

// TestForeignNames: databases of whatever names are replicated, each to where it belongs.
func TestForeignNames(t *testing.T) {
	s := dirSite(t)
	deep := strings.Repeat("d/", 180) // SQLite's own limit for a path is 512 bytes
	must(t, os.MkdirAll(s.path(deep), 0o700))
	shell := s.shell("")
	names := map[string]string{ // in a URI, of the file
		"%0aa.db": "\na.db", "%252f..%252f..%252fb.db": "%2f..%2f..%2fb.db", "...db": "...db", "-c.db": "-c.db", "%1b%5b2Jd.db": "\x1b[2Jd.db",
		"%c3%a9%ff.db": "é\xff.db", strings.Repeat("n", 200) + ".db": strings.Repeat("n", 200) + ".db", "x/../y.db": "y.db", deep + "e.db": deep + "e.db",
	}
	must(t, os.Mkdir(s.path("x"), 0o700))
	for uri := range names {
		shell.must(".open 'file:" + s.dir + "/" + uri + "?vfs=verneuil'")
		shell.must("create table t(b);")
		shell.must("insert into t values(randomblob(100000));")
		shell.flush()
	}
	shell.endsWith(0)
	for _, name := range names {
		s.mustEqual(name)
	}
	entries, err := os.ReadDir(s.dir)
	must(t, err)
	for _, e := range entries {
		if known := []string{"spool", "store", "verneuil.json", "d", "x"}; !slices.Contains(known, e.Name()) && !slices.Contains(slices.Collect(maps.Values(names)), e.Name()) {
			t.Errorf("%q was made", e.Name())
		}
	}
}
