package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
)

// TestVerifyNothing: a check that looks at nothing must not succeed.
func TestVerifyNothing(t *testing.T) {
	for name, site := range map[string]func(*testing.T) *site{"dir": dirSite, "minio": minioSite} {
		t.Run(name, func(t *testing.T) {
			s := site(t)
			verify := func(more ...string) result {
				return ctl(t, append([]string{"-c", s.config(), "verify"}, more...)...)
			}
			if r := verify(); r.code != 1 || !strings.Contains(r.stderr, "no database is in it") ||
				!strings.Contains(r.stderr, "--allow-empty") {
				t.Errorf("an empty target: exit code %d, %q", r.code, r.stderr)
			}
			if r := verify("--allow-empty"); r.code != 0 || r.said() != "" {
				t.Errorf("--allow-empty: exit code %d, %q", r.code, r.stderr)
			}
			must(t, "-c", s.config(), "sync", s.database("d.db", 10000))
			must(t, "-c", s.config(), "verify")
			s.addTarget("mistyped")
			if r := verify(); r.code != 1 || !strings.Contains(r.stderr, s.path("mistyped")) ||
				!strings.Contains(r.stdout, "versions: 1,") {
				t.Errorf("one of two is empty: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
			}
		})
	}
}

// TestVerifyGoesOn: a target that cannot be asked keeps none after it from being verified.
func TestVerifyGoesOn(t *testing.T) {
	s := dirSite(t)
	s.addTarget("second")
	must(t, "-c", s.config(), "sync", s.database("d.db", 10000))
	err := errors.Join(os.RemoveAll(s.path("store")), os.WriteFile(s.path("store"), nil, 0o600),
		os.Remove(s.files("second/manifests")[0]))
	if err != nil {
		t.Fatal(err)
	}
	r := ctl(t, "-c", s.config(), "verify")
	if r.code != 1 || !strings.Contains(r.stderr, s.path("store")) ||
		!strings.Contains(r.stderr, s.path("second")) {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
}

// TestFlushNothing: a directory without spools is not flushed, it is mistyped.
func TestFlushNothing(t *testing.T) {
	s := dirSite(t)
	refuse(t, 1, []string{"flush " + s.path("none"), "no such file"}, "flush", s.path("none"))
	refuse(t, 1, []string{"flush " + s.dir, "is it a replication_spooling_dir?", "--allow-empty"},
		"flush", s.dir)
	refuse(t, 1, []string{"flush /etc: it contains no spools"}, "flush", "/etc")
	refuse(t, 1, []string{"SPOOLDIR", "--config"}, "flush")
	db := s.database("d.db", 10000)
	refuse(t, 1, []string{"flush " + db, "--config"}, "flush", db)
	refuse(t, 1, []string{"flush " + db, "has no spool in " + s.path("spool")}, "-c", s.config(),
		"flush", db)
	for _, dir := range []string{s.dir, s.path("none")} {
		must(t, "flush", "--allow-empty", dir)
	}
	must(t, "-c", s.config(), "sync", db)
	other := s.database("other.db", 10000)
	must(t, "-c", s.config(), "sync", other)
	one, err := filepath.Glob(s.path("spool/*d.db-*"))
	if err != nil || len(one) != 1 {
		t.Fatal(one, err)
	}
	for _, args := range []string{one[0], "-c CONFIG " + db, "-c CONFIG -s " + db} {
		got := must(t, append([]string{"flush"},
			strings.Fields(strings.ReplaceAll(args, "CONFIG", s.config()))...)...)
		if got != db+"\n" {
			t.Errorf("flush %s: %q, want %s", args, got, db)
		}
	}
	all := must(t, "-c", s.config(), "flush")
	if again := must(t, "flush", s.path("spool")); all != again || len(strings.Fields(all)) != 2 {
		t.Errorf("flush of all: %q, and %q", all, again)
	}
	var told struct {
		Database string
		Flushed  bool
	}
	if err := json.Unmarshal([]byte(must(t, "flush", "--json", one[0])), &told); err != nil ||
		told.Database != db || !told.Flushed {
		t.Errorf("flush --json: %+v, %v", told, err)
	}
}

// TestOutputIsKept: what is there is replaced only if one says so, and a journal beside it
// not even then.
func TestOutputIsKept(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	must(t, "-c", s.config(), "sync", db)
	out := s.write("out", []byte("precious"))
	for _, command := range []string{"restore", "manifest"} {
		refuse(t, 1, []string{command + " " + db, out, "exists", "--force"}, "-c", s.config(),
			command, db, "-o", out)
		if b, err := os.ReadFile(out); err != nil || string(b) != "precious" {
			t.Errorf("%s: the file is now %q, %v", command, b, err)
		}
	}
	must(t, "-c", s.config(), "restore", db, "-o", s.write("empty", nil))
	journal := s.write("out-journal", []byte("journal"))
	refuse(t, 1, []string{journal}, "-c", s.config(), "restore", db, "-o", out, "--force")
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	// Which the next one to open a WAL makes anew
	s.write("out-shm", []byte(strings.Repeat("x", 32768)))
	must(t, "-c", s.config(), "restore", db, "-o", out, "--force")
	if s.sum(out) != s.sum(db) {
		t.Error("the restored file differs")
	}
	must(t, "-c", s.config(), "manifest", db, "-o", out, "--force")
}

// TestSourceAlike: each command takes a database as its argument, or by flags; a configuration
// is a file's name, too.
func TestSourceAlike(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	config := s.path("verneuil.json")
	name := must(t, "-c", config, "sync", db)
	t.Chdir(s.dir)
	uri := "verneuil://" + hostname + db
	for _, command := range []string{"restore", "manifest", "versions", "verify"} {
		want := must(t, "-c", config, command, "--hostname", hostname, "-s", db)
		for _, source := range []string{db, "./d.db", uri, "-s d.db", "-m " + uri} {
			args := append([]string{"-c", config, command}, strings.Fields(source)...)
			if got := must(t, args...); got != want {
				t.Errorf("%q: %q, want %q", args, got, want)
			}
		}
	}
	for _, args := range []string{"sync d.db", "sync -s d.db", "manifest-name d.db",
		"manifest-name -s " + db} {
		got := must(t, append([]string{"-c", "verneuil.json"}, strings.Fields(args)...)...)
		if got != name {
			t.Errorf("%s: %q, want %q", args, got, name)
		}
	}
	for _, source := range []string{db, uri, "-s d.db", db + " --", "-s d.db --"} {
		args := append([]string{"-c", "verneuil.json", "shell", "--vfs", library(t)},
			strings.Fields(source)...)
		if got := must(t, append(args, "select count(*) from t")...); got != "2\n" {
			t.Errorf("%q: %q", args, got)
		}
	}
}

// TestJSON: what scripts read is JSON.
func TestJSON(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	for _, c := range []struct{ args, want string }{
		{"sync DB", "name host path uploaded chunks bytes calls process"},
		{"manifest DB", "name host path sequence file_bytes top"},
		{"manifest-name DB", "name host path"},
		{"restore DB -o OUT", "file host path file_bytes time"},
		{"versions DB", "stored version_id manifest_bytes target"},
		{"verify", "versions objects missing_or_damaged"},
		{"ls", "host path file_bytes versions stored age_seconds target"},
		{"flush", "database spool flushed"},
		{"config check", "what ok about"},
		{"version", "version commit go platform sqlite formats"},
	} {
		args := strings.Fields(strings.NewReplacer("DB", db, "OUT",
			s.path("out.db")).Replace(c.args))
		text := must(t, append([]string{"-c", s.config(), "--json"}[:2:2],
			append(args, "--json")...)...)
		var first map[string]any
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&first); err != nil {
			t.Fatalf("%s: %v: %q", c.args, err, text)
		}
		for key := range strings.FieldsSeq(c.want) {
			if _, ok := first[key]; !ok {
				t.Errorf("%s: no %s in %s", c.args, key, text)
			}
		}
	}
	if err := os.RemoveAll(s.path("store/chunks")); err != nil {
		t.Fatal(err)
	}
	r := ctl(t, "-c", s.config(), "verify", "--json")
	var fault struct{ Target, Manifest, Fault string }
	err := json.NewDecoder(strings.NewReader(r.stdout)).Decode(&fault)
	if r.code != 1 || err != nil || fault.Fault == "" {
		t.Errorf("verify --json: exit code %d, %v, %s", r.code, err, r.stdout)
	}
}

// TestHostChanges: where the host has another name with each start, who syncs, and who looks
// for what is not there, is told where it may be.
func TestHostChanges(t *testing.T) {
	for name, site := range map[string]func(*testing.T) *site{"dir": dirSite, "minio": minioSite} {
		t.Run(name, func(t *testing.T) {
			s := site(t)
			db, other := s.database("d.db", 10000), s.database("other.db", 10000)
			sync := func(db, host, spool string) string {
				t.Helper()
				s.configure(map[string]any{"hostname": host,
					"replication_spooling_dir": s.path(spool)})
				r := ctl(t, "-c", s.config(), "sync", db)
				if r.code != 0 {
					t.Fatal(r.stderr)
				}
				return r.stderr
			}
			if said := sync(db, "c0ffee", "1") + sync(db, "c0ffee", "1"); said != "" {
				t.Errorf("the first host: %q", said)
			}
			for _, spool := range []string{"1", "2"} { // one that is left, and one that is not
				said := sync(db, "beef"+spool, spool)
				if strings.Count(said, "c0ffee") != 1 || !strings.Contains(said, "hostname") {
					t.Errorf("a second host says %q", said)
				}
				if said := sync(db, "beef"+spool, spool); said != "" {
					t.Errorf("and then %q", said)
				}
			}
			sync(other, "beef1", "1")
			s.configure(map[string]any{"hostname": "dead"})
			out := []string{"-o", s.path("out.db")}
			for _, command := range [][]string{append([]string{"restore"}, out...),
				{"manifest", "--json"}, {"versions"}, {"shell", "--vfs", library(t)}, {"verify"},
				{"restore", "--at", "2099-01-01", "-o", out[1]}} {
				args := append([]string{"-c", s.config()}, command...)
				refuse(t, 1, []string{"d.db under the host beef1, beef2, c0ffee (--hostname)"},
					append(args, db)...)
				refuse(t, 1, []string{"of host beef1 there is " + db + ", " + other},
					append(args, "--hostname", "beef1", "-s", s.path("none.db"))...)
				refuse(t, 1, []string{"verneuilctl ls", "no target has " + s.path("none.db")},
					append(args, s.path("none.db"))...)
			}
			for _, named := range [][]string{{"file:///x/y.db"}, {"-s", "file:///x/y.db"}} {
				refuse(t, 1, []string{"verify file:///x/y.db: ", "no such file"},
					append([]string{"-c", s.config(), "verify"}, named...)...)
			}
		})
	}
}

// TestLs: a target tells what it holds, also one that no configuration names.
func TestLs(t *testing.T) {
	for name, site := range map[string]func(*testing.T) *site{"dir": dirSite, "minio": minioSite} {
		t.Run(name, func(t *testing.T) {
			s := site(t)
			refuse(t, 1, []string{"ls", "no database"}, "-c", s.config(), "ls")
			must(t, "-c", s.config(), "ls", "--allow-empty")
			deep := strings.Repeat("deep-", 40)
			if err := os.Mkdir(s.path(deep), 0o700); err != nil {
				t.Fatal(err)
			}
			large, small := s.database(deep+"/large.db", 300000), s.database("small.db", 10000)
			for _, host := range []string{"b-host", "a-host"} {
				s.configure(map[string]any{"hostname": host})
				must(t, "-l", "error", "-c", s.config(), "sync", large)
			}
			must(t, "-c", s.config(), "sync", small)
			ls := func(args ...string) (rows [][]string) {
				for line := range strings.Lines(must(t,
					append([]string{"-c", s.config(), "ls"}, args...)...)) {
					rows = append(rows, strings.Fields(line))
				}
				return rows
			}
			rows := ls()
			if len(rows) != 4 || rows[1][0] != "a-host" || rows[1][1] != large ||
				rows[2][1] != small || rows[3][0] != "b-host" {
				t.Fatalf("ls: %q", rows)
			}
			if rows[0][2] != "SIZE" || rows[1][2]+rows[1][3] != "320kB" &&
				rows[1][2]+rows[1][3] != "324kB" && rows[1][2]+rows[1][3] != "328kB" {
				t.Errorf("the size of %s: %q", large, rows[1])
			}
			if rows := ls("--hostname", "b-host"); len(rows) != 2 || rows[1][1] != large {
				t.Errorf("ls --hostname: %q", rows)
			}
			if rows := ls("-s", large); len(rows) != 3 {
				t.Errorf("ls -s: %q", rows)
			}
			if rows := ls(map[string]string{"dir": "stor",
				"minio": "chunks"}[name]); len(rows) != 4 {
				t.Errorf("ls of a part of the name: %q", rows)
			}
			refuse(t, 1, []string{"ls none", "nor a target"}, "-c", s.config(), "ls", "none")
			if name == "dir" {
				testLsDirectory(t, s)
			} else {
				testLsBucket(t, s, small)
			}
		})
	}
}

// testLsBucket lists a bucket, and a part of one, without a configuration.
func testLsBucket(t *testing.T, s *site, db string) {
	t.Helper()
	endpoint := strings.TrimPrefix(s.target["s3"].(map[string]any)["endpoint"].(string),
		"http://")
	got := must(t, "ls", "s3://manifests.minio."+endpoint)
	if strings.Count(got, "\n") != 4 {
		t.Errorf("ls of a bucket without a configuration: %q", got)
	}
	s.target["s3"] = map[string]any{"region": "minio", "endpoint": "http://" + endpoint,
		"bucket": "both", "prefix": "p",
		"create_buckets_on_demand": true}
	s.configure(nil)
	must(t, "-c", s.config(), "sync", db)
	if got := must(t, "ls", "s3://both.minio."+endpoint+"/p"); strings.Count(got,
		"\n") != 2 {
		t.Errorf("ls of a bucket's prefix without a configuration: %q", got)
	}
	refuse(t, 1, []string{"no such bucket"}, "ls", "s3://none.minio."+endpoint)
	refuse(t, 1, []string{"want s3://BUCKET"}, "ls", "s3://none")
}

// TestLsUnknown: ls says that a database is damaged only if it is: what was refused, or did not
// answer, may be whole.
func TestLsUnknown(t *testing.T) {
	for err, want := range map[error]string{
		chunkstore.ErrKey: "encrypted", chunkstore.ErrCorrupt: "damaged",
		chunkstore.ErrAbsent: "damaged", chunkstore.ErrDenied: "unreadable",
		context.DeadlineExceeded: "unreadable",
	} {
		if got := unknown(fmt.Errorf("get manifest: %w", err)); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// testLsDirectory lists a directory without a configuration, and one of whose manifests is damaged.
func testLsDirectory(t *testing.T, s *site) {
	t.Helper()
	if got := must(t, "ls", s.path("store")); strings.Count(got, "\n") != 4 {
		t.Errorf("ls of a directory without a configuration: %q", got)
	}
	err := os.WriteFile(s.files("store/manifests")[0], []byte("junk"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := ctl(t, "ls", s.path("store"))
	if r.code != 1 || !strings.Contains(r.stdout, "damaged") ||
		strings.Count(r.stdout, "\n") != 4 {
		t.Errorf("ls with a damaged manifest: exit code %d, %q, %q", r.code, r.stdout,
			r.stderr)
	}
}

func TestConfigCheck(t *testing.T) {
	s := minioSite(t)
	s.addTarget("second")
	for _, args := range []string{"check", "check --write"} {
		got := must(t, append([]string{"-c", s.path("verneuil.json"), "config"},
			strings.Fields(args)...)...)
		if strings.Count(got, "ok ") != 6 {
			t.Errorf("config %s: %s", args, got)
		}
	}
	for _, left := range s.files("second") {
		if !strings.Contains(left, "/.history/") {
			t.Errorf("config check --write has left %s", left)
		}
	}
	s3 := s.target["s3"].(map[string]any)
	s3["create_buckets_on_demand"], s3["chunk_bucket"] = false, "none"
	s.configure(map[string]any{"replication_spooling_dir": s.write("file", nil)})
	r := ctl(t, "-c", s.config(), "config", "check")
	if r.code != 1 || strings.Count(r.stdout, "FAILED") != 2 ||
		!strings.Contains(r.stdout, "create_buckets_on_demand") ||
		!strings.Contains(r.stdout, "not a directory") {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if err := os.Symlink(s.dir, s.path("link")); err != nil {
		t.Fatal(err)
	}
	s.configure(map[string]any{"replication_spooling_dir": s.path("link")})
	if r := ctl(t, "-c", s.config(), "config", "check"); r.code != 1 ||
		!strings.Contains(r.stdout, "is a symbolic link") {
		t.Errorf("a link for spools: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	refuse(t, 1, []string{"no configuration", "--config"}, "config", "check")
	refuse(t, 1, []string{"none.json", "no such file"}, "-c", s.path("none.json"), "config",
		"check")
}

func TestVersionAndCompletion(t *testing.T) {
	version, more, _ := strings.Cut(must(t, "version"), "\n")
	if !strings.Contains(more, "commit") || !strings.Contains(more, "formats") {
		t.Errorf("version: %q", more)
	}
	for _, flag := range []string{"--version", "-v"} {
		if got := must(t, flag); got != version+"\n" || version == "" {
			t.Errorf("%s: %q, version: %q", flag, got, version)
		}
	}
	refuse(t, 2, []string{"did you mean sync?"}, "backup")
	if help := must(t, "--help"); !strings.Contains(help, "completion") {
		t.Errorf("help does not show completion: %s", help)
	}
	if got := must(t, "completion", "bash"); !strings.Contains(got, "verneuilctl") {
		t.Errorf("completion: %s", got)
	}
	for _, c := range []struct {
		typed []string
		want  string
	}{
		{[]string{"ver"}, "verify\nversion\nversions\n"},
		{[]string{"lock", ""}, "break\ninfo\n"},
		{[]string{"restore", "a.db", ""}, ":0\n"}, // files
	} {
		r := ctl(t, append([]string{"__completeNoDesc"}, c.typed...)...)
		if r.code != 0 || !strings.HasPrefix(r.stdout, c.want) {
			t.Errorf("completion of %q: exit code %d, %q, %s", c.typed, r.code, r.stdout, r.stderr)
		}
	}
}

// TestShortFlags: one letter means one thing, whatever the command.
func TestShortFlags(t *testing.T) {
	meant := map[string]string{}
	commands := append(rootCommand().Commands(), rootCommand())
	for _, command := range commands {
		for line := range strings.Lines(command.UsageString()) {
			short, long, ok := strings.Cut(strings.TrimSpace(line), ", --")
			if !ok || len(short) != 2 {
				continue
			}
			long, _, _ = strings.Cut(long, " ")
			if before := meant[short]; before != "" && before != long {
				t.Errorf("%s is --%s, and --%s in %s", short, before, long, command.Name())
			}
			meant[short] = long
		}
	}
	if len(meant) < 5 {
		t.Errorf("found only %v", meant)
	}
}

// TestReplicaFile: what the command writes names the source, in full, and can be used in its place.
func TestReplicaFile(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 10000)
	file := s.path("replica.db")
	refuse(t, 1, []string{"replica " + db, "not found"}, "-c", s.config(), "replica", db, file)
	must(t, "-c", s.config(), "sync", db)
	refuse(t, 2, []string{"which database?"}, "-c", s.config(), "replica")
	refuse(t, 2, []string{"which file?"}, "-c", s.config(), "replica", db)
	refuse(t, 2, []string{"give one"}, "-c", s.config(), "replica", db, file, "-o", file)
	const magic = "verneuil replica\nsource verneuil://"
	for args, auto := range map[string]string{
		db + " " + file: "", "-s " + db + " " + file: "", "-s " + db + " -o " + file: "",
		"-m verneuil://" + db + " " + file:        "",
		db + " " + file + " --auto-refresh":       "auto_refresh 1\n",
		db + " " + file + " --auto-refresh=false": "auto_refresh 0\n",
	} {
		must(t, append([]string{"-c", s.config(), "replica", "--force"},
			strings.Fields(args)...)...)
		text, err := os.ReadFile(file)
		if want := magic + hostname + db + "\n" + auto; err != nil || string(text) != want {
			t.Errorf("%s: %q, %v, want %q", args, text, err, want)
		}
	}
	refuse(t, 1, []string{file, "--force"}, "-c", s.config(), "replica", db, file)
	must(t, "-c", s.config(), "restore", "-m", file, "-o", s.path("out.db"))
	if s.sum(db) != s.sum(s.path("out.db")) {
		t.Error("what was restored by the replica file is another database")
	}
	plain := s.path("manifest")
	must(t, "-c", s.config(), "manifest", db, "-o", plain)
	refuse(t, 1, []string{"verneuil://HOST/PATH"}, "-c", s.config(), "replica", "-m", plain,
		s.path("other"))
}

// TestInterrupted: Ctrl-C and SIGTERM end a command that waits for a store, which leaves
// nothing behind, and says by its exit code why it ended.
func TestInterrupted(t *testing.T) {
	s := dirSite(t)
	db := s.database("d.db", 300000)
	must(t, "-c", s.config(), "sync", db)
	file := s.path("manifest")
	must(t, "-c", s.config(), "manifest", db, "-o", file)
	t.Setenv("AWS_ACCESS_KEY_ID", miniotest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", miniotest.SecretKey)
	for _, c := range []struct {
		args   string
		signal os.Signal
		code   int
	}{
		{"restore -m " + file + " -o " + s.path("out.db"), os.Interrupt, 130},
		{"restore -m " + file + " -o " + s.path("out.db"), syscall.SIGTERM, 143},
		{"restore " + db, os.Interrupt, 130},
		{"manifest " + db + " -o " + s.path("out.db"), os.Interrupt, 130},
		{"sync " + db, os.Interrupt, 130},
		{"flush", os.Interrupt, 130}, // of the spool that sync has made
		{"verify", os.Interrupt, 130},
		{"versions " + db, os.Interrupt, 130},
		{"ls", os.Interrupt, 130},
		{"config check", os.Interrupt, 130},
	} {
		hung, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer hung.Close()
		s.target = map[string]any{"s3": map[string]any{"region": "r",
			"endpoint": "http://" + hung.Addr().String(), "chunk_bucket": "c",
			"manifest_bucket": "m"}}
		s.configure(map[string]any{"replication_spooling_dir": s.path("other-spool")})
		s.forgetTargets("other-spool")
		before := s.tree()
		argv := append(ctlCommand("-c", s.config()), strings.Fields(c.args)...)
		command := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		var stdout, stderr strings.Builder
		command.Stdout, command.Stderr = &stdout, &stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- command.Wait()
			hung.Close()
		}()
		asked, err := hung.Accept() // and nobody answers
		if err != nil {
			t.Fatalf("%s: has not asked the store: %s", c.args, stderr.String())
		}
		if err := command.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; command.ProcessState.ExitCode() != c.code {
			t.Errorf("%s: %v, want exit code %d: %s", c.args, err, c.code, stderr.String())
		}
		asked.Close()
		if !strings.HasSuffix(stderr.String(), "interrupted\n") || stdout.Len() > 0 &&
			c.args != "config check" {
			t.Errorf("%s: says %q, %q", c.args, stdout.String(), stderr.String())
		}
		s.unchanged(before, "other-spool")
	}
}

// forgetTargets has the databases of a spooling directory replicated to what is configured now.
func (s *site) forgetTargets(spools string) {
	s.t.Helper()
	sources, err := filepath.Glob(s.path(spools + "/*/source.json"))
	for _, source := range sources {
		err = errors.Join(err, os.Remove(source))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
