package stores_test

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"verneuil/chunkstore"
	"verneuil/chunkstore/faultproxy"
	"verneuil/test/e2e/harness"
)

// storeSQL is what the application does; ? is its journal mode.
var storeSQL = []string{
	"pragma journal_mode=?;",
	"create table t(a integer primary key, b);",
	"insert into t(b) values(printf('%.*c', 900, 'x')) returning a;",
	"!flush",
	"begin; with recursive n(i) as (select 1 union all select i+1 from n limit 60) insert into " +
		"t(b) select printf('%.*c', 3000+i, i) from n; commit;",
	"update t set b = 'one' where a = 30;",
	"!flush",
	"delete from t where a % 3 = 0;",
	"select count(*), sum(length(b)), sum(a) from t;",
	"vacuum;",
	"pragma integrity_check;",
}

// application does storeSQL on the world's database, and sees what stock SQLite shows.
func (w *storeWorld) application(shell *harness.Process) string {
	w.T.Helper()
	stock := w.host("stock")
	defer stock.End()
	harness.Must(w.T, os.RemoveAll(w.Path("stock.db")))
	stock.Must(".open " + w.Path("stock.db"))
	shell.Must(".open " + w.Path(w.db()))
	var flushes []string
	for _, sql := range storeSQL {
		if sql == "!flush" {
			flushes = append(flushes, shell.Ask("pragma verneuil_flush_replication_data;"))
			continue
		}
		sql = strings.ReplaceAll(sql, "?", w.journal)
		if want, got := stock.Ask(sql), shell.Ask(sql); got != want || shell.Stderr() != "" {
			w.T.Fatalf("%s: %q, %q; stock %q", sql, got, shell.Stderr(), want)
		}
	}
	if bytes := w.spoolBytes(); bytes > 8<<20 {
		w.T.Fatalf("spool of %d bytes", bytes)
	}
	return strings.Join(flushes, ",")
}

// storeCases are what the store's faults meet.
func storeCases() []storeCase {
	cases := []storeCase{
		writerCase(), syncCase(), flushCase(),
		readCase("restore", false, func(w *storeWorld) []string {
			return []string{"restore", "--force", "-s", w.Path(w.db()), "-o", w.Path("out.db")}
		}),
		readCase("restore of two", true, func(w *storeWorld) []string {
			return []string{"restore", "--force", "-s", w.Path(w.db()), "-o", w.Path("out.db")}
		}),
		readCase("restore at", false, func(w *storeWorld) []string {
			return []string{"restore", "--force", "-s", w.Path(w.db()), "--at",
				"2099-01-01T00:00:00Z", "-o", w.Path("out.db")}
		}),
		readCase("verify", false, func(w *storeWorld) []string {
			return []string{"verify", "-s",
				w.Path(w.db()), "--read"}
		}),
		readCase("verify all", false, func(*storeWorld) []string { return []string{"verify"} }),
		readCase("manifest", false, func(w *storeWorld) []string {
			return []string{"manifest", "-s",
				w.Path(w.db())}
		}),
		readCase("versions", false, func(w *storeWorld) []string {
			return []string{"versions", "-s",
				w.Path(w.db())}
		}),
		replicaCase("replica", false), replicaCase("replica of two", true),
		refreshCase("refresh", false), refreshCase("refresh of two", true),
	}
	for _, c := range cases {
		switch c.name { // once more, with several packs: a request is for a part of what is needed
		case "sync", "restore", "restore of two", "verify", "replica", "refresh":
			c.name, c.rows = c.name+", packs", rowsOfPacks
			c.short = c.short && c.name != "replica, packs"
			cases = append(cases, c)
		}
	}
	return cases
}

func writerCase() storeCase {
	return storeCase{
		name: "application", short: true,
		begin: func(w *storeWorld) { w.fresh(); w.shell = w.host("off") },
		act:   func(w *storeWorld) string { return w.application(w.shell) },
		after: func(w *storeWorld) {
			w.shell.Flush()
			w.descriptors(w.shell)
			w.shell.EndsWith(0)
			w.Stock(w.db(), "pragma wal_checkpoint(truncate)")
			w.MustEqual(w.db())
		},
	}
}

// rowsOfPacks fill two packs of 64 chunks, and a part of a third one.
const rowsOfPacks = 1000

// written makes the world's database, of a few chunks in one pack, or of as many rows as it says.
func (w *storeWorld) written() {
	w.T.Helper()
	w.Stock(w.db(), "create table t(a integer primary key, b)",
		fmt.Sprintf("with recursive n(i) as (select 1 union all select i+1 from n limit %d) "+
			"insert into t(b) select randomblob(9000) from n", cmp.Or(w.rows, 20)))
}

func syncCase() storeCase {
	return storeCase{
		name: "sync", short: true,
		begin: func(w *storeWorld) { w.fresh(); w.written() },
		act: func(w *storeWorld) string {
			r := w.command("sync", w.Path(w.db()))
			if r.Code == 0 {
				w.endFaults()
				w.MustEqual(w.db())
			}
			return fmt.Sprint(r.Code)
		},
		after: func(w *storeWorld) {
			w.Ctl("sync", w.Path(w.db()))
			w.MustEqual(w.db())
		},
	}
}

func flushCase() storeCase {
	return storeCase{
		name: "flush",
		begin: func(w *storeWorld) {
			w.fresh()
			forbidden := storeFault{fault: faultproxy.Fault{Status: http.StatusForbidden}}
			w.proxy.Set(storeTrial{storeFault: forbidden, at: 1, good: true}.plan)
			shell := w.host("off")
			w.application(shell)
			shell.Command.Process.Kill()
			shell.Wait()
			w.proxy.Set(nil)
		},
		act: func(w *storeWorld) string {
			r := w.command("flush", w.Path("spool"))
			if r.Code == 0 {
				w.endFaults()
				w.Stock(w.db(), "pragma wal_checkpoint(truncate)")
				w.MustEqual(w.db())
			}
			return fmt.Sprint(r.Code)
		},
		after: func(w *storeWorld) {
			w.Ctl("flush", w.Path("spool"))
			w.Stock(w.db(), "pragma wal_checkpoint(truncate)")
			w.MustEqual(w.db())
		},
	}
}

// readCase is a command that only reads: where it succeeds, with the right result.
func readCase(name string, second bool, args func(*storeWorld) []string) storeCase {
	return storeCase{
		name: name, second: second, short: name == "restore",
		begin: func(w *storeWorld) {
			if w.trials == 0 {
				w.fresh()
				w.written()
				w.Ctl("sync", w.Path(w.db()))
			}
			w.emptied("cache")
		},
		act: func(w *storeWorld) string {
			r := w.command(args(w)...)
			_, err := os.Stat(w.Path("out.db"))
			if err == nil {
				w.Same(w.Path("out.db"), w.Path(w.db()))
				harness.Must(w.T, os.Remove(w.Path("out.db")))
			}
			left, globErr := filepath.Glob(w.Path(".verneuil*"))
			if written := err == nil; globErr != nil || len(left) > 0 ||
				strings.HasPrefix(name, "restore") && written != (r.Code == 0) {
				w.T.Fatalf("exit code %d: a file: %v; left %q: %s", r.Code, written, left, r.Stderr)
			}
			if second && r.Code != 0 {
				w.T.Fatalf("the other target has it: %s", r.Stderr)
			}
			if r.Code == 0 && w.said != "" && r.Stdout != w.said[1:] {
				w.T.Fatalf("%q; when nothing fails %q", r.Stdout, w.said[1:])
			}
			return strconv.Itoa(r.Code) + r.Stdout
		},
		after: func(w *storeWorld) { w.checkCache() },
	}
}

// checkCache: no damaged chunk was kept, and nothing half written.
func (w *storeWorld) checkCache() {
	w.T.Helper()
	files, err := filepath.Glob(w.Path("cache/*/*"))
	harness.Must(w.T, err)
	for _, name := range files {
		body, err := os.ReadFile(name)
		harness.Must(w.T, err)
		id, err := chunkstore.ParseID(filepath.Base(name))
		if err == nil {
			_, err = chunkstore.OpenObject(chunkstore.Plain{}, nil, id, body)
		}
		if err != nil {
			w.T.Fatalf("%s in the cache: %v", name, err)
		}
	}
}

// replicated has a database sent, once for all trials.
func (w *storeWorld) replicated() {
	w.T.Helper()
	if w.trials == 0 {
		w.fresh()
		w.written()
		w.Stock(w.db(), "insert into t values(0, 0)")
		w.Ctl("sync", w.Path(w.db()))
	}
	w.emptied("cache")
	w.shell = w.host("error")
}

const replicaQuery = "select count(*), sum(a), sum(length(b)), " +
	"(select b from t where a = 0) from t;"

// open opens the replica, or says why it cannot.
func (w *storeWorld) open() {
	w.T.Helper()
	before := len(w.shell.Stderr())
	w.shell.Ask(".open file:verneuil://" + harness.Hostname + w.Path(w.db()) +
		"?vfs=verneuil_snapshot")
	said := w.shell.Stderr()[before:]
	if w.opened = !strings.Contains(said, "unable to open"); !w.opened {
		w.mustName(said)
	}
}

// read reads the replica: one of what is right, or an error that names what is missing.
func (w *storeWorld) read(right ...string) (ok bool) {
	w.T.Helper()
	if !w.opened {
		return false
	}
	before := len(w.shell.Stderr())
	got := w.shell.Ask(replicaQuery)
	if slices.Contains(right, got) {
		return true
	}
	said := w.shell.Stderr()[before:]
	if got != "" || !strings.Contains(said, "disk I/O error") {
		w.T.Fatalf("the replica says %q, %q; want %q", got, said, right)
	}
	w.mustName(said)
	if w.second {
		w.T.Fatalf("the other target has it: %s", said)
	}
	return false
}

// mustName: what is said names target and object.
func (w *storeWorld) mustName(said string) {
	w.T.Helper()
	named := strings.Contains(said, "chunks-"+w.name()) ||
		strings.Contains(said, "manifests-"+w.name())
	if !named || !strings.Contains(said, w.proxy.URL) {
		w.T.Fatalf("it does not name target and object: %s", said)
	}
}

// replicaCase opens a replica and reads it.
func replicaCase(name string, second bool) storeCase {
	return storeCase{
		name: name, second: second, short: !second,
		begin: func(w *storeWorld) { w.replicated() },
		act: func(w *storeWorld) string {
			old := w.Stock(w.db(), replicaQuery)
			w.open()
			return strconv.FormatBool(w.read(old) && w.read(old))
		},
		after: func(w *storeWorld) {
			old := w.Stock(w.db(), replicaQuery)
			if !w.opened {
				w.open()
			}
			if !w.read(old) {
				w.T.Fatalf("the store is well, the replica is not: %s", w.shell.Stderr())
			}
			w.descriptors(w.shell)
			w.shell.End()
			w.checkCache()
		},
	}
}

// refreshCase moves an open replica on.
func refreshCase(name string, second bool) storeCase {
	var olds sync.Map
	return storeCase{
		name: name, second: second, short: second,
		begin: func(w *storeWorld) {
			w.replicated()
			w.open()
			old := w.Stock(w.db(), replicaQuery)
			if !w.read(old) {
				w.T.Fatal(w.shell.Stderr())
			}
			olds.Store(w, old)
			w.Stock(w.db(),
				"update t set b = b + 1 where a = 0;"+
					" update t set b = randomblob(9000) where a = 13")
			w.Ctl("sync", w.Path(w.db()))
		},
		act: func(w *storeWorld) string {
			kept, _ := olds.Load(w)
			old, now := kept.(string), w.Stock(w.db(), replicaQuery)
			before := len(w.shell.Stderr())
			if w.shell.Ask("pragma verneuil_snapshot_refresh = 2;") != "" {
				return strconv.FormatBool(w.read(now))
			}
			w.mustName(w.shell.Stderr()[before:])
			if w.second || !w.read(old) {
				w.T.Fatalf("what was loaded cannot be read: %s", w.shell.Stderr())
			}
			return "not refreshed"
		},
		after: func(w *storeWorld) {
			now := w.Stock(w.db(), replicaQuery)
			w.shell.Ask("pragma verneuil_snapshot_refresh = 2;")
			if !w.read(now) {
				w.T.Fatalf("the store is well, the replica is not: %s", w.shell.Stderr())
			}
			w.descriptors(w.shell)
			w.shell.End()
			w.checkCache()
		},
	}
}
