"""Processes that write one database, each on a connection of its own.

Usage: processes.py LIBRARY DATABASE JOURNAL_MODE WAY, with make_default in VERNEUIL_CONFIG.

WAY: fork       os.fork(), children that end by os._exit
     mp-fork    multiprocessing, by fork
     mp-spawn, mp-forkserver
                multiprocessing, by spawn, or by a server that forks
     prefork    as web servers do: a master that has the database open, workers that are
                killed and replaced
"""

import multiprocessing
import os
import signal
import sqlite3
import sys

PROCESSES, COMMITS = 3, 20


def load(library):
    loader = sqlite3.connect(":memory:")
    loader.enable_load_extension(True)
    loader.load_extension(library)
    loader.close()


def connect(database):
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute("pragma synchronous=off")
    return connection


def write(database, process):
    connection = connect(database)
    for i in range(COMMITS):
        connection.execute("begin immediate")
        connection.execute("insert into t(b, c) values(?, randomblob(2000))", (f"{process}/{i}",))
        connection.execute("commit")
    connection.close()


def spawned(library, database, process):
    load(library)
    write(database, process)


def forked(work):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def must_end_well(pids):
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"child {pid}: {status}"


def prefork(database):
    """Workers that write without end are killed, one after the other, and replaced."""

    def forever(tell):
        connection = connect(database)
        while True:
            connection.execute("insert into t(b, c) values('killed', randomblob(2000))")
            os.write(tell, b".")

    for _ in range(2 * PROCESSES):
        hear, tell = os.pipe()
        pid = forked(lambda: forever(tell))
        os.close(tell)
        assert len(os.read(hear, 1)) == 1, "the worker ended before it wrote"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(hear)
    must_end_well([forked(lambda: write(database, n)) for n in range(PROCESSES)])


def main(library, database, journal, way):
    load(library)
    first = connect(database)
    assert first.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
    first.execute("create table t(a integer primary key, b text, c blob)")
    if way == "fork":
        must_end_well([forked(lambda: write(database, n)) for n in range(PROCESSES)])
    elif way == "prefork":
        prefork(database)
    else:
        context = multiprocessing.get_context(way.removeprefix("mp-"))
        target, arguments = (write, (database,)) if way == "mp-fork" else (spawned, (library, database))
        children = [context.Process(target=target, args=(*arguments, n)) for n in range(PROCESSES)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0, child
    (rows,) = first.execute("select count(*) from t where b != 'killed'").fetchone()
    (flushed,) = first.execute("pragma verneuil_flush_replication_data").fetchone()
    first.close()
    print(f"{rows} rows, flush {flushed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
