#!/usr/bin/env bash
# Builds what `make bench` compares with, once, into TOOLS:
#
#   tools.sh TOOLS
#
# Each is optional: where one cannot be built, TOOLS/FILE.missing says why, and the
# results repeat it. Delete that file to try again.
set -uo pipefail

export tools=$1 go=${GO:-go} litestream=v0.5.18
mkdir -p "$tools/bin" "$tools/lib/rust"
work=$(mktemp -d)
export work
trap 'rm -rf "$work"' EXIT

# once FILE TITLE COMMAND...: COMMAND must make $tools/FILE.
once() {
  local file=$tools/$1 title=$2
  shift 2
  [ -e "$file" ] || [ -e "$file.missing" ] && return
  echo "building $title, once"
  if ! (cd "$work" && timeout 1200 bash -c '"$@"' - "$@") >"$work/log" 2>&1 || [ ! -e "$file" ]; then
    echo "$title could not be built: $(grep -v '^ *$' "$work/log" | tail -1)" | tee "$file.missing"
  fi
}

install_go() { # PACKAGE@VERSION
  GOBIN=$tools/bin GOFLAGS='' CGO_ENABLED=0 "$go" install -trimpath -ldflags "-s -w" "$1"
}

litestream_vfs() {
  # As in its Makefile: an archive of Go, linked to an entry point in C.
  local source
  source=$(cd "$work" && "$go" mod download -json github.com/benbjohnson/litestream@$litestream | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
  [ -n "$source" ] || { echo "its module cannot be downloaded"; return 1; }
  cp -r "$source" "$work/litestream" && chmod -R u+w "$work/litestream" && cd "$work/litestream" || return
  CGO_ENABLED=1 GOFLAGS='' "$go" build -tags vfs,SQLITE3VFS_LOADABLE_EXT -buildmode=c-archive -o "$work/litestream-vfs.a" ./cmd/litestream-vfs || return
  cp "$work/litestream-vfs.h" src/
  "${CC:-gcc}" -DSQLITE3VFS_LOADABLE_EXT -O2 -fPIC -shared -o "$tools/lib/litestream-vfs.so" src/litestream-vfs.c "$work/litestream-vfs.a" -lpthread -ldl -lm
}

# The original, from crates.io. Its sources are older than some of today's lints.
verneuil_rs() { # EXAMPLE FEATURE RESULT TO
  command -v cargo >/dev/null || { echo "cargo is missing"; return 1; }
  if [ ! -d "$work/fetch" ]; then
    cargo new -q --vcs none "$work/fetch" && (cd "$work/fetch" && cargo add -q verneuil@=0.6.4 && cargo fetch -q) || return
  fi
  local source
  source=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/verneuil-0.6.4) || return
  [ -d "$work/verneuil" ] || { cp -r "$source" "$work/verneuil"; } || return
  cd "$work/verneuil" && RUSTFLAGS=--cap-lints=warn CARGO_TARGET_DIR=$work/target \
    cargo build -q --release --locked --features "$2" --example "$1" && cp "$work/target/release/examples/$3" "$tools/$4"
}

export -f install_go litestream_vfs verneuil_rs
once bin/versitygw "versitygw, an S3 server" install_go github.com/versity/versitygw/cmd/versitygw@v1.8.0
once bin/litestream "Litestream" install_go github.com/benbjohnson/litestream/cmd/litestream@$litestream
once lib/litestream-vfs.so "Litestream's VFS" litestream_vfs
once lib/rust/libverneuil_vfs.so "the original Verneuil (Rust)" verneuil_rs verneuil_vfs dynamic_vfs libverneuil_vfs.so lib/rust/libverneuil_vfs.so
once bin/verneuil-rs "the original Verneuil's tool" verneuil_rs verneuilctl vendor_sqlite verneuilctl bin/verneuil-rs
exit 0
