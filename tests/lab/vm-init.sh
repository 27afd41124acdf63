#!/busybox sh
# The virtual machine's first process: puts the files of the machine around it, read-only, below what this machine writes in memory.
b=/busybox
$b mkdir -p /proc /dev /lower /kernel /image /memory /new
$b mount -t proc proc /proc
$b mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do $b insmod "$module" || $b echo "vm-init.sh: $module"; done

# cnm.NAME=VALUE on the kernel's command line.
value() { $b sed -n "s/.* cnm\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# Nobody writes through these, so that what was read once may be kept: a name is looked up thousands of times when Node starts.
nine=ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose
$b mount -t 9p -o "$nine" machine /lower
$b mount -t 9p -o "$nine" kernel /kernel
# What Node reads (vm-image.sh), if there is one.
$b mount -t ext4 -o ro,noatime /dev/vda /image || $b echo 'vm-init.sh: no image'
$b mount -t tmpfs -o size=75% tmpfs /memory
$b mkdir /memory/upper /memory/work
# The modules are seen in the lab's hosts too, whose files stand on these.
$b mount -t overlay -o lowerdir=/image:/lower:/kernel,upperdir=/memory/upper,workdir=/memory/work overlay /new
exec $b switch_root /new /bin/bash "$(value guest)" "$(value folder)" "$(value compiled)"
