#!/usr/bin/env bash
# What replication costs, as ratios to stock SQLite or to a standard tool measured
# in the same run, in turns. `make bench` runs it:
#
#   run.sh BUILD SQLITE_HEADERS RESULTS
#
# BENCH_SECONDS (6): time for each journal mode. BENCH_MIB (1024): size of the
# database that is synced and restored. BENCH_PARTS: which parts to run (all).
set -euo pipefail

build=$(cd "$1" && pwd) headers=$2 results=$3
here=$(cd "$(dirname "$0")" && pwd)
seconds=${BENCH_SECONDS:-6} mib=${BENCH_MIB:-1024}
parts=${BENCH_PARTS:-size commit syscalls memory update wal lag sync}
lib=$build/libverneuil_vfs.so
mkdir -p "$(dirname "$results")"
results=$(cd "$(dirname "$results")" && pwd)/$(basename "$results")
unset VERNEUIL_LOG RUST_LOG

# Beside the results: a real disk, where /tmp may be memory.
dir=$(mktemp -d "$(dirname "$results")/results-data.XXXXXX")
trap 'rm -rf "$dir"' EXIT

# ---------------------------------------------------------------- tools

need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian's $2" >&2
    (apt-get install -y -q "$2" || (apt-get update -q && apt-get install -y -q "$2")) >/dev/null 2>&1 || true
  fi
  command -v "$1" >/dev/null || { say "*Skipped: $1 is missing (apt-get install $2).*"; return 1; }
}

say() { printf '%s\n' "$*" | tee -a "$results"; }
rows() { tee -a "$results"; }
table() { # HEADER: a Markdown table's first two lines, after a blank one
  say ""
  say "$1"
  say "$(sed 's/[^|]\+/---/g' <<<"$1")"
}
chapter() { # TITLE [TEXT LINE...]
  say ""
  say "## $1"
  say ""
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# A configuration with a spool and a store of its own: fresh NAME [MEMBERS]
fresh() {
  rm -rf "${dir:?}/$1"
  mkdir -p "$dir/$1"
  printf '{ "replication_spooling_dir": "%s/spool", "hostname": "bench", %s "replication_targets": [ { "dir": { "path": "%s/store" } } ] }' \
    "$dir/$1" "${2:-}" "$dir/$1" >"$dir/$1/config.json"
  export VERNEUIL_CONFIG=@$dir/$1/config.json
}
wants() { [[ " $parts " == *" $1 "* ]]; }
took() { # NAME COMMAND...: a line for NAME in $dir/times: its seconds, then those of processors
  local TIMEFORMAT='%R %U %S' name=$1 t
  shift
  t=$({ time "$@" >/dev/null 2>&1; } 2>&1)
  awk -v n="$name" '{ print n, $1, $2 + $3 }' <<<"$t" >>"$dir/times"
}
median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

compile() {
  local c
  for c in commit host; do
    ${CC:-gcc} -O2 -Wall -I"$headers" -o "$dir/$c" "$here/$c.c" -l:libsqlite3.so.0 -lpthread
  done
  (cd "$here/../.." && ${GO:-go} build -o "$dir/" ./testdata/bench/tally ./testdata/bench/lag)
  cat >"$dir/version.c" <<'C'
#include "sqlite3-binding.h"
#include <stdio.h>
int main(void) { puts(sqlite3_libversion()); }
C
  ${CC:-gcc} -I"$headers" -o "$dir/version" "$dir/version.c" -l:libsqlite3.so.0
}

# ---------------------------------------------------------------- parts

part_size() {
  chapter "Size"
  local stock
  stock=$(readlink -f "$(ldd "$dir/host" | awk '/libsqlite3/ { print $3 }')")
  say "\`stat -c %s\`; the libraries and the tool are built with -s -w."
  table "| file | MiB | x stock libsqlite3.so |"
  local f n s
  s=$(stat -c %s "$stock")
  for f in "$stock" "$lib" "$build/verneuilctl"; do
    n=$(stat -c %s "$f")
    echo "| $(basename "$f") | $(awk -v n="$n" 'BEGIN { printf "%.1f", n / 1048576 }') | $(ratio "$n" "$s") |" | rows
  done
}

part_commit() {
  local load
  for load in 0 1; do
    if [ "$load" = 0 ]; then
      chapter "Commit latency, nothing else running"
    else
      chapter "Commit latency while another database of the process uploads at full speed"
    fi
    fresh idle
    mkdir "$dir/idle/db"
    say "\`commit libverneuil_vfs.so DIR $seconds $load\`: one-row updates of a 10,000-row table, 50 stock, 50 verneuil, in"
    say "turns; ratios are medians over five parts of the run, [least..greatest]; CPU is the application's thread's. Aims: delete/full 1.03, truncate and"
    say "persist/off 1.10, wal 1.03 (p99 1.2 to 1.5), point read with a page cache of 10 pages 1.01."
    table "| journal | sync | samples each | stock us | verneuil us | median x | p99 x | mean x | CPU x |"
    timeout 300 "$dir/commit" "$lib" "$dir/idle/db" "$seconds" "$load" | rows
    if [ $load = 1 ]; then
      say ""
      say "Uploaded meanwhile: $(du -sm "$dir/idle/store" | cut -f1) MiB stored."
    fi
    rm -rf "$dir/idle"
  done
}

part_syscalls() {
  chapter "System calls and bytes of a one-page commit"
  need strace strace || return 0
  local n=200 mode sync vfs log
  say "\`strace -f host trace ... MODE SYNC $n\`: the application's thread only, between two marks; under strace the"
  say "replicator falls asleep between commits more often than in life, so wake-ups (one write to a FIFO) are an upper bound."
  table "| journal | sync | stock calls | verneuil calls | extra | stock bytes | verneuil bytes | extra | which | other threads: calls (most) | bytes | mapped changelog bytes |"
  for mode in delete/full truncate/off persist/off wal/full wal/normal; do
    sync=${mode#*/} mode=${mode%/*}
    fresh trace
    for vfs in unix verneuil; do
      log=$(timeout 120 strace -f -y -e trace=all -o "$dir/trace/$vfs" \
        "$dir/host" trace "$lib" $vfs "$dir/trace/$vfs.db" "$mode" "$sync" $n)
    done
    printf '| %s | %s |%s %s |\n' "$mode" "$sync" "$("$dir/tally" $n "$dir/trace/unix" "$dir/trace/verneuil")" "$log" | rows
  done
  rm -rf "$dir/trace"
}

part_memory() {
  chapter "Memory and threads"
  fresh memory
  "$dir/host" fill "$lib" unix "$dir/memory/a.db" 104857600
  say "\`host memory ...\`: a process that has a 100 MiB database open, through stock SQLite, then through verneuil."
  table "| when | RSS MiB | of it anonymous | x stock | threads |"
  timeout 120 "$dir/host" memory "$lib" "$dir/memory/a.db" | rows
  rm -rf "$dir/memory"
}

part_update() {
  chapter "One row of a 200 MB database"
  fresh update
  "$dir/host" fill "$lib" verneuil "$dir/update/a.db" 200000000
  local name store=$dir/update/store n=100 i calls callsMax objects bytes bytesMax
  name=$("$build/verneuilctl" manifest-name "$dir/update/a.db")
  say "\`host update ... $n\`: an update of one row and a flush, $n times. Each changes two pages of 4,096 bytes, the row's and"
  say "page 1 (its change counter). The aim is one request and under 8 KB."
  touch "$dir/update/before"
  coproc HOST { timeout 120 "$dir/host" update "$lib" "$dir/update/a.db" $n; }
  for ((i = 1; i <= n; i++)); do
    read -r calls <&"${HOST[0]}"
    echo "$calls $(stat -c %s "$store/manifests/$name")" >>"$dir/update/all"
    [ $i = 1 ] && objects=$(find "$store/chunks" -type f -newer "$dir/update/before" | wc -l)
    echo >&"${HOST[1]}"
  done
  wait "$HOST_PID" || true
  table "| | API calls | manifest bytes | x bytes of the changed pages |"
  read -r calls bytes < <(head -1 "$dir/update/all")
  echo "| the first | $calls | $bytes | $(ratio "$bytes" 8192) |" | rows
  for i in 1 2; do
    sort -n -k$i "$dir/update/all" | awk -v i=$i '{ a[NR] = $i } END { print a[int((NR + 1) / 2)], a[NR] }'
  done >"$dir/update/summary"
  { read -r calls callsMax; read -r bytes bytesMax; } <"$dir/update/summary"
  echo "| median of $n | $calls | $bytes | $(ratio "$bytes" 8192) |" | rows
  echo "| greatest | $callsMax | $bytesMax | $(ratio "$bytesMax" 8192) |" | rows
  say ""
  say "New chunks, leaves and nodes: $objects with the first, $(find "$store/chunks" -type f -newer "$dir/update/before" | wc -l) with all $n;" \
    "API calls in all: $(awk '{ n += $1 } END { print n }' "$dir/update/all")."
  rm -rf "$dir/update"
}

turns() { # FIELD: its ratios in $dir/wal/all
  awk -v k="$1" '$2 == "unix" { t = $k } $2 == "verneuil" { printf " %.2f", $k / t }' "$dir/wal/all"
}
part_wal() {
  chapter "WAL size and checkpoints over a million rows"
  fresh wal
  say "\`host wal ... 1000000\`: transactions of 100 rows; checkpoints are SQLite's own automatic ones, counted in a hook."
  table "| vfs | seconds | CPU s of the thread | commits | checkpoints | complete | busy | WAL restarts | most frames | -wal bytes at the end |"
  local i vfs
  for i in 1 2 3; do
    for vfs in unix verneuil; do
      timeout 120 "$dir/host" wal "$lib" $vfs "$dir/wal/$vfs$i.db" 1000000 | tee -a "$dir/wal/all" | rows
    done
  done
  say ""
  say "Verneuil to stock, turn by turn: time$(turns 4), CPU of the application's thread$(turns 6)"
  say "(other processors compress and store the database meanwhile: time suffers where there are few)."
  rm -rf "$dir/wal"
}

part_lag() {
  chapter "Lag from commit to manifest"
  say "\`lag STORE MANIFEST host rate ... RATE SECONDS\`: WAL, synchronous=NORMAL, a 4 MiB database, a dir target polled twice per"
  say "millisecond. A durable PUT is write, fsync, rename, fsync of the directory."
  table "| manifest_interval_ms | commits/s | commits | manifests | p50 ms | p99 ms | manifest bytes | durable PUT ms | p50 / PUT |"
  local interval rate time name
  for interval in 1000 50; do
    for rate in 1 10 100 1000; do
      time=6
      [ $rate = 1 ] && time=10
      fresh rate "\"manifest_interval_ms\": $interval,"
      name=$(VERNEUIL_CONFIG='' "$build/verneuilctl" -c "@$dir/rate/config.json" manifest-name "$dir/rate/a.db")
      printf '| %s | %s |%s\n' $interval $rate "$(timeout 120 "$dir/lag" "$dir/rate/store" "$name" "$dir/rate/commits" \
        "$dir/host" rate "$lib" "$dir/rate/a.db" $rate $time "$dir/rate/commits")" | rows
    done
  done
  rm -rf "$dir/rate"
}

part_sync() {
  chapter "Sync and restore of $mib MiB"
  need zstd zstd || return 0
  fresh sync
  local db=$dir/sync/a.db ctl=$build/verneuilctl i
  "$dir/host" fill "$lib" unix "$db" $((mib << 20))
  say "Half of the database compresses two to one, half not at all. verneuilctl's dir target is durable (fsync), so the"
  say "peers are given with sync(1) of their files and without. Files are in the page cache. Three turns, medians."
  : >"$dir/times"
  for i in 1 2 3; do
    rm -rf "$dir/sync/store" "$dir/sync/spool" "$dir/sync/copy" "$dir/sync/copy.zst"
    sync
    took sync timeout 300 "$ctl" sync "$db"
    sync
    took cp cp "$db" "$dir/sync/copy"
    took cpsync sync "$dir/sync/copy"
    rm "$dir/sync/copy"
    took zstd zstd -q -1 -T0 "$db" -o "$dir/sync/copy.zst"
    took zstdsync sync "$dir/sync/copy.zst"
    took restore timeout 300 "$ctl" restore --source-path "$db" --out "$dir/sync/out"
    cmp "$db" "$dir/sync/out"
    rm "$dir/sync/out"
    sync
    took unzstd zstd -q -d "$dir/sync/copy.zst" -o "$dir/sync/copy"
    took unzstdsync sync "$dir/sync/copy"
    took cpback cp "$dir/sync/copy" "$dir/sync/copy2"
    rm "$dir/sync/copy" "$dir/sync/copy2"
    sync
  done
  local -A t c
  local k
  for k in sync cp cpsync zstd zstdsync restore unzstd unzstdsync cpback; do
    t[$k]=$(awk -v k=$k '$1 == k { print $2 }' "$dir/times" | median)
    c[$k]=$(awk -v k=$k '$1 == k { print $3 }' "$dir/times" | median)
  done
  table "| what | seconds | MiB/s | verneuil x it | processor seconds | verneuil x it |"
  line() { # TEXT OURS PART...: the sum of the parts
    local part wall=0 cpu=0 text=$1 ours=$2
    shift 2
    for part; do
      wall=$(awk "BEGIN { print $wall + ${t[$part]} }") cpu=$(awk "BEGIN { print $cpu + ${c[$part]} }")
    done
    printf '| %s | %.2f | %.0f | %s | %.2f | %s |\n' "$text" "$wall" "$(awk "BEGIN { print $mib / $wall }")" \
      "$(ratio "${t[$ours]}" "$wall")" "$cpu" "$(ratio "${c[$ours]}" "$cpu")" | rows
  }
  line "verneuilctl sync (hash, compress, $(find "$dir/sync/store" -type f | wc -l) durable objects)" sync sync
  line 'cp + zstd -1 -T0' sync cp zstd
  line 'the same, each with sync FILE' sync cp zstd cpsync zstdsync
  line 'verneuilctl restore (verify, fsync)' restore restore
  line 'zstd -d + cp' restore unzstd cpback
  line 'the same, with sync FILE of the first' restore unzstd cpback unzstdsync
  say ""
  say "Bytes stored: verneuil $(du -sm --apparent-size "$dir/sync/store" | cut -f1) MiB, zstd -1 $(du -sm --apparent-size "$dir/sync/copy.zst" | cut -f1) MiB."
  rm -rf "$dir/sync"
}

# ---------------------------------------------------------------- all of it

compile
: >"$results"
say "# What replication costs"
say ""
say "\`make bench\` on $(date -u +%Y-%m-%d), $(nproc) processors ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)), Linux $(uname -r),"
say "SQLite $("$dir/version"), file system $(stat -f -c %T "$dir"), load average at the start $(cut -d' ' -f1 /proc/loadavg)."
for part in $parts; do "part_$part"; done
say ""
say "Load average at the end $(cut -d' ' -f1 /proc/loadavg), after $SECONDS s."
