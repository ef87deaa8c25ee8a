"""Four threads write one database, each on a connection of its own, 50 commits each.

Usage: threads.py LIBRARY DATABASE JOURNAL_MODE, with make_default in VERNEUIL_CONFIG.
"""

import sqlite3
import sys
import threading

THREADS, COMMITS = 4, 50
library, database, journal = sys.argv[1:]


def connect():
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute("pragma synchronous=off")
    return connection


loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(library)
loader.close()

first = connect()
assert first.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
first.execute("create table t(a integer primary key, b text, c blob)")
failures = []


def write(thread):
    try:
        connection = connect()
        for i in range(COMMITS):
            connection.execute("begin immediate")
            connection.execute("insert into t(b, c) values(?, randomblob(2000))", (f"{thread}/{i}",))
            connection.execute("commit")
        connection.close()
    except Exception as e:  # reported below
        failures.append(e)


threads = [threading.Thread(target=write, args=(i,)) for i in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for failure in failures:
    print("failed:", failure)
(rows,) = first.execute("select count(*) from t").fetchone()
(flushed,) = first.execute("pragma verneuil_flush_replication_data").fetchone()
print(f"{rows} rows, flush {flushed}")
first.close()
