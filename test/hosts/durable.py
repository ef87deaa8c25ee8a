"""Durable commits in the ways in which a connection may commit.

Usage: durable.py LIBRARY DATABASE JOURNAL, with make_default in VERNEUIL_CONFIG. Prints a line for
each: its name, and what pragma verneuil_durable_outcome says.
"""

import os
import sqlite3
import sys

library, database, journal = sys.argv[1:]
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(library)


def connect(uri):
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    db.execute(f"pragma journal_mode={journal}")
    return db


def one(db, sql):
    row = db.execute(sql).fetchone()
    return row[0] if row else None


def tell(name, db, schema="main"):
    print(name, one(db, f"pragma {schema}.verneuil_durable_outcome"), flush=True)


plain = connect(f"file:{database}?verneuil_durable=1")
tell("opened:", plain)
plain.execute("create table t(a integer primary key, b)")
tell("created:", plain)
plain.execute("begin immediate")
for _ in range(10):
    plain.execute("insert into t(b) values(randomblob(3000))")
plain.execute("commit")
tell("transaction:", plain)

cursor = plain.execute("select a from t")
cursor.fetchone()
plain.execute("insert into t(b) values(1)")
tell("while it reads:", plain)
cursor.fetchall()

plain.execute(f"attach 'file:{database}2?verneuil_durable=any' as two")
plain.execute(f"pragma two.journal_mode={journal}")
plain.execute("create table two.t(a)")
plain.execute("begin")
plain.execute("insert into t(b) values(2)")
plain.execute("insert into two.t values(2)")
plain.execute("commit")
tell("of two:", plain)
tell("the other:", plain, "two")
plain.close()

later = connect(f"file:{database}")
print("mode:", one(later, "pragma verneuil_durable"), one(later, "pragma verneuil_durable=any"),
      one(later, "pragma verneuil_durable=off"), one(later, "pragma verneuil_durable='all'"))
later.execute("insert into t(b) values(3)")
tell("by pragma:", later)
later.execute("pragma locking_mode=exclusive")
later.execute("insert into t(b) values(4)")
tell("exclusive:", later)
later.execute("insert into t(b) values(5)")
tell("exclusive again:", later)
later.close()

child = os.fork()
if child == 0:
    db = connect(f"file:{database}?verneuil_durable=all")
    db.execute("insert into t(b) values(6)")
    tell("forked:", db)
    db.close()
    os._exit(0)
os.waitpid(child, 0)

for wrong in ("pragma verneuil_durable=perhaps", "attach ':memory:' as m; pragma m.verneuil_durable=on"):
    db = connect(f"file:{database}")
    try:
        *first, last = wrong.split(";")
        for sql in first:
            db.execute(sql)
        print("wrong:", db.execute(last).fetchall())
    except sqlite3.Error as e:
        print("wrong:", e)
    db.close()
try:
    connect(f"file:{database}?verneuil_durable=2")
except sqlite3.Error as e:
    print("wrong:", e)
