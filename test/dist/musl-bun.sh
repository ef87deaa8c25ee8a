#!/usr/bin/env bash
# musl-bun.sh DIR VERSION WHEEL: into DIR a Bun that is linked with musl, from npm, and the C++
# libraries of musl that it needs, from a Python wheel that brings them.
set -euo pipefail
dir=$1 version=$2 wheel=$3
package=@oven/bun-linux-x64-musl-baseline
new=$dir.new
trap 'rm -rf "$new"' EXIT
rm -rf "$new"
mkdir -p "$new/bun"
cd "$new"
echo '{"private": true}' >package.json
# --force: npm sees that this machine's C library is another one.
npm install --force --no-audit --no-fund --loglevel=error "$package@$version"
mv "node_modules/$package/bin/bun" bun/bun
/usr/bin/python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
  --platform musllinux_1_1_x86_64 --python-version 3.12 --implementation cp "$wheel"
/usr/bin/python3 -m zipfile -e ./*.whl wheel
cp wheel/*.libs/lib* bun
ln -s "$(basename bun/libstdc++-*)" bun/libstdc++.so.6
ln -s "$(basename bun/libgcc_s-*)" bun/libgcc_s.so.1
chmod 755 bun/bun
rm -rf "$dir"
mv bun "$dir"
