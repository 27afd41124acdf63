#!/bin/bash
# PID 1 of a lab host, started in new net, mount, PID, UTS and IPC namespaces.
#   init.sh NAME DIR TREE REPOSITORY
# Gives the host a file system of its own: TREE (/, or an unpacked Debian suite) below, and everything that the host
# writes in DIR. DIR/host and the repository are visible inside under the same paths as outside.
set -eu
name=$1 dir=$2 tree=$3 repository=$4
root=$dir/root

mount --make-rprivate /
hostname "$name"
mkdir -p "$root" "$dir/upper" "$dir/work" "$dir/host"
own=yes
if [ "${CNM_LAB_OVERLAY:-yes}" = no ] ||
   ! mount -t overlay overlay -o "lowerdir=$tree,upperdir=$dir/upper,workdir=$dir/work" "$root" 2>/dev/null; then
  # The temporary folder is itself on an overlay: share the tree instead. Only /run, /tmp and DIR/host are private.
  mount --bind "$tree" "$root"
  own=no
fi

mount -t proc proc "$root/proc"
# A sysfs mounted here shows this namespace's links; the cgroups must be put back into it, or dockerd finds none.
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/run/lock" "$root/run/docker/plugins"
# A git worktree may borrow its packages from another one.
for folder in "$dir/host" "$repository" "$(readlink -f "$repository/node_modules")"; do
  mkdir -p "$root$folder"
  mount --rbind "$folder" "$root$folder"
done

# The resolver of 'the world' (openLab), never the machine's own.
echo 'nameserver 203.0.113.1' > "$dir/host/resolv.conf"
if [ "$own" = yes ]; then
  rm -f "$root/etc/resolv.conf"
  cp "$dir/host/resolv.conf" "$root/etc/resolv.conf"
  echo "$name" > "$root/etc/hostname"
elif [ ! -L /etc/resolv.conf ]; then
  mount --bind "$dir/host/resolv.conf" "$root/etc/resolv.conf"
fi

cd "$root"
mkdir -p "$root/run/outside"
pivot_root . run/outside
# runc refuses to start a container while the old root is visible.
umount -l /run/outside
rmdir /run/outside
# As systemd has it on a real host, among the mounts of this namespace only: a managed plugin's mounts need it.
mount --make-rshared /
# As systemd has it: mounts of the host are seen in the mount namespaces that it makes afterwards (a managed plugin's).
mount --make-rshared /
ip link set lo up
echo ready
# Bash reaps whatever is orphaned to it.
while :; do sleep 3600 & wait $!; done
