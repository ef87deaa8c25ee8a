# env.sh DIR: the variables by which tests find Ceph if it was unpacked into DIR; else nothing.
dir=$1
[ -e "$dir/usr/bin/ceph-mon" ] || exit 0
paths=
for lib in "$dir"/usr/lib/*-linux-gnu "$dir"/lib/*-linux-gnu; do
  [ ! -d "$lib" ] || paths=$paths:$lib:$lib/ceph
done
echo "VERNEUIL_CEPH=$dir LD_LIBRARY_PATH=${paths#:}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
