# A host with SQLite3MultipleCiphers: opens an encrypted database, which it makes if need be, adds
# rows, closes it, and says what it reads then, and what flushes have answered.
#
#     ciphers.py SITE-PACKAGES LIBRARY|- VFS|- DATABASE JOURNAL HEADER-BYTES
import sys

packages, library, vfs, path, journal, header = sys.argv[1:]
sys.path.insert(0, packages)
import apsw

if library != "-":
    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(library)
    db.close()


def connect():
    db = apsw.Connection(path, vfs=None if vfs == "-" else vfs)
    db.set_busy_timeout(60000)
    if header != "0":
        db.pragma("cipher", "sqlcipher")
        db.pragma("legacy", 0)
        db.pragma("plaintext_header_size", int(header))
        db.execute("pragma key = \"x'" + "98483c6eb40b6c31a448c22a66ded3b5e5e8d5119cac8327b655c8b5c4836481"
                   + "98483c6eb40b6c31a448c22a66ded3b5'\"").fetchall()
    else:
        db.pragma("key", "secret")
    return db


db, flushes = connect(), ""
db.pragma("journal_mode", journal)
db.execute("create table if not exists t(a integer primary key, b)")
for i in range(5):
    db.execute("insert into t(b) select 'PLAINTEXT' from (select 1 union select 2)")
    if library != "-":
        flushes += str(db.pragma("verneuil_flush_replication_data"))
db.close()
db = connect()
print(db.execute("select count(*) from t").fetchone()[0], db.pragma("integrity_check"), db.pragma("journal_mode"), flushes)
db.close()
