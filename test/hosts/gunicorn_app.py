"""A WSGI application whose every request is a commit. LIBRARY and DATABASE, which
may be a URI, are in the environment, and TIMEOUT, which is busy_timeout's in seconds. With OPENED it keeps a connection in the process that imports it, which under
gunicorn --preload is the master.

/       inserts a row and answers how many there are
/flush  pushes, and answers 1 or 0
/die    the worker kills itself
"""

import os
import signal
import sqlite3

loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(os.environ["LIBRARY"])
loader.close()


def connect():
    database, timeout = os.environ["DATABASE"], float(os.environ.get("TIMEOUT", "60"))
    connection = sqlite3.connect(database, timeout=timeout, isolation_level=None, uri=database.startswith("file:"))
    connection.execute("create table if not exists t(a integer primary key, b)")
    return connection


kept = connect() if os.environ.get("OPENED") else None
mine = None


def application(environ, start_response):
    global mine
    if mine is None:  # a worker's own: SQLite's connections do not survive a fork
        mine = connect()
    path = environ["PATH_INFO"]
    if path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/flush":
        answer = mine.execute("pragma verneuil_flush_replication_data").fetchone()
    else:
        mine.execute("insert into t(b) values(randomblob(1000))")
        answer = mine.execute("select count(*) from t").fetchone()
    body = str(answer[0]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
