"""SQLite databases that are replicated to S3, or to a directory, as they are written.

    import verneuil
    db = verneuil.connect("app.db")

is sqlite3.connect, and what is committed goes out in the background. VERNEUIL_CONFIG in the
environment names the targets. The tool verneuilctl, which restores, comes with this package.
"""
import os
import sqlite3
import threading
import urllib.parse

__version__ = "@VERSION@"
__all__ = ["NotReplicatedError", "assert_replicated", "connect", "load", "loadable_path"]


class NotReplicatedError(sqlite3.OperationalError):
    """A database that was to be replicated is not; the message says why."""


def loadable_path():
    """The path of the extension, for what loads it by itself (sqlite3_load_extension)."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", "libverneuil_vfs.so")


def load(connection):
    """Load the extension, on a connection of sqlite3 or of another module with its methods.

    Once in a process is enough. With make_default in the configuration the databases of this
    connection, too, are replicated from then on. Call it outside of a transaction.
    """
    try:
        enable, load_extension = connection.enable_load_extension, connection.load_extension
    except AttributeError:
        raise RuntimeError(
            "this Python's sqlite3 cannot load extensions: use one that was built with "
            "--enable-loadable-sqlite-extensions, such as Debian's, or apsw") from None
    enable(True)
    try:
        load_extension(loadable_path())
    finally:
        enable(False)


_lock = threading.Lock()
_loaded = False


def _load_once():
    global _loaded
    with _lock:
        if not _loaded:
            first = sqlite3.connect(":memory:")
            try:
                load(first)
            finally:
                first.close()
            _loaded = True


def assert_replicated(connection, schema="main"):
    """Raise NotReplicatedError, which says why, unless the database is replicated."""
    try:
        connection.execute("select verneuil_replicated(?)", (schema,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such function" in str(error):
            error = "the extension was not loaded when this connection was opened: " \
                    "open it with verneuil.connect()"
        raise NotReplicatedError(str(error)) from None


def _through_verneuil(name, uri):
    """The name as a URI, and whether it is the VFS verneuil that it names."""
    if not (uri and name.startswith("file:")):
        return "file:" + urllib.parse.quote(name) + "?vfs=verneuil", True
    path, _, parameters = name.partition("?")
    vfs = [p[4:] for p in parameters.split("&") if p.startswith("vfs=")]
    if vfs:
        return name, vfs[0] == "verneuil"
    return path + "?" + (parameters + "&" if parameters else "") + "vfs=verneuil", True


def connect(database, *, uri=False, **arguments):
    """sqlite3.connect, with its arguments, of a database that is replicated.

    make_default is not needed. A URI that names another VFS is opened as it is: a replica
    (vfs=verneuil_snapshot), or a database in a store (vfs=verneuil_remote). A database that would
    not be replicated is not opened: NotReplicatedError says why.
    """
    name = os.fsdecode(database)
    if name in ("", ":memory:"):
        raise NotReplicatedError(f"{name!r}: a database in memory is not replicated: "
                                 "open it with sqlite3.connect()")
    _load_once()
    through, ours = _through_verneuil(name, uri)
    connection = sqlite3.connect(through, uri=True, **arguments)
    if ours:
        try:
            assert_replicated(connection)
        except BaseException:
            connection.close()
            raise
    return connection
