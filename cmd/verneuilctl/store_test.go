package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"verneuil/chunkstore/miniotest"
	"verneuil/spool/sqlitefile"
)

// withStores gives the site two stores that databases live in: s, beside the target, and other.
func (s *site) withStores() *site {
	s.t.Helper()
	s.configure(map[string]any{"tempdir": s.dir, "stores": map[string]any{
		"s": s.target, "other": map[string]any{"dir": map[string]any{"path": s.path("other")}},
	}})
	return s
}

// ctl runs verneuilctl with the site's configuration, and must succeed.
func (s *site) ctl(args ...string) string {
	s.t.Helper()
	return must(s.t, append([]string{"-c", s.config()}, args...)...)
}

// refuse runs verneuilctl with the site's configuration, and must fail.
func (s *site) refuse(code int, says []string, args ...string) {
	s.t.Helper()
	refuse(s.t, code, says, append([]string{"-c", s.config()}, args...)...)
}

// line is one line of JSON that a command prints.
func line(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// rows counts the rows of table t of the database in a file.
func rows(t *testing.T, file string) (n int) {
	t.Helper()
	db, err := openDatabase(file, "ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var sound string
	if err = db.QueryRow("SELECT count(*) FROM t").Scan(&n); err == nil {
		err = db.QueryRow("PRAGMA integrity_check").Scan(&sound)
	}
	if err != nil || sound != "ok" {
		t.Fatalf("%s: %s, %v", file, sound, err)
	}
	return n
}

// TestStores: a database goes into a store from a file, a replica or another store, and out again,
// as it is and as it was.
func TestStores(t *testing.T) {
	for name, of := range map[string]func(*testing.T) *site{"dir": dirSite, "s3": minioSite} {
		t.Run(name, func(t *testing.T) { testStores(t, of(t).withStores()) })
	}
}

func testStores(t *testing.T, s *site) {
	db := s.database("a b.db", 3_000_000)
	write(t, db, "PRAGMA journal_mode=WAL")
	made := line(t, s.ctl("create", "file:///s/empty.db", "--json"))
	if made["store"] != "s" || made["path"] != "/empty.db" || made["file_bytes"] != 0.0 {
		t.Errorf("created: %v", made)
	}
	s.refuse(1, []string{"there is a database of that path"}, "create", "file:///s/empty.db")
	s.ctl("import", db, "file:///s/x/a%20b.db")
	s.refuse(1, []string{"there is a database of that path", "--replace"}, "import", db,
		"file:///s/x/a%20b.db")
	s.ctl("export", "file:///s/x/a%20b.db", s.path("out.db"))
	want, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	(*sqlitefile.Header)(want).LeaveWAL()
	if got, err := os.ReadFile(s.path("out.db")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another database than was imported: %v", err)
	}
	s.refuse(1, []string{"out.db", "--force"}, "export", "file:///s/x/a%20b.db", s.path("out.db"))

	s.ctl("sync", db)
	s.ctl("import", "verneuil://"+hostname+db, "file:///other/b.db")
	s.ctl("import", "file:///other/b.db", "file:///s/c.db")
	before := rows(t, db)
	at := time.Now()
	tick(t, at)
	write(t, db, "DELETE FROM t WHERE rowid % 2")
	s.ctl("import", "--replace", db, "file:///s/c.db")
	s.ctl("export", "file:///s/c.db", s.path("new.db"))
	s.ctl("restore", "file:///s/c.db", "--at", at.Format(time.RFC3339Nano), "--out",
		s.path("old.db"))
	if n := rows(t, s.path("new.db")); n != rows(t, db) || n == before {
		t.Errorf("%d rows after it was replaced", n)
	}
	if n := rows(t, s.path("old.db")); n != before {
		t.Errorf("%d rows before it was replaced, want %d", n, before)
	}
	s.ctl("import", "--at", at.Format(time.RFC3339Nano), "file:///s/c.db", "file:///s/d.db")
	s.ctl("export", "file:///s/d.db", s.path("d.db"))
	if n := rows(t, s.path("d.db")); n != before {
		t.Errorf("%d rows of a version that was copied, want %d", n, before)
	}
	lookAround(t, s)
}

// lookAround runs what tells of the stores of testStores.
func lookAround(t *testing.T, s *site) {
	t.Helper()
	var paths []string
	for text := range strings.Lines(s.ctl("ls", "file:///s", "--json")) {
		v := line(t, text)
		paths = append(paths, v["path"].(string))
		if v["held"] != false || v["database"] == "" {
			t.Errorf("ls: %v", v)
		}
	}
	if !slices.Equal(paths, []string{"/c.db", "/d.db", "/empty.db", "/x/a b.db"}) {
		t.Errorf("ls: %q", paths)
	}
	if list := s.ctl("ls", "--store", "other"); !strings.Contains(list, "/b.db") ||
		!strings.Contains(list, "nobody") {
		t.Errorf("ls: %s", list)
	}
	if sum := s.ctl("verify", "--store", "s", "--read"); !strings.Contains(sum, "damaged: 0") {
		t.Errorf("verify: %s", sum)
	}
	if v := line(t, s.ctl("manifest", "file:///s/c.db", "--json")); v["host"] != "" ||
		v["path"] != "/c.db" {
		t.Errorf("manifest: %v", v)
	}
	s.ctl("gc", "--store", "other")
	if found := s.ctl("gc", "--delete"); strings.Count(found, "deleted 0 packs") != 2 {
		t.Errorf("gc: %s", found)
	}
	info := line(t, s.ctl("lock", "info", "file:///s/c.db", "--json"))
	if holder, ok := info["last_holder"].(map[string]any); !ok || holder["host"] != hostname ||
		info["held"] != false {
		t.Errorf("lock info: %v", info)
	}
	said := s.ctl("lock", "break", "file:///s/c.db")
	if !strings.Contains(said, "nobody holds it") {
		t.Errorf("lock break: %s", said)
	}
	checked := s.ctl("config", "check", "--write")
	if strings.Count(checked, "ok      store ") != 2 {
		t.Errorf("config check: %s", checked)
	}
}

// tick waits until the clock of file systems has passed t: it goes by milliseconds.
func tick(t *testing.T, after time.Time) {
	t.Helper()
	name := t.TempDir() + "/tick"
	for {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil {
			t.Fatal(err)
		} else if info.ModTime().After(after) {
			return
		}
	}
}

// TestStoresMisnamed: what names no database in a store of the configuration is refused by name,
// and nothing is made.
func TestStoresMisnamed(t *testing.T) {
	s := dirSite(t).withStores()
	db := s.database("x.db", 10000)
	const there = "has other, s"
	for _, c := range []struct {
		uri  string
		says string
	}{
		{"file:///t/x.db", there}, {"file:///S/x.db", there},
		{"file:///s/../x.db", "mean nothing in a store"},
		{"file:///s/a/%2e%2e/%2e%2e/other/x.db", "mean nothing in a store"},
		{"file:///s/", "names no database"}, {"file:///s", "names no database"},
		{"file:///s/x%00.db", "zero byte"}, {"/s/x.db", "give file:///STORE/PATH"},
		{"verneuil:///s/x.db", "give file:///STORE/PATH"},
	} {
		for _, args := range [][]string{{"create", c.uri}, {"import", db, c.uri},
			{"lock", "info", c.uri}, {"lock", "break", "--force", c.uri}} {
			s.refuse(1, []string{c.says}, args...)
		}
	}
	for _, args := range [][]string{{"ls", "file:///t"}, {"gc", "--store", "t"},
		{"restore", "file:///t/x.db", "--out", s.path("o")}, {"verify", "--store", "t"}} {
		s.refuse(1, []string{there}, args...)
	}
	for _, args := range [][]string{{"versions"}, {"lock", "info"}, {"lock", "break"},
		{"manifest", "--json"}, {"export"}} {
		args = append(args, "file:///s/none.db")
		if args[0] == "export" {
			args = append(args, s.path("o"))
		}
		s.refuse(1, []string{"none.db"}, args...)
	}
	s.refuse(1, []string{"no database lives in the store s", "--allow-empty"}, "ls", "file:///s")
	s.refuse(1, []string{"not a database"}, "import", s.write("text", bytes.Repeat([]byte("text "),
		1000)), "file:///s/text.db")
	s.refuse(2, []string{"where to"}, "import", db)
	for _, args := range [][]string{{"ls"}, {"sync"}, {"flush"}, {"status"}, {"run"}, {"verify"},
		{"verify", "--drill"}, {"versions"}, {"manifest-name"}, {"manifest", "--json"},
		{"shell", "--readonly"}, {"restore", "-o", s.path("o")}} {
		s.refuse(1, []string{`no such store: "t"`, there}, append(args, "file:///t/x.db")...)
	}
	s.refuse(1, []string{`no such store: "t"`, there}, "export", "file:///t/x.db", s.path("o"))
	s.refuse(1, []string{`no such store: "t"`, there}, "replica", "file:///t/x.db", s.path("o"))
	s.refuse(1, []string{"--hostname", "file:///STORE"}, "manifest-name", "verneuil://h/x.db")
	s.refuse(1, []string{"there is no such file"}, "manifest", "-m", s.path("none"), "--json")
	for _, command := range []string{"sync", "flush"} {
		s.refuse(1, []string{"file:///s/x.db", "lives in a store"}, command, "file:///s/x.db")
	}
	s.configure(map[string]any{"replication_targets": []any{}, "stores": map[string]any{
		"s": s.target}})
	s.refuse(1, []string{"replication_targets", "(s)", "--store"}, "verify")
	if made := s.files("."); slices.ContainsFunc(made, func(name string) bool {
		return strings.HasPrefix(name, s.path("store/manifests")) || strings.HasPrefix(name,
			s.path("o"))
	}) {
		t.Errorf("made: %q", made)
	}
}

// TestStoreHeld: the messages name who holds a database; it is taken from him only if that is said,
// and he is told.
func TestStoreHeld(t *testing.T) {
	lib := library(t)
	s := dirSite(t).withStores()
	s.ctl("create", "file:///s/x.db")
	shell := startShell(t, nil, ctlCommand("-c", s.config(), "shell", "file:///s/x.db",
		"--vfs", lib))
	shell.ask("CREATE TABLE t(x); BEGIN IMMEDIATE; INSERT INTO t VALUES(1);")
	who := fmt.Sprintf("pid %d on %s", shell.command.Process.Pid, hostname)
	for _, args := range [][]string{{"lock", "info", "file:///s/x.db"}, {"ls", "file:///s"}} {
		if said := s.ctl(args...); !strings.Contains(said, who) {
			t.Errorf("%s does not name %s: %s", args, who, said)
		}
	}
	s.refuse(1, []string{who, "--force"}, "lock", "break", "file:///s/x.db")
	s.refuse(1, []string{who, "lock break"}, "import", "--replace", s.database("y.db", 10),
		"file:///s/x.db")
	if said := s.ctl("lock", "break", "--force", "file:///s/x.db"); !strings.Contains(said, who) {
		t.Errorf("lock break: %s", said)
	}
	said := strings.Join(shell.ask("COMMIT;"), "\n")
	if !strings.Contains(said, "taken the database over") || !strings.Contains(said, hostname) {
		t.Errorf("the holder is told %q", said)
	}
	if said := shell.ask("INSERT INTO t VALUES(2); SELECT * FROM t;"); !slices.Equal(said,
		[]string{"2"}) {
		t.Errorf("the holder goes on, and reads %q", said)
	}
	readOnly := startShell(t, nil, ctlCommand("-c", s.config(), "shell", "file:///s/x.db",
		"--readonly", "--vfs", lib))
	read, wrote := readOnly.ask("SELECT * FROM t;"), readOnly.ask("INSERT INTO t VALUES(3);")
	if !slices.Equal(read, []string{"2"}) || len(wrote) != 1 ||
		!strings.Contains(wrote[0], "readonly") {
		t.Errorf("a shell that only reads: %q, %q", read, wrote)
	}
	readOnly.end(1)
	past := startShell(t, nil, ctlCommand("-c", s.config(), "shell", "file:///s/x.db",
		"--at", time.Now().Add(time.Second).Format(time.RFC3339Nano), "--vfs", lib))
	if said := past.ask("SELECT * FROM t;"); !slices.Equal(said, []string{"2"}) {
		t.Errorf("an older version: %q", said)
	}
	past.end(0)
	shell.end(1) // the commit that failed
}

// TestStoreHolderDead: of a holder who has shown no sign of life for too long, all that names him
// says so; of one who has, nothing does.
func TestStoreHolderDead(t *testing.T) {
	s := dirSite(t).withStores()
	s.ctl("create", "file:///s/x.db")
	shell := startShell(t, nil, ctlCommand("-c", s.config(), "shell", "file:///s/x.db",
		"--vfs", library(t)))
	shell.ask("CREATE TABLE t(x); BEGIN IMMEDIATE; INSERT INTO t VALUES(1);")
	who := fmt.Sprintf("pid %d on %s", shell.command.Process.Pid, hostname)
	says := func(dead bool) {
		t.Helper()
		for _, args := range [][]string{{"lock", "info", "file:///s/x.db"}, {"ls", "file:///s"},
			{"ls", "file:///s/x.db"}} {
			said := s.ctl(args...)
			if !strings.Contains(said, who) || dead != strings.Contains(said, "sign of life") {
				t.Errorf("the holder is dead: %v; %s says %s", dead, args, said)
			}
			v := line(t, s.ctl(append(args, "--json")...))
			if v["held"] != true || dead != (v["taken_for_dead"] == true) {
				t.Errorf("the holder is dead: %v; %s says %v", dead, args, v)
			}
		}
	}
	says(false)
	if err := shell.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = shell.command.Wait()
	long := time.Now().Add(-time.Hour)
	for _, file := range s.files("store/chunks") { // as if an hour had passed
		if err := os.Chtimes(file, long, long); err != nil {
			t.Fatal(err)
		}
	}
	says(true)
}

// TestStoreDenied: with credentials that may only read, what reads works, and what writes says
// which rights it lacks.
func TestStoreDenied(t *testing.T) {
	s := minioSite(t).withStores()
	db := s.database("x.db", 100_000)
	s.ctl("import", db, "file:///s/x.db")
	endpoint := s.target["s3"].(map[string]any)["endpoint"].(string)
	for _, variable := range miniotest.ReadOnly(t, endpoint, "chunks", "manifests") {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	s.ctl("export", "file:///s/x.db", s.path("out.db"))
	if s.sum(db) != s.sum(s.path("out.db")) {
		t.Error("another database than was imported")
	}
	for _, args := range [][]string{{"import", db, "file:///s/y.db"}, {"create", "file:///s/y.db"},
		{"import", "--replace", db, "file:///s/x.db"}, {"ls", "file:///s"}} {
		s.refuse(1, []string{"AccessDenied"}, args...)
	}
}

// carelessStore answers as S3 does, but ignores conditions.
func carelessStore(t *testing.T) (url string) {
	var mu sync.Mutex
	objects := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		there, ok := objects[r.URL.Path]
		switch {
		case r.Method == http.MethodPut:
			objects[r.URL.Path] = body
			w.Header().Set("ETag", `"1"`)
		case r.Method == http.MethodGet && ok:
			w.Header().Set("ETag", `"1"`)
			_, _ = w.Write(there)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestStoreUnguarded: a store that ignores conditions is refused by name, with what to do.
func TestStoreUnguarded(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s := dirSite(t)
	s.target = map[string]any{"s3": map[string]any{"region": "r", "endpoint": carelessStore(t),
		"bucket": "databases"}}
	s.withStores()
	for _, args := range [][]string{{"create", "file:///s/x.db"},
		{"import", s.database("x.db", 10000), "file:///s/x.db"}} {
		r := ctl(t, append([]string{"-c", s.config(), "-l", "off"}, args...)...)
		for _, part := range []string{"databases/chunks/", "could both commit",
			"replicate local databases"} {
			if r.code != 1 || !strings.Contains(r.stderr, part) {
				t.Errorf("%s: exit code %d, %q does not say %q", args, r.code, r.stderr, part)
			}
		}
	}
}
