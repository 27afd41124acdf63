#!/busybox sh
# The virtual machine's first process: the machine's own files, read-only, below what this machine writes in memory.
b=/busybox
$b mkdir -p /proc /sys /dev /lower /kernel /memory /new
$b mount -t proc proc /proc
$b mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do $b insmod "$module" || $b echo "vm-init: $module"; done
nine=trans=virtio,version=9p2000.L,msize=524288,cache=mmap
$b mount -t 9p -o "ro,$nine" machine /lower
$b mount -t 9p -o "ro,$nine" kernel /kernel
$b mount -t tmpfs -o size=75% tmpfs /memory
$b mkdir /memory/upper /memory/work

# cnm.NAME=VALUE on the kernel's command line.
value() { $b sed -n "s/.* cnm\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# Its modules are seen in the lab's hosts too, whose files stand on these.
$b mount -t overlay -o lowerdir=/lower:/kernel,upperdir=/memory/upper,workdir=/memory/work overlay /new
exec $b switch_root /new /bin/bash "$(value guest)" "$(value results)"
