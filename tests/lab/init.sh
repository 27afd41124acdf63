#!/bin/bash
# PID 1 of a lab host, started in new net, mount, PID, UTS and IPC namespaces.
#   init.sh NAME DIR TREE REPOSITORY
# Gives the host a file system of its own: TREE (/, or an unpacked Debian suite) below, and everything that the host
# writes in DIR. DIR/host and the repository are visible inside under the same paths as outside.
set -eu
name=$1 dir=$2 tree=$3 repository=$4
root=$dir/root

# unshare(1) has made all mounts private. Few programs are started here, for each takes its time in an emulated machine.
echo "$name" > /proc/sys/kernel/hostname
mkdir -p "$root" "$dir/upper" "$dir/work" "$dir/host"
own=yes
if [ "${CNM_LAB_OVERLAY:-yes}" = no ] ||
   ! mount -t overlay overlay -o "lowerdir=$tree,upperdir=$dir/upper,workdir=$dir/work" "$root" 2>/dev/null; then
  # The temporary folder is itself on an overlay: share the tree instead. Only /run, /tmp and DIR/host are private.
  mount --bind "$tree" "$root"
  own=no
fi

# A line of fstab(5): SOURCE TARGET TYPE OPTIONS.
entry() { echo "${1// /\\040} $root${2// /\\040} $3 $4 0 0"; }
{
  entry proc /proc proc defaults
  # A sysfs mounted here shows this namespace's links; the cgroups must be put back into it, or dockerd finds none.
  entry sysfs /sys sysfs defaults
  entry /sys/fs/cgroup /sys/fs/cgroup none rbind
  entry /dev /dev none rbind
  entry tmpfs /run tmpfs mode=755
  entry tmpfs /tmp tmpfs mode=1777
  # A git worktree may borrow its packages from another one.
  for folder in "$dir/host" "$repository" "$(readlink -f "$repository/node_modules")"; do
    entry "$folder" "$folder" none rbind,X-mount.mkdir
  done
} > "$dir/fstab"
mount --all --fstab "$dir/fstab"
mkdir -p "$root/run/lock" "$root/run/docker/plugins" "$root/run/outside"

# The resolver of 'the world' (openLab), never the machine's own.
echo 'nameserver 203.0.113.1' > "$dir/host/resolv.conf"
if [ "$own" = yes ]; then
  rm -f "$root/etc/resolv.conf"
  echo 'nameserver 203.0.113.1' > "$root/etc/resolv.conf"
  echo "$name" > "$root/etc/hostname"
elif [ ! -L /etc/resolv.conf ]; then
  mount --bind "$dir/host/resolv.conf" "$root/etc/resolv.conf"
fi

cd "$root"
pivot_root . run/outside
# runc refuses to start a container while the old root is visible.
umount -l /run/outside
rmdir /run/outside
# As systemd has it: mounts of the host are seen in the mount namespaces that it makes afterwards (a managed plugin's).
mount --make-rshared /
ip link set lo up
echo ready
# Bash reaps whatever is orphaned to it.
while :; do sleep 3600 & wait $!; done
