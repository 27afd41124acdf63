#!/bin/bash
# Makes a virtual machine's kernel and initial file system, once: make-vm.sh DIR
# Debian's own kernel with all its modules (sctp, 8021q, netem, dummy, …), which the kernel below may lack. Unpacked, not installed.
# DIR/vmlinuz, DIR/initrd, DIR/release, DIR/tree/usr/lib/modules/RELEASE.
set -eu
dir=$1
init=$(cd "$(dirname "$0")" && pwd)/vm-init.sh
mkdir -p "$dir"
exec 9> "$dir.lock"
flock 9
[ ! -e "$dir/release" ] || exit 0

# The generic kernel: the cloud kernel is without 9p.
package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$package" ] || { echo 'make-vm.sh: apt knows no linux-image-amd64; run apt-get update' >&2; exit 1; }
rm -rf "$dir/tree" "$dir/initramfs"
mkdir -p "$dir/tree" "$dir/initramfs/modules"
cd "$dir"
apt-get download --quiet "$package" > download.log 2>&1 || { cat download.log >&2; exit 1; }
dpkg-deb --extract "$package"_*.deb tree
rm -f "$package"_*.deb
mkdir -p tree/usr/lib
mv tree/lib/modules tree/usr/lib/modules
release=$(basename tree/usr/lib/modules/*)
depmod --basedir tree/usr "$release"
mv "tree/boot/vmlinuz-$release" vmlinuz

# What it takes to reach the machine's own files; each with what it needs, in that order.
n=100
for module in virtio_pci 9pnet_virtio 9p overlay; do
  modprobe --dirname tree/usr --set-version "$release" --show-depends "$module" | sed -n 's/^insmod //p'
done | awk '!seen[$0]++' | while read -r path; do
  cp "$path" "initramfs/modules/$n-$(basename "$path")"
  n=$((n + 1))
done
cp /bin/busybox initramfs/busybox
cp "$init" initramfs/init
chmod 755 initramfs/init
(cd initramfs && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) > initrd
echo "$release" > release
