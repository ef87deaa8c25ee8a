#!/usr/bin/env bash
# arm64-shell.sh DIR: the sqlite3 shell for arm64, of Debian's packages, unpacked into DIR. apt-get
# reads lists of that architecture in a directory of its own; the machine's are left as they are.
set -euo pipefail
dir=$1
new=$dir.new
trap 'rm -rf "$new"' EXIT
rm -rf "$new"
mkdir -p "$new/state/lists/partial" "$new/cache/archives/partial"
touch "$new/status"
apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Acquire::Languages=none
  -o APT::Sandbox::User="$(id -un)" -o Dir::State="$new/state" -o Dir::State::status="$new/status" -o Dir::Cache="$new/cache")
"${apt[@]}" update
cd "$new"
# The C library is that of the cross compiler.
"${apt[@]}" download sqlite3 libsqlite3-0 libreadline8 libtinfo6 zlib1g
for package in *.deb; do dpkg -x "$package" root; done
rm -rf "$dir"
mv root "$dir"
