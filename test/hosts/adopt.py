# What frameworks do: each thread has a connection of its own, and loads the extension on it after it was
# opened, while others write. The first ones never load it. Says what became of it, as JSON.
import json, sqlite3, sys, threading

library, path, journal = sys.argv[1:]
ROWS = 100


def connect():
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("pragma synchronous=off")
    return db


first = connect()
first.execute("pragma journal_mode=" + journal)
first.execute("create table t(a integer primary key, b)")
barrier = threading.Barrier(8)
flushes = []


def write(loads):
    db = connect()
    db.execute("select count(*) from t").fetchone()
    barrier.wait()
    for i in range(ROWS):
        if loads and i == ROWS // 4:
            db.enable_load_extension(True)
            db.load_extension(library)
        db.execute("begin immediate")
        db.execute("insert into t(b) values(randomblob(3000))")
        db.execute("rollback" if i % 10 == 9 else "commit")
    barrier.wait()  # nobody writes any more
    if loads:
        flushes.append(str(db.execute("pragma verneuil_flush_replication_data").fetchone()[0]))
    barrier.wait()
    db.close()


threads = [threading.Thread(target=write, args=(i % 2 == 0,)) for i in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(json.dumps({
    "rows": first.execute("select count(*) from t").fetchone()[0],
    "want": 8 * ROWS * 9 // 10,
    "integrity": first.execute("pragma integrity_check").fetchone()[0],
    "flushes": flushes,
}))
