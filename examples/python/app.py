"""A program that replicates app.db: VERNEUIL_CONFIG=@verneuil.json python3 app.py"""
import os
import sqlite3

LIBRARY = os.environ.get("VERNEUIL_LIB", "/usr/local/lib/libverneuil_vfs.so")

# Once in a process, on any connection, and before the database is opened.
first = sqlite3.connect(":memory:")
first.enable_load_extension(True)
first.load_extension(LIBRARY)

db = sqlite3.connect("app.db")
with db:
    db.execute("create table if not exists visits(at text)")
    db.execute("insert into visits values(datetime('now'))")
print(db.execute("select count(*) from visits").fetchone()[0], "visits")

# Not needed: commits go out by themselves. It waits until all of them are out.
print("safe:", db.execute("select verneuil_flush()").fetchone()[0])
