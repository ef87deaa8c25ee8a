#!/bin/bash
# Runs the part of SQLite's own tests that make test has, with the C of the extension
# compiled with a sanitizer. Called by make sanitize-suite.
#
# Usage: suite.sh DIRECTORY SQLITE_SOURCE PROGRAMS TOOL...
#
# DIRECTORY is for what is built. SQLITE_SOURCE has sqlite3ext.h, PROGRAMS is what
# test/sqlite/fixture/build.sh has filled. Each TOOL is address or thread.
# VERNEUIL_CTL is verneuilctl; SQLITE_TEST may have further flags of sqlite-test, such as
# -only REGEXP.
#
# The Go side is the real one: cgo tells the sanitizers of each call between C and Go.
# The programs are those of make sqlite-test; the sanitizer is preloaded into them, so that
# it has their heap, their locks and their threads too.
set -euo pipefail
directory=$(realpath -m "$1") sqlite=$2 programs=$3
shift 3
root=$(cd "$(dirname "$0")/../.." && pwd)
go=${GO:-go} cc=${CC:-gcc}
cd "$root"

# The sanitizers' shadow memory has fixed places, which a very random layout may take.
plain=()
if setarch -R true 2>/dev/null; then plain=(setarch -R); fi

link="-s -w '-extldflags=-Wl,-T,$root/cgo/golazy.ld,--version-script=$root/cgo/exports.map,--wrap=crosscall2,--wrap=pthread_create'"
"$go" build -o "$directory/sqlite-test" ./test/sqlite
for tool in "$@"; do
  case $tool in
  address) flags=-fsanitize=address,undefined runtime=(libasan.so libubsan.so) ;;
  thread) flags="-fsanitize=thread -Wno-tsan" runtime=(libtsan.so) ;;
  *) echo "unknown tool $tool" >&2; exit 2 ;;
  esac
  lib="$directory/$tool/libverneuil_vfs.so"
  mkdir -p "$directory/$tool"
  CGO_ENABLED=1 CC="$cc" CGO_CFLAGS="-O1 -g -fno-omit-frame-pointer $flags -I$sqlite" CGO_LDFLAGS="${flags% -W*}" \
    "$go" build -buildmode=c-shared -ldflags "$link" -o "$lib" ./cmd/libverneuil_vfs
  preload=
  for name in "${runtime[@]}"; do preload+="${preload:+ }$("$cc" -print-file-name="$name")"; done
  echo "$tool:"
  "${plain[@]}" "$directory/sqlite-test" -programs "$programs" -lib "$lib" -preload "$preload" -short -timeout 10m \
    ${SQLITE_TEST:-}
done
