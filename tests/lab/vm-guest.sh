#!/bin/bash
# PID 1 of the virtual machine: vm-guest.sh FOLDER COMPILED
# Runs FOLDER/.vm/command with the second serial line as its terminal, leaves its exit status in FOLDER/.vm/status, and ends the machine.
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
# Time limits of the lab are stretched by this: everything is emulated.
export CNM_LAB_PATIENCE=20
# To a test file that it is in its place (openLab).
export CNM_LAB_VM=inside
# What Node compiled on the machine around this one (vm.sh).
export NODE_COMPILE_CACHE=$2

mount_all() {
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t devtmpfs devtmpfs /dev
  mkdir -p /dev/pts /dev/shm
  mount -t devpts -o ptmxmode=666 devpts /dev/pts
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  # As systemd has them: the lab's hosts take and give mounts.
  mount --make-rshared /
  mkdir -p "$folder"
  mount -t 9p -o rw,trans=virtio,version=9p2000.L,msize=524288 folder "$folder"
  # An overlay's upper layer cannot be on an overlay, as /tmp is here; and /tmp may be where the project is.
  export TMPDIR=/vm-tmp
  mkdir "$TMPDIR"
  mount -t tmpfs -o mode=1777,size=75% tmpfs "$TMPDIR"
}

mount_all
ip link set lo up
hostname vm
touch "$folder/.vm/booted"

exec 3<> /dev/ttyS1
# A person at a terminal wants an echo and line ends; a test's output comes as it is.
if [ -e "$folder/.vm/terminal" ]; then
  # shellcheck disable=SC2046 # "rows N cols N"
  stty $(cat "$folder/.vm/terminal") <&3
else
  stty raw -echo <&3
fi
setsid --ctty --wait bash "$folder/.vm/command" <&3 >&3 2>&3 3>&-
status=$?
# Waits until the line is empty.
exec 3>&-
echo "$status" > "$folder/.vm/status"
umount "$folder"
# There is no init to ask.
echo o > /proc/sysrq-trigger
sleep 60
