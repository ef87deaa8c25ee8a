#!/bin/bash
# Builds the driver (driver.c), and the binding of librados over a library that answers in
# odd ways (librados/), with sanitizers, and runs them. Called by make sanitize and, in a
# short form, by the tests.
#
# Usage: run.sh DIRECTORY SQLITE_SOURCE SEEDS STEPS TOOL...
#
# DIRECTORY is for what is built and written. SQLITE_SOURCE has SQLite's amalgamation;
# with SHARED=1 the system's libsqlite3 is linked instead, as that compiles in no time.
# Each TOOL is address, thread or valgrind, and runs once per seed from 1 to SEEDS.
set -euo pipefail
directory=$1 sqlite=$2 seeds=$3 steps=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-gcc}
mkdir -p "$directory"
flags=(-std=gnu11 -g -O1 -Wall -Wextra -Werror -Wno-tsan -I"$sqlite" -I"$here/../../cgo" -I"$here")
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=0:exitcode=99

# The sanitizers' shadow memory has fixed places, which a very random layout may take.
plain=()
if setarch -R true 2>/dev/null; then plain=(setarch -R); fi

# library FLAG...: SQLite, compiled with these flags.
library() {
  if [ "${SHARED:-}" = 1 ]; then echo -l:libsqlite3.so.0; return; fi
  local object="$directory/sqlite${1:-}.o"
  [ -e "$object" ] || "$cc" -w -g -O1 "$@" -DSQLITE_THREADSAFE=1 -c -o "$object" "$sqlite/sqlite3-binding.c"
  echo "$object"
}

for tool in "$@"; do
  case $tool in
  # SQLite's own arithmetic is not our business, nor are the races that it means to have.
  address) mine=(-fsanitize=address,undefined -fno-sanitize-recover=undefined) theirs=(-fsanitize=address) under=() ;;
  thread) mine=(-fsanitize=thread) theirs=() under=("${plain[@]}") ;;
  valgrind) mine=() theirs=()
    under=(valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --fair-sched=yes) ;;
  *) echo "unknown tool $tool" >&2; exit 2 ;;
  esac
  "$cc" "${flags[@]}" "${mine[@]}" "$here"/../../cgo/*.c "$here"/*.c "$(library "${theirs[@]}")" -lpthread -ldl -lm -o "$directory/$tool"
  for ((seed = 1; seed <= seeds; seed++)); do
    rm -rf "$directory/data"
    mkdir "$directory/data"
    said=$("${under[@]}" "$directory/$tool" "$directory/data" "$seed" "$steps") || { echo "$tool, seed $seed: exit code $?" >&2; exit 1; }
    echo "$tool: $said"
  done

  binding=("${flags[@]}" "${mine[@]}")
  "$cc" "${binding[@]}" -fPIC -shared -fvisibility=hidden "$here/librados/stub.c" -o "$directory/librados-$tool.so" -lpthread
  "$cc" "${binding[@]}" "$here"/librados/binding.c "$here"/../../cgo/librados/*.c -o "$directory/binding-$tool" -lpthread -ldl
  for ((seed = 1; seed <= seeds; seed++)); do
    said=$("${under[@]}" "$directory/binding-$tool" "$directory/librados-$tool.so" "$seed" "$steps") || { echo "$tool, binding, seed $seed: exit code $?" >&2; exit 1; }
    echo "$tool: $said"
  done
done
rm -rf "$directory/data"
