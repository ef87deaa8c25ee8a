#!/usr/bin/env bash
# install.sh DIR: Ceph's programs for the tests, of Debian's packages. Root installs them. Anybody
# else unpacks them below DIR, with those that they need and this machine has not. No daemon is
# started. Where neither can be done the tests are left out; that is no failure.
#
# A manager, which quotas of pools need, is unpacked into DIR-mgr without its modules in Python, and
# what they need; where that cannot be done its tests are left out.
#
# install.sh DIR ask does nothing, and fails if Ceph is not there.
set -euo pipefail
dir=$1 task=${2-}
packages="ceph-mon ceph-osd ceph-common librados2 libsqlite3-mod-ceph"

complete() { # ROOT
  local file
  for file in bin/ceph bin/ceph-authtool bin/ceph-mon bin/ceph-osd bin/monmaptool bin/rados \
    "lib/*/librados.so.2" "lib/*/libcephsqlite.so"; do
    compgen -G "$1/usr/$file" >/dev/null || return 1
  done
}

install() {
  # what dpkg asks whether a service may start: 101 means no
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q --no-install-recommends $packages ||
    { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; }
}

unpack() {
  local needed file
  needed=$(apt-get --simulate --no-install-recommends install $packages | sed -n 's/^Inst \([^ ]*\) .*/\1/p')
  rm -rf "$dir.new"
  mkdir -p "$dir.new/packages"
  cd "$dir.new/packages"
  apt-get download $needed
  for file in *.deb; do
    dpkg -x "$file" "$dir.new"
  done
  rm -rf "$dir.new/packages" "$dir"
  complete "$dir.new"
  mv "$dir.new" "$dir"
}

manager() {
  local needed file
  needed=$(apt-get --simulate --no-install-recommends install ceph-mgr | sed -nE 's/^Inst (ceph-mgr|libboost-python[^ ]*) .*/\1/p')
  [ -n "$needed" ]
  rm -rf "$dir-mgr.new"
  mkdir -p "$dir-mgr.new/packages"
  cd "$dir-mgr.new/packages"
  apt-get download $needed
  for file in *.deb; do
    dpkg -x "$file" "$dir-mgr.new"
  done
  rm -rf "$dir-mgr.new/packages" "$dir-mgr"
  mv "$dir-mgr.new" "$dir-mgr"
}

case $task in
install | unpack | manager) $task; exit ;;
esac
if [ "$task" != ask ] && command -v apt-get >/dev/null && ! command -v ceph-mgr >/dev/null && [ ! -e "$dir-mgr" ]; then
  echo "unpacking Ceph's manager for the tests, once"
  bash "$0" "$dir" manager >"$dir-mgr.log" 2>&1 || echo "no manager of Ceph: the tests of quotas are left out"
fi
if complete "" || complete "$dir"; then exit; fi
[ "$task" != ask ] || exit 1
if ! command -v apt-get >/dev/null; then
  echo "no Ceph (ceph-mon, ceph-osd, librados2, libcephsqlite): the tests of RADOS are left out"
  exit
fi
if [ "$(id -u)" = 0 ]; then
  task=install
  echo "installing Ceph for the tests, which starts no daemon"
else
  task=unpack
  echo "unpacking Ceph for the tests, once"
fi
# by itself: bash ignores set -e in what stands before ||
bash "$0" "$dir" $task >"$dir.log" 2>&1 ||
  { echo "no Ceph: the tests of RADOS are left out. $dir.log ends:"; tail -n 3 "$dir.log"; }
