"""Two SQLite libraries in a process: Python's, and a copy of it that is another to the linker.

Usage: two.py LIBRARY COPY DATABASE [SECOND], with make_default in VERNEUIL_CONFIG. Loads the
extension into both, from two threads at once, prints which of them had it and what the
other was told, and writes a database with each. SECOND is another file with the extension,
which the other SQLite then loads.
"""

import ctypes
import os
import sqlite3
import sys
import threading

library, copy, database, *second = sys.argv[1:]
other = ctypes.CDLL(copy, mode=os.RTLD_LOCAL | os.RTLD_DEEPBIND)
other.sqlite3_errmsg.restype = ctypes.c_char_p


def run(db, sql):
    code = other.sqlite3_exec(db, sql.encode(), None, None, None)
    assert code == 0, (sql, code, other.sqlite3_errmsg(db))


def opened(name):
    db = ctypes.c_void_p()
    assert other.sqlite3_open(name.encode(), ctypes.byref(db)) == 0
    other.sqlite3_enable_load_extension(db, 1)
    return db


answers = {}
start = threading.Barrier(2)


def load_into_pythons():
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    start.wait()
    try:
        loader.load_extension(library)
        answers["python"] = "loaded"
    except sqlite3.OperationalError as e:
        answers["python"] = str(e)


def load_into_other():
    db = opened(":memory:")
    error = ctypes.c_char_p()
    start.wait()
    code = other.sqlite3_load_extension(db, (second or [library])[0].encode(), None, ctypes.byref(error))
    answers["other"] = error.value.decode() if code else "loaded"
    other.sqlite3_close(db)


threads = [threading.Thread(target=load) for load in (load_into_pythons, load_into_other)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert "loaded" in answers.values(), answers

mine = sqlite3.connect(database + ".python", isolation_level=None)
theirs = opened(database + ".other")
mine.execute("create table t(b)")
run(theirs, "create table t(b)")
for _ in range(20):
    mine.execute("insert into t values(randomblob(3000))")
    run(theirs, "insert into t values(randomblob(3000))")
flush = "pragma verneuil_flush_replication_data"
flushed = mine.execute(flush).fetchone()
run(theirs, flush)
mine.close()
other.sqlite3_close(theirs)
had = next(who for who, answer in answers.items() if answer == "loaded")
told = next((answer for answer in answers.values() if answer != "loaded"), "nothing")
print(f"{had}: {told}; python's flush answers {flushed and flushed[0]}")
