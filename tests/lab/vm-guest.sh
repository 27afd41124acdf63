#!/bin/bash
# Runs in the virtual machine, as its PID 1: vm-guest.sh RESULTS
# Each file that RESULTS/vm-files names, as tests/run-lab.sh runs it; its results go where this machine can write.
results=$1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=true CNM_LAB_PATIENCE=6
cd "$(dirname "$0")/../.."

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
for folder in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd has them: a lab's hosts take and give mounts.
mount --make-rshared /
ip link set lo up
hostname vm

mkdir -p "$results"
mount -t 9p -o rw,trans=virtio,version=9p2000.L,msize=524288 results "$results"
# On the file system that the lab's hosts stand on.
export NODE_COMPILE_CACHE=/var/cache/cnm-lab-compiled
node_modules/.bin/node main.ts --version > /dev/null

while read -r file; do
  # shellcheck disable=SC2046 # a list of modules
  modprobe --all $(sed -n 's|^// lab: vm \(.*\)$|\1|p' "$file") || echo "vm-guest.sh: no module of: $file" >&2
  bash tests/run-lab.sh --one "$file" "$results"
done < "$results/vm-files"
sync
# There is no init to ask.
echo o > /proc/sysrq-trigger
sleep 60
