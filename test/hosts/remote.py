"""Connections that write one database which lives in a store, each in its own thread or process.

Usage: remote.py LIBRARY URI WAY

WAY: threads    threads, a connection each
     spawn, forkserver
                processes by multiprocessing
     fork       a child of the process that has the database open: neither the connection that it
                has inherited nor a new one works there; the parent's goes on

Prints how many rows there are, and how often a statement failed because the database was locked.
"""

import multiprocessing
import os
import sqlite3
import sys
import threading

WRITERS, COMMITS = 4, 25


def load(library):
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(library)
    loader.close()


def connect(uri):
    return sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)


def write(uri, writer):
    """Returns how many commits failed because the database was locked."""
    connection, locked = connect(uri), 0
    for i in range(COMMITS):
        try:
            connection.execute("begin immediate")
            connection.execute("insert into t(b, c) values(?, randomblob(2000))", (f"{writer}/{i}",))
            connection.execute("commit")
        except sqlite3.OperationalError as e:
            if "locked" not in str(e):
                raise
            locked += 1
    connection.close()
    return locked


def spawned(library, uri, writer, answers):
    load(library)
    answers.put(write(uri, writer))


def forked(uri, first):
    first.execute("insert into t(b) values('before')")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for tries in (lambda: first.execute("select count(*) from t").fetchone(),
                          lambda: first.execute("insert into t(b) values('child')"),
                          lambda: connect(uri).execute("select count(*) from t").fetchone()):
                try:
                    print("a child can use the database:", tries(), flush=True)
                except sqlite3.OperationalError:
                    pass
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    first.execute("insert into t(b) values('after')")


def main(library, uri, way):
    load(library)
    first, locked = connect(uri), []
    first.execute("create table t(a integer primary key, b text, c blob)")
    if way == "fork":
        forked(uri, first)
    elif way == "threads":
        threads = [threading.Thread(target=lambda n=n: locked.append(write(uri, n))) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(locked) == WRITERS, "a thread has failed"
    else:
        context = multiprocessing.get_context(way)
        answers = context.Queue()
        children = [context.Process(target=spawned, args=(library, uri, n, answers)) for n in range(WRITERS)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0, child
        locked = [answers.get() for _ in children]
    (rows,) = first.execute("select count(*) from t").fetchone()
    first.close()
    print(f"{rows} rows, {sum(locked)} times locked")


if __name__ == "__main__":
    main(*sys.argv[1:])
