"""A database in a store, beside a stock one that gets the same statements.

Usage: remotesql.py LIBRARY STORE DIRECTORY CASE SEED, with STORE in VERNEUIL_CONFIG. DIRECTORY is
for local databases, and names what is made in the store. CASE is one of the functions below that
are called case_…. Prints "ok", or what went wrong.
"""

import contextlib
import json
import os
import random
import sqlite3
import sys
import threading

LIBRARY, STORE, DIRECTORY, CASE, SEED = sys.argv[1:6]
RANDOM = random.Random(int(SEED))
JOURNALS = ["delete", "truncate", "persist", "memory", "off", "wal"]
names = iter(range(1_000_000))


def load():
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    db.load_extension(LIBRARY)
    return db


def uri(name, more=""):
    return f"file:///{STORE}{DIRECTORY}/{name}?vfs=verneuil_remote{more}"


def new_name():
    return f"{CASE}{next(names)}.db"


def remote(name, more="", timeout=60):
    return sqlite3.connect(uri(name, more), uri=True, timeout=timeout, isolation_level=None,
                           check_same_thread=False)


def local(name, timeout=60):
    return sqlite3.connect(os.path.join(DIRECTORY, name), timeout=timeout, isolation_level=None,
                           uri=True)


def one(db, sql, *args):
    return db.execute(sql, args).fetchone()[0]


def want(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {got!r}, want {wanted!r}")


def fails(what, kind, text, run):
    try:
        run()
    except kind as e:
        if text not in str(e):
            raise AssertionError(f"{what}: fails with {e!r}, want {text!r}") from e
        return
    raise AssertionError(f"{what}: does not fail")


def version(name):
    """The number of the version of a database that is open."""
    status = json.loads(one(loader, "select verneuil_status()"))
    return [d["version"] for d in status["remotes"] if d["path"] == f"{DIRECTORY}/{name}"]


def content(db, schema="main"):
    """All that a database has."""
    want("integrity_check", db.execute(f"pragma {schema}.integrity_check").fetchall(), [("ok",)])
    master = db.execute(f"select type, name, tbl_name, sql from {schema}.sqlite_master order by 1, 2").fetchall()
    rows = {name: db.execute(f'select rowid, * from {schema}."{name}" order by rowid').fetchall()
            for kind, name, _, _ in master if kind == "table"}
    settings = [one(db, f"pragma {schema}.{p}") for p in
                ("page_size", "auto_vacuum", "user_version", "application_id", "encoding")]
    return master, rows, settings


class Both:
    """A remote database and a stock one; each statement must have the same outcome."""

    def __init__(self, name):
        self.name = name
        self.remote, self.stock = remote(name), local(name)
        self.said = []

    def outcome(self, db, sql, args):
        try:
            return db.execute(sql, args).fetchall()
        except sqlite3.Error as e:
            return repr(e)

    def run(self, sql, *args):
        a, b = self.outcome(self.remote, sql, args), self.outcome(self.stock, sql, args)
        self.said.append(f"{sql} {str(args)[:40]}")
        if a != b:
            raise AssertionError(f"{self.name}: {sql}: {str(a)[:300]}, stock has {str(b)[:300]}\n" + "\n".join(self.said[-30:]))
        return a

    def compare(self):
        want(f"{self.name}: the content", content(self.remote), content(self.stock))
        if self.remote.in_transaction or one(self.remote, "pragma locking_mode") == "exclusive":
            return
        with contextlib.closing(remote(self.name)) as other:
            want(f"{self.name}: what another connection reads", content(other), content(self.stock))

    def close(self):
        self.remote.close()
        self.stock.close()


def blob(n):
    return RANDOM.randbytes(n)


def statement(both, may_roll_back):
    """One random statement of a workload."""
    n = RANDOM.randrange(100)
    key = RANDOM.randrange(200)
    inside = both.remote.in_transaction
    if n < 25:
        both.run("insert or replace into t values(?, ?, ?)", key, str(key * 7), blob(RANDOM.choice((0, 10, 300, 5000))))
    elif n < 30:
        both.run("insert or replace into t values(?, ?, ?)", key, "large", blob(RANDOM.choice((70_000, 300_000))))
    elif n < 40:
        both.run("update t set b = b || '!' where a between ? and ?", key, key + 20)
    elif n < 50:
        both.run("delete from t where a between ? and ?", key, key + RANDOM.randrange(60))
    elif n < 55 and may_roll_back:
        both.run("insert into t values(?, 'x', null), (?, 'y', null), (1000000, 'z', null)", key + 1000, key + 1000)
    elif n < 60:
        both.run("begin" + RANDOM.choice((" immediate", " exclusive", "")) if not inside else "commit")
    elif n < 65 and (may_roll_back or not inside):
        both.run("rollback" if inside else "begin")
    elif n < 70:
        both.run("savepoint s" if RANDOM.random() < .5 else "release s")
    elif n < 73 and may_roll_back:
        both.run("rollback to s")
    elif n < 76:
        both.run(f"create table if not exists u{key % 3}(x, y)")
    elif n < 78:
        both.run(f"drop table if exists u{key % 3}")
    elif n < 81:
        both.run(f"create index if not exists i{key % 3} on t(b, a)" if RANDOM.random() < .6 else f"drop index if exists i{key % 3}")
    elif n < 84:
        both.run("vacuum")
    elif n < 86:
        both.run("pragma incremental_vacuum(3)")
    elif n < 88:
        both.run(f"pragma user_version={key}")
    elif n < 90:
        both.run("create temp table if not exists v(x)")
        both.run("insert into temp.v select a from t limit 50")
    elif n < 92:
        both.run("pragma wal_checkpoint(" + RANDOM.choice(("passive", "truncate", "restart")) + ")")
    elif n < 94:
        both.run("reindex" if RANDOM.random() < .5 else "analyze")
    else:
        both.run("select count(*), sum(length(c)), group_concat(b) from t where a > ?", key)
    if RANDOM.randrange(12) == 0 and not both.remote.in_transaction:
        both.compare()


def settings(both, journal):
    both.run(f"pragma page_size={RANDOM.choice((512, 1024, 2048, 4096, 8192, 16384, 32768, 65536))}")
    both.run(f"pragma auto_vacuum={RANDOM.choice(('none', 'full', 'incremental'))}")
    exclusive = journal == "wal" or RANDOM.random() < .3
    both.run(f"pragma locking_mode={'exclusive' if exclusive else 'normal'}")
    both.run(f"pragma journal_mode={journal}")
    both.run(f"pragma synchronous={RANDOM.choice(('off', 'normal', 'full', 'extra'))}")
    both.run(f"pragma cache_size={RANDOM.choice((2, 10, 2000))}")
    both.run("create table t(a integer primary key, b text, c blob)")


def case_workloads():
    """Random statements in every journal mode."""
    for journal in JOURNALS:
        for _ in range(4):
            both = Both(new_name())
            settings(both, journal)
            for k in range(60):
                statement(both, journal != "off")
                if k % 20 == 19 and not both.remote.in_transaction and RANDOM.random() < .5:
                    both.run(f"pragma page_size={RANDOM.choice((512, 4096, 65536))}")
                    both.run("vacuum")
            if both.remote.in_transaction:
                both.run("commit")
            both.compare()
            both.close()
            both.remote, both.stock = remote(both.name), local(both.name)
            both.compare()
            both.close()


def case_journals():
    """journal_mode and locking_mode, there and back."""
    name = new_name()
    db = remote(name)
    want("wal without locking_mode=exclusive", one(db, "pragma journal_mode=wal"), "delete")
    db.execute("pragma locking_mode=exclusive")
    want("wal", one(db, "pragma journal_mode=wal"), "wal")
    db.execute("create table t(a, b)")
    for k in range(30):
        db.execute("insert into t values(?, ?)", (k, blob(3000)))
    db.execute("begin")
    db.execute("update t set b=1")
    db.execute("rollback")
    want("checkpoint", db.execute("pragma wal_checkpoint(truncate)").fetchone()[0], 0)
    db.execute("insert into t values(30, null)")
    with contextlib.closing(remote(name, "&mode=ro")) as other:
        want("what another connection reads beside it", one(other, "select count(*) from t"), 31)
    other = remote(name, timeout=0)
    fails("a second writer", sqlite3.OperationalError, "locked", lambda: other.execute("begin immediate"))
    want("back", one(db, "pragma journal_mode=delete"), "delete")
    db.execute("pragma locking_mode=normal")
    want("rows", one(db, "select count(*) from t"), 31)
    other.execute("insert into t values(31, null)")
    want("rows then", content(db), content(other))
    db.execute("insert into t values(32, null)")
    db.close()
    want("rows in the end", one(other, "select count(*) from t"), 33)
    other.close()


def case_attach():
    """Transactions over several databases."""
    a, b, path = new_name(), new_name(), new_name()
    db = remote(a)
    db.execute("attach ? as b", (uri(b),))
    for schema in ("main", "b"):
        db.execute(f"create table {schema}.t(x)")
    with_two = "begin; insert into main.t values(1); insert into b.t values(1); commit"
    db.executescript(with_two)
    want("both", (one(db, "select count(*) from main.t"), one(db, "select count(*) from b.t")), (1, 1))
    db.executescript(with_two.replace("commit", "rollback"))
    want("neither", (one(db, "select count(*) from main.t"), one(db, "select count(*) from b.t")), (1, 1))
    # a database that cannot commit: another connection reads the local one
    db.execute("attach ? as c", (os.path.join(DIRECTORY, path),))
    db.execute("create table c.t(x)")
    fails("remote main and local", sqlite3.OperationalError, "unable to open database file",
          lambda: db.executescript("begin; insert into main.t values(2); insert into c.t values(2); commit"))
    if db.in_transaction:
        db.execute("rollback")
    want("neither of these", (one(db, "select count(*) from main.t"), one(db, "select count(*) from c.t")), (1, 0))
    db.execute("insert into c.t values(3)")
    db.execute("insert into main.t values(3)")
    db.close()
    db = local(path)
    db.execute("attach ? as r", (uri(a),))
    db.execute("attach ? as q", (uri(b),))
    db.executescript("begin; insert into main.t values(4); insert into r.t values(4); insert into q.t values(4); commit")
    want("local main", content(db)[1]["t"], [(1, 3), (2, 4)])
    reader = local(path, timeout=0)
    reader.execute("begin")
    one(reader, "select count(*) from t")
    db.execute("pragma busy_timeout=0")
    # the local database's EXCLUSIVE lock comes first, and fails: nothing of the others is committed
    fails("a transaction that cannot commit", sqlite3.OperationalError, "locked",
          lambda: db.executescript("begin; insert into r.t values(5); insert into main.t values(5); commit"))
    db.execute("rollback")
    reader.close()
    want("remote", content(db, "r")[1]["t"], [(1, 1), (2, 3), (3, 4)])
    db.close()
    for name, rows in ((a, 3), (b, 2)):
        db = remote(name)
        want(name, len(content(db)[1]["t"]), rows)
        db.close()


def case_copies():
    """VACUUM INTO, the backup API and serialize, to a store and from it."""
    both = Both(new_name())
    both.run("create table t(a integer primary key, b text, c blob)")
    for k in range(300):
        both.run("insert into t values(?, ?, ?)", k, str(k), blob(2000))
    whole = content(both.stock)
    into = new_name()
    both.stock.execute("vacuum into ?", (uri(into),))
    want("VACUUM INTO a store", content(remote(into)), whole)
    fails("VACUUM INTO what is there", sqlite3.OperationalError, "already exists",
          lambda: both.stock.execute("vacuum into ?", (uri(into),)))
    path = os.path.join(DIRECTORY, new_name())
    both.remote.execute("vacuum into ?", (path,))
    want("VACUUM INTO a file", content(sqlite3.connect(path)), whole)
    into = new_name()
    both.remote.execute("vacuum into ?", (uri(into),))
    want("VACUUM INTO the same store", content(remote(into)), whole)
    for size in (512, 4096, 65536):
        source = local(new_name())
        source.execute(f"pragma page_size={size}")
        source.executescript("create table t(a integer primary key, b); with recursive s(k) as (select 0 union all select k+1 from s where k<500) insert into t select k, hex(zeroblob(k)) from s")
        for pages in (-1, 7):
            name = new_name()
            to = remote(name)
            if RANDOM.random() < .5:
                to.execute("create table gone(x)")
            source.backup(to, pages=pages)
            want(f"backup of {size}", content(to)[:2], content(source)[:2])
            back = sqlite3.connect(":memory:")
            to.backup(back, pages=pages)
            want(f"backup back of {size}", content(back)[:2], content(source)[:2])
            to.close()
            to = remote(name)
            want(f"backup of {size}, opened anew", content(to)[:2], content(source)[:2])
            to.close()
    if hasattr(both.remote, "serialize"):
        memory = sqlite3.connect(":memory:")
        memory.deserialize(both.remote.serialize())
        want("deserialize", content(memory), whole)
        to = remote(new_name())
        to.deserialize(both.stock.serialize())
        want("deserialize over a remote one", content(to), whole)
        to.close()
    both.close()


def case_spill():
    """A transaction that does not fit into memory."""
    both = Both(new_name())
    both.run("pragma cache_size=20")
    both.run("create table t(a integer primary key, b blob)")
    both.run("begin")
    piece = blob(1 << 20)
    for k in range(100):
        both.run("insert into t values(?, ?)", k, piece[k:] + piece[:k])
    both.run("savepoint s")
    both.run("delete from t where a % 3 = 0")
    both.run("rollback to s")
    both.run("update t set b = substr(b, 5) where a % 10 = 0")
    both.run("select count(*), sum(length(b)), max(hex(substr(b, 1000, 20))) from t")
    both.run("commit")
    both.compare()
    both.run("delete from t where a % 5 = 0")  # free pages, which no journal has
    before = version(both.name)
    both.run("begin")
    both.run("update t set b = zeroblob(100000)")
    both.run("insert into t select a + 1000, zeroblob(20000) from t")
    both.run("rollback")
    want("the version after a rollback", version(both.name), before)
    both.compare()
    both.run("delete from t where a > 5")
    both.run("vacuum")
    both.compare()
    both.close()


def case_locks():
    """Conflicts between connections."""
    name = new_name()
    a, b = remote(name, timeout=0), remote(name, timeout=0)
    a.execute("create table t(x)")
    a.execute("begin immediate")
    a.execute("insert into t values(1)")
    want("a reader beside the writer", one(b, "select count(*) from t"), 0)
    fails("a second writer", sqlite3.OperationalError, "locked", lambda: b.execute("begin immediate"))
    b.execute("begin")
    want("a snapshot", one(b, "select count(*) from t"), 0)
    a.execute("commit")
    want("the same snapshot", one(b, "select count(*) from t"), 0)
    b.execute("pragma busy_timeout=3600000")  # it must not wait: no time makes an old snapshot new
    fails("a snapshot that is too old", sqlite3.OperationalError, "locked",
          lambda: b.execute("insert into t values(2)"))
    b.execute("rollback")
    b.execute("insert into t values(2)")
    want("then", one(a, "select count(*) from t"), 2)
    a.execute("begin immediate")
    timer = threading.Timer(.3, lambda: a.execute("commit"))
    timer.start()
    b.execute("insert into t values(3)")  # waits for it
    timer.join()
    want("in the end", one(a, "select count(*) from t"), 3)
    reading = remote(name, "&mode=ro")
    want("mode=ro", one(reading, "select count(*) from t"), 3)
    fails("a write to mode=ro", sqlite3.OperationalError, "readonly",
          lambda: reading.execute("insert into t values(4)"))
    fails("mode=rw of what is not there", sqlite3.OperationalError, "unable to open",
          lambda: remote(new_name(), "&mode=rw"))
    pinned = remote(name, "&immutable=1")
    want("immutable", one(pinned, "select count(*) from t"), 3)
    b.execute("insert into t values(4)")
    want("immutable still", one(pinned, "select count(*) from t"), 3)
    for db in (a, b, reading, pinned):
        db.close()


def case_threads():
    """Threads with a connection each write and read at once; every statement that had no error is
    there in the end."""
    name = new_name()
    db = remote(name)
    db.execute("create table t(thread, k, primary key(thread, k))")
    wrong = []

    def work(thread):
        try:
            mine = remote(name)
            for k in range(25):
                mine.execute("begin immediate")
                mine.execute("insert into t values(?, ?)", (thread, k))
                mine.execute("commit")
                want("its own rows", one(mine, "select count(*) from t where thread=?", thread), k + 1)
            mine.close()
        except Exception as e:
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    want("errors", wrong, [])
    want("rows", one(db, "select count(*) from t"), 200)
    want("release", one(db, "pragma verneuil_remote_release"), "ok")
    want("integrity_check", one(db, "pragma integrity_check"), "ok")
    db.close()


def case_names():
    """Names, and files that are not in a store."""
    db = sqlite3.connect(f"file:///{STORE}//.{DIRECTORY}/x/../{new_name()}?vfs=verneuil_remote", uri=True)
    db.execute("create table t(x)")
    db.close()
    same = remote(f"{CASE}0.db", "&mode=rw")
    want("the same database", one(same, "select count(*) from t"), 0)
    same.close()
    fails("out of the store", sqlite3.OperationalError, "unable to open",
          lambda: sqlite3.connect(f"file:///{STORE}/../etc/x.db?vfs=verneuil_remote", uri=True))
    fails("no such store", sqlite3.OperationalError, "unable to open",
          lambda: sqlite3.connect("file:///nowhere/x.db?vfs=verneuil_remote", uri=True))
    db = remote(new_name())
    path = os.path.join(DIRECTORY, new_name())
    db.execute("attach ? as l", (path,))
    db.execute("create table l.t(x)")
    db.execute("insert into l.t values(1)")
    db.execute("detach l")
    want("a local file", one(sqlite3.connect(path), "select count(*) from t"), 1)
    db.execute("create temp table t(x)")
    db.execute("pragma temp_store=file")
    db.execute("with recursive s(k) as (select 0 union all select k+1 from s where k<20000) select count(*) from (select k from s order by hex(k), k)")
    want("refresh", one(db, "pragma verneuil_remote_refresh"), "ok")
    want("release", one(db, "pragma verneuil_remote_release"), "ok")
    db.execute("create table main.u(x)")
    db.execute("begin immediate")
    fails("release within a transaction", sqlite3.OperationalError, "transaction is open",
          lambda: db.execute("pragma verneuil_remote_release"))
    db.execute("commit")
    db.close()


def case_forked():
    """A child cannot use what its parent opened; the error says so."""
    name = new_name()
    db = remote(name)
    db.execute("create table t(x)")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fails("a read in a child", sqlite3.OperationalError, "disk I/O error", lambda: db.execute("select * from t").fetchall())
            fails("a write in a child", sqlite3.OperationalError, "disk I/O error", lambda: db.execute("insert into t values(1)"))
            db.close()
            code = 0
        finally:
            os._exit(code)
    want("the child", os.waitpid(pid, 0)[1], 0)
    db.execute("insert into t values(1)")
    want("the parent", one(db, "select count(*) from t"), 1)
    db.close()


def case_interrupted():
    """An interrupt ends what waits, and what computes."""
    name = new_name()
    db, other = remote(name), remote(name)
    db.execute("create table t(x)")
    timer = threading.Timer(.2, db.interrupt)
    timer.start()
    fails("a statement", sqlite3.OperationalError, "interrupted",
          lambda: db.execute("with recursive s(k) as (select 0 union all select k+1 from s) insert into t select k from s limit 1000000000"))
    timer.join()
    want("rolled back", one(db, "select count(*) from t"), 0)
    want("no transaction", db.in_transaction, False)
    db.execute("insert into t values(1)")
    want("then", one(other, "select count(*) from t"), 1)
    db.close()
    other.close()


def case_unsynced():
    """At synchronous=OFF what COMMIT has answered is seen in this process at once, and by others
    soon."""
    name = new_name()
    db, other = remote(name), remote(name)
    db.execute("pragma synchronous=off")
    db.execute("create table t(x)")
    for k in range(50):
        db.execute("insert into t values(?)", (k,))
        want("another connection", one(other, "select count(*) from t"), k + 1)
    db.close()
    with contextlib.closing(remote(name)) as again:
        want("opened anew", one(again, "select count(*) from t"), 50)
    other.execute("pragma synchronous=off")
    writers = [remote(name) for _ in range(4)]
    for k in range(100):
        db = writers[k % 4]
        db.execute("pragma synchronous=off")
        db.execute("insert into t values(1)")
    for db in writers:
        want("all", one(db, "select count(*) from t"), 150)
        db.close()
    other.close()


def case_keptlock():
    """A connection keeps its lock of an attached database (locking_mode=exclusive), and rolls back
    again and again; what another one commits meanwhile is there."""
    name = new_name()
    writer = remote(name)
    writer.execute("create table t(x)")
    writer.execute("create table large(x)")
    writer.execute("with recursive n(i) as (select 1 union all select i+1 from n where i<6000) "
                   "insert into large select randomblob(3000) from n")
    keeper = sqlite3.connect("file::memory:", uri=True, timeout=60, isolation_level=None)
    keeper.execute("attach ? as x", (uri(name),))
    keeper.execute("pragma x.cache_size=100000")
    keeper.execute("pragma x.cache_spill=off")
    one(keeper, "select count(*) from x.t")
    keeper.execute("pragma locking_mode=exclusive")
    keeper.execute("insert into x.t values(0)")
    keeper.execute("pragma x.journal_mode=off")  # closes the journal
    keeper.execute("pragma x.journal_mode=delete")
    writer.execute("begin immediate")
    writer.execute("insert into t values(0)")
    keeper.execute("begin")
    keeper.execute("update x.large set x=zeroblob(3000)")  # opens it again
    writer.execute("commit")
    keeper.execute("rollback")
    committed, ended = 2, threading.Event()

    def write():
        nonlocal committed
        while not ended.is_set():
            writer.execute("insert into t values(1)")
            committed += 1

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(10):
        keeper.execute("begin")
        keeper.execute("update x.large set x=zeroblob(3000)")
        keeper.execute("rollback")
    ended.set()
    thread.join()
    writer.close()
    keeper.close()
    with contextlib.closing(remote(name)) as again:
        want("rows that were committed", one(again, "select count(*) from t"), committed)


def main():
    os.makedirs(DIRECTORY, exist_ok=True)
    globals()[f"case_{CASE}"]()
    print("ok")


loader = load()
main()
