# Databases in memory that connections share, the first of which were opened before the extension was
# loaded: memory.py LIBRARY DATABASE. Each pair must see one database.
import sqlite3
import sys

library, database = sys.argv[1:]
names = ["file::memory:?cache=shared", "file:x?mode=memory&cache=shared", "file:y?mode=memory&cache=shared&vfs=unix",
         "file:/z?vfs=memdb", "file:" + database + "?cache=shared"]
first = {}
for name in names:
    first[name] = sqlite3.connect(name, uri=True, isolation_level=None)
    first[name].execute("create table t(x)")
attaching = sqlite3.connect(":memory:", uri=True, isolation_level=None)
temporary = sqlite3.connect("", uri=True, isolation_level=None)
temporary.execute("create temp table t(x)")

loading = sqlite3.connect(":memory:")
loading.enable_load_extension(True)
loading.load_extension(library)

for name in names:
    later = sqlite3.connect(name, uri=True, isolation_level=None)
    later.execute("insert into t values(1)")
    print(name.replace(database, "DATABASE"), first[name].execute("select count(*) from t").fetchone()[0])
    attaching.execute("attach ? as other", (name,))
    print("attached", attaching.execute("select count(*) from other.t").fetchone()[0])
    attaching.execute("detach other")
print("temporary", temporary.execute("select count(*) from t").fetchone()[0])

# What a connection attaches that was opened before is replicated.
attaching.execute("attach ? as later", (database + "-later",))
attaching.execute("create table later.t(x)")
functions = sqlite3.connect(database + "-later")
print("flush", functions.execute("select verneuil_flush()").fetchone()[0])
