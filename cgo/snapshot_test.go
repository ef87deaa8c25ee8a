package cgo_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"verneuil/chunkstore"
	"verneuil/chunkstore/miniotest"
	"verneuil/chunkstore/s3"
	"verneuil/manifest"
)

// filled makes a table of n rows of about 500 bytes, with an index.
func filled(n int) string {
	return fmt.Sprintf(`create table t(k integer primary key, v integer, x blob);
		create index i on t(x);
		insert into t select value, 1, randomblob(250) from generate_series(1, %d);`, n)
}

func TestReplicaShell(t *testing.T) { bothSources(t, replicaShell) }

func replicaShell(t *testing.T, source newSource) {
	s := source(t, "pragma page_size=1024;"+filled(3000))
	sh := s.shell(s.uri())
	sh.want("select count(*), min(v), max(v) from t", `3000\|1\|1`)
	sh.want("pragma integrity_check", "ok")
	for _, write := range []string{
		"insert into t values(0,0,0)", "update t set v=2", "delete from t", "create table u(x)",
		"begin immediate; insert into t values(0,0,0); rollback",
		"begin exclusive; delete from t; rollback", "vacuum", "reindex",
	} {
		sh.want(write, `.*attempt to write a readonly database.*`)
		sh.run("rollback")
	}
	s.exec("update t set v=2; create table u(y); insert into u values(7)")
	sh.want("select max(v) from t", "1")
	// The source's clock says 2023; that of a database in a store is ours.
	ctime, sequence, age := `1600000000\.000000005`, "2", "> 1e7"
	if s.remote {
		ctime, sequence, age = `1[789]\d{8}\.\d{9}`, `\d+`, "between 0 and 600"
	}
	sh.want("pragma verneuil_snapshot_ctime", ctime)
	before := sh.run("pragma verneuil_snapshot_updated")
	sh.want("pragma verneuil_snapshot_refresh = 0", regexp.QuoteMeta(before))
	sh.want("select max(v) from t", "1")
	after := sh.run("pragma verneuil_snapshot_refresh = 2")
	if after <= before || !regexp.MustCompile(`^\d{10}\.\d{9}$`).MatchString(after) {
		t.Errorf("refreshed %s after %s", after, before)
	}
	sh.want("pragma verneuil_snapshot_updated", regexp.QuoteMeta(after))
	sh.want("select min(v), max(v), y from t, u", `2\|2\|7`)
	sh.want("pragma integrity_check", "ok")
	sh.want("select json_extract(verneuil_status(), '$.replicas[0].sequence')", sequence)
	sh.want(`select json_extract(s, '$.api_calls') > 2,
			json_extract(r, '$.source_age_seconds') `+age+`,
			json_extract(r, '$.fetch_age_seconds') between 0 and 600,
			json_extract(r, '$.bytes_fetched') > 65536
		from (select s, json_extract(s, '$.replicas[0]') r from (select verneuil_status() s))`,
		`1\|1\|1\|1`)
}

func TestReplicaPragmas(t *testing.T) { bothSources(t, replicaPragmas) }

func replicaPragmas(t *testing.T, source newSource) {
	s := source(t, filled(10))
	sh := s.shell(s.uri())
	sequence := 1
	next := func() string {
		sequence++
		s.exec(fmt.Sprintf("update t set v=%d", sequence))
		return fmt.Sprint(sequence)
	}
	value := "select max(v) from t"
	for _, arg := range []string{"=1", "=true", "(on)", "=force", "='Forced'", "=2", "=yes"} {
		want := next()
		sh.want("PRAGMA Verneuil_Snapshot_Refresh"+arg, `\d+\.\d+`)
		sh.want(value, want)
	}
	old := fmt.Sprint(sequence)
	want := next()
	for _, arg := range []string{"", "=0", "=false", "=off", "=no", "(OFF)"} {
		sh.want("pragma verneuil_snapshot_refresh"+arg, `\d+\.\d+`)
		sh.want(value, old)
	}
	for sh.run("pragma verneuil_snapshot_async_reload") != "1" {
		// until the fetch that it asks for has ended
	}
	sh.want(value, want)

	// A read transaction stays at its version.
	sh.run("begin")
	sh.want(value, want)
	next()
	sh.want("pragma verneuil_snapshot_refresh=2", ".*read transaction is open.*")
	sh.want("pragma verneuil_snapshot_async_reload", "0")
	sh.want(value, want)
	sh.run("commit")

	sh.want("pragma verneuil_snapshot_auto_refresh", "0")
	sh.want("pragma verneuil_snapshot_auto_refresh=1", "0")
	sh.want("pragma verneuil_snapshot_auto_refresh", "1")
	for range 3 {
		want := next()
		for sh.run(value) != want {
		}
	}
	sh.want("pragma verneuil_snapshot_auto_refresh=off", "1")
	sh.want("pragma verneuil_snapshot_nonsense", "")

	// What SQLite takes for no boolean is none, and changes nothing.
	for _, arg := range []string{"maybe", "3", "foo", "nonsense"} {
		sh.want("pragma verneuil_snapshot_refresh="+arg, `.*"`+arg+`" is not a boolean.*`)
		sh.want("pragma verneuil_snapshot_auto_refresh="+arg, `.*"`+arg+`" is not a boolean.*`)
	}
	sh.want("pragma verneuil_snapshot_auto_refresh", "0")
	sh.want(".vfsname", "verneuil_snapshot")
}

// The header shown is a rollback-mode one, and SQLite drops its page cache when
// the version changes, although a WAL database's counter may stay.
func TestReplicaOfWAL(t *testing.T) { bothSources(t, replicaOfWAL) }

func replicaOfWAL(t *testing.T, source newSource) {
	s := source(t, "pragma journal_mode=wal;"+filled(100))
	sh := s.shell(s.uri())
	sh.want("pragma journal_mode", "delete")
	for i := 2; i < 5; i++ {
		s.exec(fmt.Sprintf("pragma journal_mode=wal; update t set v=%d", i))
		sh.want("pragma verneuil_snapshot_refresh=2", `\d+\.\d+`)
		sh.want("select min(v), max(v) from t", fmt.Sprintf(`%d\|%d`, i, i))
		sh.want("pragma integrity_check", "ok")
	}
}

func TestReplicaForms(t *testing.T) {
	s := newReplicaSource(t, filled(500))
	file := filepath.Join(t.TempDir(), "a manifest%20.bin")
	raw, err := s.manifest().Encode(chunkstore.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	escaped := strings.NewReplacer("%", "%25", " ", "%20").Replace(file)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/a%20manifest?version=1" {
			http.NotFound(w, r)
			return
		}
		w.Write(raw)
	}))
	defer web.Close()
	bucket, err := chunkstore.Open(t.Context(), []chunkstore.TargetConfig{&s3.Config{
		Region: "us-east-1", Endpoint: miniotest.Start(t),
		ChunkBucket: "chunks", ManifestBucket: "manifests", CreateBucketsOnDemand: true,
	}}, chunkstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	name := manifest.PlainName("source", "/source.db") // it has percent signs
	manifests := bucket.Targets[0].Manifests
	if _, err := manifests.Put(t.Context(), name, raw, chunkstore.Condition{}); err != nil {
		t.Fatal(err)
	}
	server := strings.TrimPrefix(manifests.String(), "s3 bucket manifests at http://")
	s3 := "s3://manifests.us-east-1." + server + "/" + name
	for _, uri := range []string{
		"file:" + strings.ReplaceAll(s3, "%", "%25") + "?vfs=verneuil_snapshot",
		"file:" + web.URL + "/a%2520manifest%3fversion=1?vfs=verneuil_snapshot&mode=ro",
		"file:verneuil:///source.db?vfs=verneuil_snapshot",
		"file:verneuil://source/sourc%65.db?vfs=verneuil_snapshot&mode=ro",
		"file:" + escaped + "?vfs=verneuil_snapshot",
		"file:file://" + escaped + "?vfs=verneuil_snapshot&mode=ro",
	} {
		sh := s.shell(uri)
		sh.want("select count(*) from t", "500")
		sh.want("insert into t values(0,0,0)", ".*readonly.*")
	}
	sh := s.shell(replicaURI + "&immutable=1")
	sh.want("select count(*) from t", "500")
	s.exec("delete from t")
	sh.want("pragma verneuil_snapshot_refresh=2", ".*immutable.*")
	sh.want("select count(*) from t", "500")

	for _, bad := range []string{
		"file:verneuil://source/other.db?vfs=verneuil_snapshot",
		"file:" + escaped + ".none?vfs=verneuil_snapshot",
		"file:" + s.db + "?vfs=verneuil_snapshot",
		"file:ftp://x/y?vfs=verneuil_snapshot",
	} {
		sh := s.shell(":memory:")
		sh.want(".open "+bad, ".*unable to open.*")
	}
}

// A replica that is opened with auto refresh follows its source without a pragma; who says
// so: the URI, or else the replica file, or else the configuration.
func TestReplicaAutoRefresh(t *testing.T) { bothSources(t, replicaAutoRefresh) }

func replicaAutoRefresh(t *testing.T, source newSource) {
	const auto = "pragma verneuil_snapshot_auto_refresh"
	s := source(t, filled(10))
	file := filepath.Join(t.TempDir(), "replica.db")
	write := func(auto string) {
		text := "verneuil replica\nsource " + s.name() + "\n" + auto
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		config           bool
		line, uri, wants string
	}{
		{false, "", s.uri(), "0"},
		{true, "", s.uri(), "1"},
		{false, "", s.uri() + "&auto_refresh=1", "1"},
		{true, "", s.uri() + "&auto_refresh=0", "0"},
		{true, "", s.uri() + "&immutable=1", "0"},
		{false, "", "file:" + file + "?vfs=verneuil_snapshot", "0"},
		{false, "auto_refresh 1\n", "file:" + file + "?vfs=verneuil_snapshot", "1"},
		{true, "auto_refresh 0\n", "file:" + file + "?vfs=verneuil_snapshot", "0"},
		{
			false, "auto_refresh 1\n",
			"file:" + file + "?vfs=verneuil_snapshot&auto_refresh=off", "0",
		},
	} {
		if s.remote && strings.HasPrefix(c.uri, "file:"+file) {
			continue // a replica file names a host's database
		}
		write(c.line)
		s.settings = map[string]any{"snapshot_auto_refresh": c.config}
		sh := s.shell(c.uri)
		sh.want(auto, c.wants)
		sh.want("select count(*) from t", "10")
	}
	sh := s.shell(s.uri() + "&auto_refresh=1")
	for i := range 3 {
		s.exec(fmt.Sprintf("update t set v=%d", 100+i))
		for sh.run("select max(v) from t") != fmt.Sprint(100+i) {
		}
	}
	sh.want(".open "+s.uri()+"&auto_refresh=1&immutable=1",
		".*auto_refresh=1 excludes immutable=1.*unable to open.*")
}

// A replica file opens as a replica by its path alone, through the default VFS, if the
// configuration allows it; without that it is no database to anybody.
func TestReplicaFileByPath(t *testing.T) {
	s := newReplicaSource(t, filled(10))
	dir := t.TempDir()
	file := filepath.Join(dir, "replica.db")
	const text = "verneuil replica\nsource verneuil://source/source.db\nauto_refresh 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.settings = map[string]any{"make_default": true}
	s.shell(file).want("select count(*) from t", ".*file is not a database.*")
	for _, spools := range []bool{false, true} {
		s.settings = map[string]any{"make_default": true, "replica_files": true}
		if spools {
			s.settings["replication_spooling_dir"] = filepath.Join(dir, "spool")
		}
		sh := s.shell(file)
		sh.want("select count(*) from t", "10")
		sh.want(".vfsname", "verneuil_snapshot")
		sh.want("insert into t values(0,0,0)", ".*readonly.*")
		sh.want("begin; select count(*) from t; commit", "10")
		sh.want("vacuum into '"+filepath.Join(dir, fmt.Sprint("copy", spools))+"'", "")
		other := filepath.Join(dir, fmt.Sprint("other", spools))
		sh.want("attach '"+other+"' as other; create table other.t as select * from main.t;"+
			" select count(*) from other.t", "10")
		s.exec("insert into t(v) values(1)")
		for sh.run("select count(*) from main.t") != "11" {
		}
		s.exec("delete from t where k=11")
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "replica.db-") {
				t.Errorf("%s was made", e.Name())
			}
		}
		text, _ := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(text), "verneuil replica\n") {
			t.Errorf("the replica file holds %q, %v", text, err)
		}
	}
	const elsewhere = "verneuil replica\nsource http://127.0.0.1:1/a\n"
	if err := os.WriteFile(file, []byte(elsewhere), 0o600); err != nil {
		t.Fatal(err)
	}
	s.shell(":memory:").want(".open "+file,
		".*replica.db.*source verneuil://HOST/PATH.*unable to open.*")
}

// A file that is too short to be a database is to a replica what it is to SQLite.
func TestReplicaOfAStub(t *testing.T) {
	for n := range 4 {
		s := newReplicaSource(t, "create table t(a)")
		if err := os.WriteFile(s.db, []byte("abc")[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		const query = "select count(*) from sqlite_schema"
		out, err := osexec.Command("sqlite3", "-batch", "-readonly", s.db, query).CombinedOutput()
		stock := strings.TrimSpace(string(out))
		if err != nil && !strings.Contains(stock, "file is not a database") {
			t.Fatalf("%d bytes: stock: %v: %s", n, err, stock)
		} else if err != nil {
			stock = ".*file is not a database.*"
		}
		s.publish()
		s.shell(replicaURI).want(query, stock)
	}
}

// A replica's schema is parsed anew when another file stands at the source's path, also if
// that has seen as many changes of its schema; not for each version of one file.
func TestReplicaSchemaOfAnotherFile(t *testing.T) {
	const rows = "with recursive n(i) as (select 1 union all select i+1 from n where i<%d)" +
		" insert into t select i, '%s'||i from n;"
	build := func(n int, tag string) string {
		return fmt.Sprintf("create table t(a integer primary key, b);"+rows+
			"create table u(c); insert into u values('%[2]s'); create index i on t(b)", n, tag)
	}
	s := newReplicaSource(t, build(2000, "old"))
	s.continuity = 7
	s.publish()
	sh := s.shell(replicaURI)
	sh.want("select c from u", "old")
	cookie := sh.run("pragma schema_version")
	s.exec("insert into u values('more')")
	sh.want("pragma verneuil_snapshot_refresh=2", ".*")
	sh.want("pragma schema_version", cookie)
	sh.want("select group_concat(c) from u", "old,more")
	for k, n := range []int{2500, 20} {
		if err := os.Remove(s.db); err != nil {
			t.Fatal(err)
		}
		s.continuity++
		s.exec(build(n, "new"))
		sh.want("pragma verneuil_snapshot_refresh=2", ".*")
		sh.want("select c from u", "new")
		sh.want("select count(*), (select b from t indexed by i where b='new5') from t",
			fmt.Sprintf(`%d\|new5`, n))
		sh.want("pragma integrity_check", "ok")
		if same := sh.run("pragma schema_version"); same == cookie {
			t.Errorf("file %d shows the schema cookie of the first", k)
		}
	}
}

// A replica's connection can attach ordinary files, and copy itself into one.
func TestReplicaVacuumInto(t *testing.T) { bothSources(t, replicaVacuumInto) }

func replicaVacuumInto(t *testing.T, source newSource) {
	s := source(t, filled(500))
	sh := s.shell(s.uri())
	out := filepath.Join(t.TempDir(), "copy.db")
	sh.want(fmt.Sprintf("vacuum into '%s'", out), "")
	sh.want(fmt.Sprintf("attach '%s' as copy", out), "")
	sh.want("select count(*) from (select * from t except select * from copy.t)", "0")
	sh.want("insert into copy.t values(0,0,0); select count(*) from copy.t", "501")
	sh.want("create temp table big as select * from t; select count(*) from big", "500")
	const look = "pragma integrity_check; select count(*) from t"
	plain, err := osexec.Command("sqlite3", out, look).CombinedOutput()
	if err != nil || string(plain) != "ok\n501\n" {
		t.Errorf("the copy: %v, %s", err, plain)
	}
}

// A chunk that is not there is an error of the statement that needs it, and named.
func TestReplicaLostChunk(t *testing.T) { bothSources(t, replicaLostChunk) }

func replicaLostChunk(t *testing.T, source newSource) {
	s := source(t, filled(2000))
	sh := s.shell(s.uri())
	sh.want("select count(*) from sqlite_schema", "2")
	hidden := s.dir + "/chunks.hidden"
	if err := os.Rename(s.dir+"/chunks", hidden); err != nil {
		t.Fatal(err)
	}
	sh.want("select sum(length(x)) from t",
		`.*version \d+ of `+s.name()+`: chunk \d+.*not found.*disk I/O error.*`)
	if err := os.Rename(hidden, s.dir+"/chunks"); err != nil {
		t.Fatal(err)
	}
	sh.want("select sum(length(x)) from t", "500000")
}
