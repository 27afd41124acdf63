#!/bin/bash
# Makes what the virtual machine of vm.sh starts from, once: make-vm.sh DIR
#   DIR/vmlinuz, DIR/tree/usr/lib/modules/RELEASE   Debian's own kernel and modules (sctp, 8021q, netem, …), unpacked and not installed
#   DIR/initrd                                      what mounts the machine's own files; made anew when vm-init.sh or this has changed
set -euo pipefail
dir=$1
here=$(cd "$(dirname "$0")" && pwd)

# The generic kernel's package, as apt names it today: the cloud kernel is without 9p.
kernel_package() {
  apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

# apt's lists may be missing, or name a kernel that the mirror has no more: they are fetched only when it does not go without.
download() {
  local package
  package=$(kernel_package)
  [ -n "$package" ] && apt-get download --quiet "$package"
}

# Hardware that the machine does not have is half of the package.
unpack() {
  local skip=() folder
  for folder in gpu media infiniband scsi staging usb hid iio input net/ethernet net/wireless; do
    skip+=("--exclude=*/kernel/drivers/$folder")
  done
  dpkg-deb --fsys-tarfile "$1" | tar --extract --directory="$2" "${skip[@]}" --exclude='*/kernel/sound' --exclude='./usr/share'
}

make_kernel() {
  rm -rf "$dir"
  mkdir -p "$dir/part"
  cd "$dir/part"
  { download || { apt-get update --quiet && download; }; } > "$dir/download.log" 2>&1 || {
    cat "$dir/download.log" >&2
    echo 'make-vm.sh: apt could not get the kernel of linux-image-amd64' >&2
    exit 1
  }
  mkdir -p "$dir/tree/usr/lib" unpacked
  unpack linux-image-*.deb unpacked
  mv unpacked/lib/modules "$dir/tree/usr/lib/modules"
  mv unpacked/boot/vmlinuz-* "$dir/vmlinuz"
  local release
  release=$(ls "$dir/tree/usr/lib/modules")
  depmod --basedir "$dir/tree/usr" "$release"
  cd "$dir"
  rm -rf part
  echo "$release" > release
}

# What it takes to reach the machine's own files: each module after those that it needs.
modules() {
  local module
  for module in virtio_pci 9pnet_virtio 9p overlay virtio_blk ext4; do
    modprobe --dirname "$dir/tree/usr" --set-version "$(cat "$dir/release")" --show-depends "$module" | sed -n 's/^insmod //p'
  done | awk '!seen[$1]++ { print $1 }'
}

make_initrd() {
  local root=$dir/initramfs n=100 path
  rm -rf "$root"
  mkdir -p "$root/modules"
  for path in $(modules); do
    cp "$path" "$root/modules/$n-$(basename "$path")"
    n=$((n + 1))
  done
  # Newer kernels' packages have them compressed.
  find "$root/modules" -name '*.xz' -exec unxz {} +
  cp /bin/busybox "$root/busybox"
  cp "$here/vm-init.sh" "$root/init"
  chmod 755 "$root/init"
  (cd "$root" && find . | busybox cpio -o -H newc 2> /dev/null | gzip -1) > "$dir/initrd.part"
  rm -rf "$root"
  mv "$dir/initrd.part" "$dir/initrd"
}

mkdir -p "$(dirname "$dir")"
# Two tests may want it at once: the second waits for the first.
exec 9> "$dir.lock"
flock 9
[ -e "$dir/release" ] || make_kernel
content=$(cat "$here/vm-init.sh" "$here/make-vm.sh" /bin/busybox | sha256sum)
if [ "$(cat "$dir/initrd-content" 2> /dev/null)" != "$content" ]; then
  make_initrd
  echo "$content" > "$dir/initrd-content"
fi
