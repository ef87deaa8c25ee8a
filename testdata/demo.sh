#!/usr/bin/env bash
# The walkthrough on the embedded dir target (an object store in a directory), in a
# temporary directory: each command and what it really prints. `make demo` runs it.
set -euo pipefail

build=$(cd "$1" && pwd)
if ! command -v sqlite3 >/dev/null; then
  echo "The demo needs the sqlite3 shell. Install it first: apt-get install sqlite3 (Debian, Ubuntu)," >&2
  echo "dnf install sqlite (Fedora), or get it from sqlite.org, and run make demo again." >&2
  exit 1
fi

dir=$(mktemp -d)
dir=$(cd "$dir" && pwd -P)
sessions=()
finish() {
  for pid in "${sessions[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
export PATH="$build:$PATH"
unset VERNEUIL_CONFIG VERNEUIL_LOG RUST_LOG || true
ln -s "$build/libverneuil_vfs.so" .

if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
chapter() { printf '\n%s# %s%s\n' "$bold" "$1" "$plain"; }
show() { printf '%s$ %s%s\n' "$bold" "$1" "$plain"; eval "$1"; }

# A shell session that stays open: open NAME COMMAND, then ask NAME LINE.
open() {
  mkfifo "$1.in" "$1.out"
  printf '%s%s$ %s%s\n' "$bold" "$1" "$2" "$plain"
  eval "$2" <"$1.in" >"$1.out" 2>&1 &
  sessions+=($!)
  eval "exec {$1_in}>$1.in {$1_out}<$1.out"
}
ask() {
  local in="$1_in" out="$1_out" line
  printf '%s%s> %s%s\n' "$bold" "$1" "$2" "$plain"
  printf '%s\n.print --end--\n' "$2" >&"${!in}"
  while IFS= read -r line <&"${!out}"; do
    [ "$line" = --end-- ] && return
    last=$line
    printf '%s\n' "$line"
  done
  echo "the session ended" >&2
  exit 1
}
close() {
  eval "exec {$1_in}>&- {$1_out}<&-"
}
wrong() {
  echo "the demo went wrong: $1" >&2
  exit 1
}

cat >verneuil.json <<JSON
{
  "make_default": true,
  "replication_spooling_dir": "$dir/spool",
  "replication_targets": [
    { "dir": { "path": "$dir/store" } }
  ]
}
JSON
host=$(uname -n)
TIMEFORMAT='real %Rs'

chapter "A database of a million random numbers, and where it is to go"
show "cat verneuil.json"
show "sqlite3 test.db 'create table random_data as
    with recursive tmp(x) as (select random() union all select random() from tmp limit 1000000)
    select * from tmp;'"

chapter "Back it up, get it back: the same bytes"
show "time verneuilctl -c @verneuil.json sync test.db --optimize"
show "time verneuilctl -c @verneuil.json restore --hostname $host --source-path $dir/test.db --out restore.db"
show "sha256sum test.db restore.db"

chapter "Nothing has changed: a sync has nothing to do"
show "time verneuilctl -c @verneuil.json sync test.db"

chapter "One row changes, by stock SQLite: only what changed goes out"
before=$(find store -type f | wc -l)
show "sqlite3 test.db 'update random_data set x = 0 where rowid = 500000;'"
show "time verneuilctl -c @verneuil.json sync test.db"
echo "new files in the store: $(($(find store -type f | wc -l) - before))"

chapter "Live replication: the extension replicates each commit while you work"
show "printf '%s\n' '.load libverneuil_vfs' '.open test.db' 'update random_data set x = 1 where rowid = 1;' \\
    | VERNEUIL_CONFIG=@verneuil.json LD_LIBRARY_PATH=. sqlite3"
show "verneuilctl flush $dir/spool   # in case the shell ended too quickly"
show "verneuilctl -c @verneuil.json restore --hostname $host --source-path $dir/test.db --out restore2.db"
show "sqlite3 restore2.db 'select * from random_data limit 1;'"

chapter "A read replica, here in one shell, while another one writes"
open replica "verneuilctl -c @verneuil.json shell --hostname $host --source-path $dir/test.db"
ask replica "select * from random_data limit 2;"
ask replica "update random_data set x = 2 where rowid = 1;"
export LD_LIBRARY_PATH=.
open writer "VERNEUIL_CONFIG=@verneuil.json sqlite3"
ask writer ".load libverneuil_vfs"
ask writer ".open test.db"
ask writer "update random_data set x = -2 where rowid = 2;"
ask writer "pragma verneuil_flush_replication_data;"
ask replica "pragma verneuil_snapshot_refresh = 2;"
last=''
ask replica "select * from random_data limit 2;"
close writer
close replica
for pid in "${sessions[@]}"; do wait "$pid" || true; done # the refused write counts as an error
sessions=()

if [ "$last" != -2 ] || ! cmp -s test.db <(verneuilctl -c @verneuil.json restore --source-path test.db); then
  wrong "the replica is not the database"
fi

chapter "A database that lives in the store: one shell writes, the other reads beside it"
cat >remote.json <<JSON
{ "stores": { "main": { "dir": { "path": "$dir/databases" } } }, "tempdir": "$dir" }
JSON
show "cat remote.json"
show "verneuilctl -c @remote.json import test.db file:///main/app.db"
open first "exec verneuilctl -c @remote.json shell file:///main/app.db"
first_pid=${sessions[-1]}
open second "verneuilctl -c @remote.json shell file:///main/app.db"
ask first "create table t(x); insert into t values('first was here');"
ask second "select * from t;"
[ "$last" = "first was here" ] || wrong "the reader does not see what is committed"
ask first "begin immediate; insert into t values('not committed');"
ask second "select * from t;"
ask second "insert into t values('second');"
show "verneuilctl -c @remote.json lock info file:///main/app.db"

chapter "The first is killed, in the middle of its transaction: the second takes over"
show "kill -9 $first_pid   # the first shell"
{ wait "$first_pid" || true; } 2>/dev/null # bash would say that it was killed
sessions=("${sessions[@]:1}")
ask second "pragma busy_timeout = 20000;"
ask second "insert into t values('second took over');"
ask second "select * from t;"
[ "$last" = "second took over" ] || wrong "the second shell did not take over"
close second
for pid in "${sessions[@]}"; do wait "$pid" || true; done # the write that was refused
sessions=()
show "verneuilctl -c @remote.json ls file:///main"
show "verneuilctl -c @remote.json export file:///main/app.db app.db"
show "sqlite3 app.db 'select count(*) from random_data; select * from t;'"
printf '\n%sThat is all. Everything was in %s, which goes now.%s\n' "$bold" "$dir" "$plain"
