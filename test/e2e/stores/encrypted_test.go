package stores_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/keyring"
	"verneuil/test/cephtest"
	"verneuil/test/e2e/harness"
	"verneuil/vfs"
)

// secretText stands in databases many times, and nowhere in a store.
const secretText = "nobody may read this"

// encrypted is a site whose target and store are encrypted.
type encrypted struct {
	*harness.Site
	stores map[string]any
}

// sites make those of each kind of store.
var sites = map[string]func(*testing.T) *harness.Site{
	"dir": harness.DirSite, "s3": harness.MinioSite, "rados": radosSite,
}

// radosSite has a target in a pool of its own. Without Ceph the test is skipped.
func radosSite(t *testing.T) *harness.Site {
	t.Helper()
	s, c := harness.EmptySite(t), cephtest.Shared(t)
	c.Setenv(t, "")
	pool := c.NewPool(t)
	s.Targets = []any{map[string]any{"rados": map[string]any{"pool": pool, "namespace": "ns"}}}
	s.Configure(nil)
	return s
}

// newEncrypted makes a key file, with these flags, which the configuration names.
func newEncrypted(s *harness.Site, flags ...string) *encrypted {
	s.T.Helper()
	// The store is another place of the same kind.
	target, err := json.Marshal(s.Targets[0])
	harness.Must(s.T, err)
	other := strings.NewReplacer(`"chunks"`, `"st-chunks"`, `"manifests"`, `"st-manifests"`,
		`"ns"`, `"st-ns"`, s.Path("store"), s.Path("st")).Replace(string(target))
	e := &encrypted{s, map[string]any{"st": json.RawMessage(other)}}
	s.Ctl(append([]string{"key", "new", s.Path("keys")}, flags...)...)
	e.keys(map[string]any{"key_file": s.Path("keys")})
	return e
}

// keys configures what the configuration says of keys.
func (e *encrypted) keys(keys map[string]any) {
	e.T.Helper()
	config := map[string]any{"stores": e.stores, "tempdir": e.Dir}
	maps.Copy(config, keys)
	e.Configure(config)
}

// buckets returns those of the target and the store.
func (e *encrypted) buckets() (all []chunkstore.Bucket) {
	e.T.Helper()
	config, err := vfs.ParseConfig(e.Config())
	harness.Must(e.T, err)
	config.Keys = keyring.Source{} // nothing is opened
	log := slog.New(slog.DiscardHandler)
	replicated, err := config.OpenForegroundStore(context.Background(), log)
	harness.Must(e.T, err)
	named, err := config.OpenNamedStore(context.Background(), "st", log)
	harness.Must(e.T, err)
	for _, t := range []*chunkstore.Target{replicated.Targets[0], named.Targets[0]} {
		all = append(all, t.Chunks, t.Manifests)
	}
	return all
}

// object is one that is stored.
type object struct {
	bucket chunkstore.Bucket
	key    string
	body   []byte
}

// objects returns all that is stored.
func (e *encrypted) objects() (all []object) {
	e.T.Helper()
	for _, b := range e.buckets() {
		var keys []string
		harness.Must(e.T, b.List(e.T.Context(), "", func(o chunkstore.Object) bool {
			keys = append(keys, o.Key)
			return true
		}))
		for _, key := range keys {
			o, err := b.Get(e.T.Context(), key, chunkstore.GetOptions{})
			harness.Must(e.T, err)
			all = append(all, object{b, key, o.Body})
		}
	}
	return all
}

func (e *encrypted) put(o object, body []byte) {
	e.T.Helper()
	_, err := o.bucket.Put(e.T.Context(), o.key, body, chunkstore.Condition{})
	harness.Must(e.T, err)
}

// ctl runs verneuilctl, and returns what it said.
func (e *encrypted) ctl(args ...string) harness.Result {
	e.T.Helper()
	argv := []string{harness.Built(e.T, "VERNEUIL_CTL"), "-c", e.Config()}
	return harness.Run(e.T, nil, append(argv, args...)...)
}

// fill has a database of rows that tell the secret, which is replicated, and another in the store.
func (e *encrypted) fill() *harness.Process {
	e.T.Helper()
	shell := e.Written("a.db", "delete")
	shell.Must(fmt.Sprintf("insert into t(b) select '%s ' || value from generate_series(1, 4000);",
		secretText))
	shell.Flush()
	for n := range 3 { // small ones: records with pages
		shell.Must(fmt.Sprintf("update t set b = '%s, again' where a = %d;", secretText, n+2))
		shell.Flush()
	}
	remote := e.Shell("")
	remote.Must(".open file:///st/r.db?vfs=verneuil_remote")
	remote.Must("create table t(a integer primary key, b);")
	remote.Must(fmt.Sprintf("insert into t(b) values('%s');", secretText))
	remote.EndsWith(0)
	return shell
}

// TestEncrypted: with a key file, everything works, and nothing that is stored can be read: what
// differs between a target and the database is all there is.
func TestEncrypted(t *testing.T) {
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			e := newEncrypted(site(t))
			shell := e.fill()
			e.MustEqual("a.db")
			e.mustNotSay(secretText, "VRNC", "VRNL", e.Path("a.db"), harness.Hostname,
				"SQLite format 3", "create table")

			replica := e.Shell("")
			replica.Must(fmt.Sprintf(".open file:verneuil://%s%s?vfs=verneuil_snapshot",
				harness.Hostname, e.Path("a.db")))
			replica.Want("select count(*) from t;", "4001")
			shell.Must("delete from t where a > 3000;")
			shell.Flush()
			replica.Ask("pragma verneuil_snapshot_refresh=2;")
			replica.Want("select count(*) from t;", "3000")

			e.Ctl("verify", "--read")
			e.Ctl("verify", "--read", "--store", "st")
			e.Ctl("versions", "-s", e.Path("a.db"))
			e.Ctl("gc")
			e.Ctl("export", "file:///st/r.db", e.Path("r.db"))
			if got := e.Stock("r.db", "select b from t"); got != secretText {
				t.Errorf("the store's database says %q", got)
			}
			e.Ctl("import", e.Path("a.db"), "file:///st/a.db")
			remote := e.Shell("")
			remote.Must(".open file:///st/a.db?vfs=verneuil_remote")
			remote.Want("select count(*) from t;", "3000")

			// Equal chunks are stored once, of other databases, too.
			b, err := os.ReadFile(e.Path("a.db"))
			harness.Must(t, err)
			e.Write("copy.db", b)
			e.Write("another.db", b)
			e.Ctl("sync", e.Path("copy.db"))
			before := e.packBytes()
			e.Ctl("sync", e.Path("another.db"))
			if more := e.packBytes() - before; before == 0 || more != 0 {
				t.Errorf("a copy took %d bytes more than %d", more, before)
			}
			e.MustEqual("copy.db")
		})
	}
}

// mustNotSay: no object that is stored says any of that.
func (e *encrypted) mustNotSay(words ...string) {
	e.T.Helper()
	for _, o := range e.objects() {
		for _, word := range words {
			if bytes.Contains(o.body, []byte(word)) {
				e.T.Errorf("%s in %v says %q", o.key, o.bucket, word)
			}
		}
	}
}

// packBytes returns how long all packs of the target are.
func (e *encrypted) packBytes() (sum int64) {
	e.T.Helper()
	harness.Must(e.T, e.buckets()[0].List(e.T.Context(), "", func(o chunkstore.Object) bool {
		if _, err := chunkstore.ParseDigest(o.Key); err == nil {
			sum += o.Bytes
		}
		return true
	}))
	return sum
}

// TestKeyDoesNotFit: without the keys, with others, and with keys where nothing is encrypted, every
// command says so, and names the place and the keys; nothing is changed, and the application's
// database works. So it is where names are encrypted, too, under which nothing is found by others.
func TestKeyDoesNotFit(t *testing.T) {
	for name, flags := range map[string][]string{"contents": nil, "names": {"--encrypt-names"}} {
		t.Run(name, func(t *testing.T) {
			testKeyDoesNotFit(newEncrypted(harness.DirSite(t), flags...), flags...)
		})
	}
}

func testKeyDoesNotFit(e *encrypted, flags ...string) {
	t := e.T
	e.fill().EndsWith(0)
	e.Ctl(append([]string{"key", "new", e.Path("others")}, flags...)...)
	stored := e.objects()
	same := func(what string) {
		t.Helper()
		if now := e.objects(); !slices.EqualFunc(now, stored, func(a, b object) bool {
			return a.key == b.key && bytes.Equal(a.body, b.body)
		}) {
			t.Fatalf("%s has changed what is stored", what)
		}
	}
	for what, keys := range map[string]struct {
		config map[string]any
		says   []string
	}{
		"none":   {nil, []string{"encrypted with the key", "the configuration has no"}},
		"others": {map[string]any{"key_file": e.Path("others")}, []string{"others"}},
		"missing": {map[string]any{"key_file": e.Path("gone")},
			[]string{"key_file " + e.Path("gone")}},
		"command": {map[string]any{"key_command": []string{"/bin/cat", e.Path("gone")}},
			[]string{"key_command /bin/cat", "No such file"}},
	} {
		if len(flags) > 0 && what == "none" {
			keys.says = []string{"encrypted with the keys", "the configuration has none"}
		}
		e.keys(keys.config)
		for _, args := range e.commands() {
			r := e.ctl(args...)
			if r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, "key") {
				t.Errorf("%s: %q: exit code %d, %s%s", what, args, r.Code, r.Stdout, r.Stderr)
			}
			same(fmt.Sprintf("%s: %q", what, args))
			for _, says := range keys.says {
				if args[0] == "restore" && !strings.Contains(r.Stderr, says) {
					t.Errorf("%s: %q says %q, not %q", what, args, r.Stderr, says)
				}
			}
		}
		if _, err := os.Stat(e.Path("out.db")); err == nil {
			t.Errorf("%s: something was restored", what)
		}
		e.applicationWorks(what)
		same(what + ": an application")
	}
	e.keys(map[string]any{"key_file": e.Path("keys")})
	shell := e.Shell("new.db") // its spool is told of the key file
	shell.Flush()
	shell.Ask(".open " + e.Path("a.db"))
	shell.Flush() // what was committed meanwhile waits, and is sent
	shell.EndsWith(0)
	e.MustEqual("a.db")
	e.MustEqual("new.db")
}

// commands are all that ask a target or a store.
func (e *encrypted) commands() [][]string {
	source := []string{"-s", e.Path("a.db")}
	return [][]string{
		append([]string{"restore", "-o", e.Path("out.db")}, source...),
		append([]string{"verify"}, source...), append([]string{"manifest"}, source...),
		append([]string{"verify", "--drill"}, source...), append([]string{"versions"}, source...),
		append([]string{"restore", "--at", "2099-01-01", "-o", e.Path("out.db")}, source...),
		append([]string{"restore", "--version-id", "x", "-o", e.Path("out.db")}, source...),
		{"ls"}, {"ls", "--dedup"}, {"ls", "--hostname", harness.Hostname},
		{"ls", "-s", e.Path("a.db")}, {"ls", "file:///st"}, {"verify"}, {"gc"}, {"gc", "--delete"},
		{"sync", e.Path("a.db")}, {"export", "file:///st/r.db", e.Path("out.db")},
		{"import", e.Path("a.db"), "file:///st/new.db"}, {"lock", "info", "file:///st/r.db"},
		{"import", e.Path("a.db"), "file:///st/r.db", "--replace"},
		{"lock", "break", "--force", "file:///st/r.db"}, {"create", "file:///st/other.db"},
		{"restore", "file:///st/r.db", "-o", e.Path("out.db")}, {"versions", "file:///st/r.db"},
		{"manifest", "file:///st/r.db"}, {"ls", "--dedup", "file:///st"}, {"verify", "--drill"},
		{"verify", "--touch"}, {"verify", "--store", "st"}, {"gc", "--store", "st", "--delete"},
		append([]string{"replica", e.Path("out.db")}, source...),
		append([]string{"shell"}, append(source, "--", "select 1")...),
		{"config", "check"}, {"config", "check", "--write"},
		{"doctor"}, {"doctor", "--read-only"},
	}
}

// applicationWorks has an application write to databases whose target it has not the keys of, and
// try to open others.
func (e *encrypted) applicationWorks(what string) {
	e.T.Helper()
	shell := e.Shell("")
	shell.Ask(".open " + e.Path("a.db"))
	shell.Want(fmt.Sprintf("insert into t(b) values('%s') returning 1;", what), "1") // P1
	shell.Want("select verneuil_flush();", "0")
	shell.Ask(".open " + e.Path("new.db"))
	shell.Want("create table if not exists t(a); select count(*) from t;", "0")
	shell.Want("select verneuil_flush();", "0")
	before := shell.Stderr()
	for _, uri := range []string{
		fmt.Sprintf("verneuil://%s%s?vfs=verneuil_snapshot", harness.Hostname, e.Path("a.db")),
		"///st/r.db?vfs=verneuil_remote", "///st/other.db?vfs=verneuil_remote",
	} {
		shell.Ask(".open file:" + uri)
		if got := shell.Ask("select 1 from t limit 1;"); got != "" ||
			!strings.Contains(shell.Stderr()[len(before):], "key") {
			e.T.Errorf("%s: %s opens: %q, %s", what, uri, got, shell.Stderr()[len(before):])
		}
	}
	shell.EndsWith(1)
}

// TestEncryptedTampered: whatever somebody who may write to the store, and has no key, does to one
// object, a restore gives a version that was, or fails, and says so; it never gives anything else.
func TestEncryptedTampered(t *testing.T) {
	e := newEncrypted(harness.DirSite(t))
	shell := e.fill()
	versions := map[string]bool{e.dump(""): true}
	for n := range 4 {
		shell.Must(fmt.Sprintf("update t set b = randomblob(3000 + %d) where a = 9;", n))
		shell.Flush()
		versions[e.dump("")] = true
	}
	shell.EndsWith(0)
	all := e.objects()
	newest := e.dump("")
	if len(versions) < 5 || len(all) < 8 {
		t.Fatalf("%d versions, %d objects", len(versions), len(all))
	}
	failed := 0
	try := func(what string, o object, body []byte) {
		t.Helper()
		e.put(o, body)
		defer e.put(o, o.body)
		r := e.ctl("restore", "--force", "-s", e.Path("a.db"), "-o", e.Path("out.db"))
		if r.Code != 0 {
			failed++
			if strings.Contains(r.Stderr, "panic") {
				t.Errorf("%s of %s: %s", what, o.key, r.Stderr)
			}
			return
		}
		if got := e.dump("out.db"); !versions[got] {
			t.Errorf("%s of %s: a version that never was", what, o.key)
		}
	}
	for k, o := range all {
		if len(o.body) == 0 {
			continue
		}
		for _, at := range []int{0, 20, len(o.body) / 2, len(o.body) - 1} {
			bad := bytes.Clone(o.body)
			bad[at%len(bad)] ^= 0x10
			try(fmt.Sprintf("byte %d", at), o, bad)
		}
		try("an end", o, o.body[:len(o.body)-1])
		try("another object in the place", o, all[(k+1)%len(all)].body)
		for _, other := range all {
			if alike := strings.SplitN(o.key, "-", 2)[0]; other.key != o.key &&
				other.bucket.String() == o.bucket.String() &&
				strings.SplitN(other.key, "-", 2)[0] == alike {
				try(other.key+" in the place", o, other.body)
			}
		}
	}
	if failed == 0 {
		t.Error("nothing has failed: the tampering did not matter")
	}
	e.ctl("restore", "--force", "-s", e.Path("a.db"), "-o", e.Path("out.db"))
	if e.dump("out.db") != newest {
		t.Error("at the end, it is not as it was")
	}
}

// dump returns what a database holds; of the replicated one, if none is named.
func (e *encrypted) dump(db string) string {
	e.T.Helper()
	if db == "" {
		db = "a.db"
	}
	return e.Stock(db, "select count(*), sum(length(b)), group_concat(hex(b)) from t where a < 12")
}

// everything returns all that is stored, by key, with markers; of a dir site also by file, and of
// one on RADOS also the whole pool: names, data, attributes and maps of all objects.
func (e *encrypted) everything() map[string][]byte {
	e.T.Helper()
	all := make(map[string][]byte)
	for _, o := range e.objects() {
		all[o.key] = append(all[o.key], o.body...)
	}
	for _, b := range e.buckets() {
		o, err := b.Get(e.T.Context(), chunkstore.MarkerKey, chunkstore.GetOptions{})
		harness.Must(e.T, err)
		all[chunkstore.MarkerKey] = append(all[chunkstore.MarkerKey], o.Body...)
	}
	var target struct{ RADOS struct{ Pool string } }
	text, err := json.Marshal(e.Targets[0])
	harness.Must(e.T, err)
	harness.Must(e.T, json.Unmarshal(text, &target))
	if pool := target.RADOS.Pool; pool != "" {
		exported := cephtest.Shared(e.T).Run(e.T, "rados", "-p", pool, "export", "-")
		if !strings.Contains(exported, "st-ns") ||
			!strings.Contains(exported, chunkstore.MarkerKey) {
			e.T.Fatalf("the pool's export lacks what must be there: %d bytes", len(exported))
		}
		all["pool"] = []byte(exported)
	}
	for _, root := range []string{"store", "st"} {
		_ = filepath.WalkDir(e.Path(root), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				body, err := os.ReadFile(path)
				harness.Must(e.T, err)
				name, err := filepath.Rel(e.Dir, path)
				harness.Must(e.T, err)
				all[name] = body
			}
			return nil // the site may have none
		})
	}
	return all
}

// TestEncryptedNames: with a key file that encrypts names, everything works, and no key and no byte
// of what is stored tells the name of a host, or of a database; also of what commands leave.
func TestEncryptedNames(t *testing.T) {
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			testEncryptedNames(newEncrypted(site(t), "--encrypt-names"))
		})
	}
}

func testEncryptedNames(e *encrypted) {
	t := e.T
	shell := e.fill()
	long := strings.Repeat("long-name-", 20) + ".db"
	other := e.Written(long, "wal")
	other.Flush()
	other.EndsWith(0)
	e.MustEqual("a.db")
	e.MustEqual(long)
	e.Ctl("verify", "--drill")
	e.Ctl("verify", "--read", "--store", "st")
	e.Ctl("config", "check", "--write")
	e.Ctl("doctor")
	e.Ctl("import", e.Path("a.db"), "file:///st/deep/imported.db")
	e.Ctl("lock", "break", "--force", "file:///st/deep/imported.db")

	// Holder, waiter and reader of a database in the store.
	holder, waiter := e.Shell(""), e.Shell("")
	for _, p := range []*harness.Process{holder, waiter} {
		p.Must(".open file:///st/deep/imported.db?vfs=verneuil_remote")
	}
	holder.Must("begin immediate; insert into t(b) values('x');")
	waiter.Ask("pragma busy_timeout=60000;")
	waiter.Send("insert into t(b) values('y');")
	e.mustSayNoName()
	holder.Must("commit;")
	holder.EndsWith(0)
	waiter.Kill()

	// Who has the keys sees names in lists, and finds databases by them.
	var paths []string
	for text := range strings.Lines(e.Ctl("ls", "--json") + e.Ctl("ls", "file:///st", "--json")) {
		var line struct{ Path string }
		harness.Must(t, json.Unmarshal([]byte(text), &line))
		paths = append(paths, line.Path)
	}
	slices.Sort(paths)
	want := []string{"/deep/imported.db", "/r.db", e.Path("a.db"), e.Path(long)}
	slices.Sort(want)
	if !slices.Equal(paths, want) {
		t.Errorf("ls lists %q, want %q", paths, want)
	}
	if got := e.Ctl("ls", "-s", e.Path("a.db"), "--hostname", harness.Hostname); strings.Count(got,
		"\n") != 2 {
		t.Errorf("ls of one: %s", got)
	}
	replica := e.Shell("")
	replica.Must(fmt.Sprintf(".open file:verneuil://%s%s?vfs=verneuil_snapshot",
		harness.Hostname, e.Path("a.db")))
	replica.Want("select count(*) from t;", "4001")
	if r := e.ctl("restore", "-s", e.Path("none.db"), "-o", e.Path("out.db")); r.Code != 1 ||
		!strings.Contains(r.Stderr, "of host "+harness.Hostname+" there is "+e.Path("a.db")) {
		t.Errorf("a database that is not there: %s", r.Stderr)
	}

	// They stay as keys come and go.
	e.Ctl("key", "rotate", e.Path("keys"))
	shell.Must("insert into t(b) values('after it');")
	shell.Flush()
	e.Ctl("gc", "--delete")
	if got := e.Ctl("ls"); strings.Count(got, "\n") != 3 {
		t.Errorf("ls after a rotation: %s", got)
	}
	e.MustEqual("a.db")
	shell.EndsWith(0)
	e.mustSayNoName()
}

// mustSayNoName: neither keys nor bodies tell a name, as it is, or escaped.
func (e *encrypted) mustSayNoName() {
	e.T.Helper()
	all := e.everything()
	if len(all) < 12 {
		e.T.Fatalf("only %d objects are there", len(all))
	}
	host, err := os.Hostname()
	harness.Must(e.T, err)
	for key, body := range all {
		for _, name := range []string{"a.db", "r.db", "deep"} { // in bytes by chance
			if strings.Contains(key, name) {
				e.T.Errorf("%s tells %q", key, name)
			}
		}
		for _, name := range []string{e.Path("a.db"), "imported.db", "long-name", secretText,
			harness.Hostname, "verneuil:", "verneuil%3A", e.Dir} {
			if strings.Contains(key, name) || bytes.Contains(body, []byte(name)) {
				e.T.Errorf("%s tells %q: %.100q", key, name, body)
			}
		}
		if len(host) > 4 && (strings.Contains(key, host) || bytes.Contains(body, []byte(host))) {
			e.T.Errorf("%s tells this machine's name %q", key, host)
		}
	}
}
