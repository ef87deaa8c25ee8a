"""Opens many databases, writes to each, and says what the idle process takes.

Usage: many.py LIBRARY DIRECTORY DATABASES DESCRIPTORS
With DESCRIPTORS (0: as many as may be) RLIMIT_NOFILE is set, and all databases must open
nevertheless. Fails if the idle process makes requests, keeps files open that only work
needs, or, with 1,000 databases, grows by more than 300 KB each (SQLite alone takes 108).
"""

import glob
import json
import os
import resource
import sqlite3
import sys
import time

library, directory, databases, descriptors = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
limit = descriptors or resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
loader = sqlite3.connect(":memory:")
loader.enable_load_extension(True)
loader.load_extension(library)


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def status():
    return json.loads(loader.execute("select verneuil_status()").fetchone()[0])


def opened():
    """What the process has open, in its own table of descriptors and in the extension's."""
    found = set()
    for link in glob.glob("/proc/self/task/*/fd/*"):
        try:
            found.add((os.path.basename(link), os.readlink(link)))
        except FileNotFoundError:  # it was closed meanwhile
            pass
    return found


def cpu():
    t = os.times()
    return t.user + t.system


connections, before = [], 0
for i in range(databases):
    c = sqlite3.connect(os.path.join(directory, "many%d.db" % i), isolation_level=None)
    c.execute("create table t(a)")
    c.execute("insert into t values(?)", (i,))
    connections.append(c)
    if i == 0:
        before = resident()
if descriptors:
    s = status()
    print("%d databases open, %d replicated: %s" % (len(connections), len(s["databases"]), s["error"]))
    sys.exit(0)
for c in connections:
    if c.execute("pragma verneuil_flush_replication_data").fetchone()[0] != "1":
        sys.exit("a flush failed: %s" % status())
# Idle from when files are closed: replicators rest.
for _ in range(600):
    held = [to for _, to in opened() if to.endswith("/mirror")]
    if not held:
        break
    time.sleep(0.05)
calls, used, start = status()["api_calls"], cpu(), time.monotonic()
time.sleep(3)
share = 100 * (cpu() - used) / (time.monotonic() - start)
each = (resident() - before) // databases
print("idle: %d descriptors, %d KB a database, %.2f %% of a processor, %d calls"
      % (len(opened()), each // 1024, share, status()["api_calls"] - calls))
if held or status()["api_calls"] != calls:
    sys.exit("not idle: %s" % held)
if databases >= 1000 and each > 300 << 10:
    sys.exit("%d bytes a database" % each)
for c in connections:
    c.close()
