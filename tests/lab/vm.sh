#!/bin/bash
# Runs a command in a virtual machine with Debian's own kernel, for what this machine's kernel lacks:
#   vm.sh FOLDER COMMAND [ARGUMENT …]
#   vm.sh FOLDER bash                   a shell in it
# The machine has this one's programs and files, of which it changes nothing but what is in FOLDER (what it writes elsewhere is in its
# memory), one processor, and no network but what the command makes. The command runs as root where vm.sh was called; its output and exit
# status come back. Without KVM all is emulated, some ten times slower.
#
# Exit status 69 (EX_UNAVAILABLE, sysexits.h): there can be no machine here; 75 (EX_TEMPFAIL): there was one, which did not start or did
# not come to an end within CNM_VM_LIMIT seconds (1800). Why is on standard error.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The number changes with what make-vm.sh makes.
vm=${CNM_LAB_CACHE:-/var/cache/cnm-lab}/vm-1
boot_limit=600
limit=${CNM_VM_LIMIT:-1800}

say() { echo "vm.sh: $*" >&2; }
unavailable() { say "no virtual machine: $*"; exit 69; }

[ $# -ge 2 ] || { sed -n '2,4p' "$0" >&2; exit 64; }
[ "$(uname -m)" = x86_64 ] || unavailable "it is an x86_64 with this machine's own programs, which are for $(uname -m)"
for program in qemu-system-x86_64 depmod busybox mke2fs; do
  command -v "$program" > /dev/null || unavailable "$program is not installed; tests/install-packages.sh does it"
done
folder=$(realpath -e "$1") || exit 64
shift
bash "$here/make-vm.sh" "$vm" || unavailable 'its kernel could not be had (above)'

# Former states of the sources; what is still of use is compiled anew.
[ ! -d "$vm/compiled" ] || find "$vm/compiled" -type f -mtime +2 -delete
# Compiled here, where it is fast, for every Node that starts in there.
NODE_COMPILE_CACHE=$vm/compiled bash "$here/vm-compile.sh" || say 'nothing could be compiled beforehand; the machine will be slow'

rm -rf "$folder/.vm"
mkdir "$folder/.vm"
bash "$here/vm-image.sh" "$folder/.vm/image" "$vm/compiled" || { say 'the image of what Node reads could not be made'; exit 75; }
{
  [ -z "${FC_SEED:-}" ] || printf 'export FC_SEED=%q\n' "$FC_SEED"
  printf 'cd %q\n' "$PWD"
  printf '%q ' "$@"
} > "$folder/.vm/command"
[ ! -t 0 ] || stty size | sed 's/\(.*\) \(.*\)/rows \1 cols \2/' > "$folder/.vm/terminal"

# No protection of the kernel from its own programs, which costs an emulated processor much of its time; and time is read without its help.
boot="console=ttyS0 quiet panic=-1 mitigations=off nokaslr apparmor=0 audit=0 init_on_alloc=0 nowatchdog tsc=reliable"
# One processor: two that wait for each other's locks while a loaded machine runs neither are many times slower. Without protection keys,
# which V8 turns on and off around all that it compiles, each time at the cost of the emulator's whole address cache (helper_wrpkru()).
machine=(
  qemu-system-x86_64 -accel tcg -cpu max,-pku,la57=off -smp 1 -m 4096 -display none -monitor none -no-reboot -nic none
  -kernel "$vm/vmlinuz" -initrd "$vm/initrd" -append "$boot cnm.guest=$here/vm-guest.sh cnm.folder=$folder cnm.compiled=$vm/compiled "
  -serial "file:$folder/.vm/console" -chardev stdio,id=command,signal=off -serial chardev:command
  -drive "file=$folder/.vm/image,format=raw,if=virtio,readonly=on"
  -virtfs local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap
  -virtfs "local,path=$vm/tree,mount_tag=kernel,security_model=none,readonly=on"
  -virtfs "local,path=$folder,mount_tag=folder,security_model=none"
)

exec 3<&0
# The kernel ends it when this script dies, however it dies.
setpriv --pdeathsig KILL "${machine[@]}" <&3 2> "$folder/.vm/qemu" &
pid=$!

killed=
end=$((SECONDS + boot_limit))
booted=no
while kill -0 "$pid" 2> /dev/null; do
  if [ $booted = no ] && [ -e "$folder/.vm/booted" ]; then
    booted=yes
    # It has it open.
    rm -f "$folder/.vm/image"
    end=$((SECONDS + limit))
  fi
  if [ "$SECONDS" -ge "$end" ]; then
    killed=yes
    kill -KILL "$pid"
  fi
  sleep 0.3
done
wait "$pid" 2> /dev/null
ended=$?

[ ! -e "$folder/.vm/status" ] || exit "$(cat "$folder/.vm/status")"
if [ -z "$killed" ]; then
  say "the virtual machine ended by itself (qemu's exit status $ended) before its command did"
elif [ $booted = no ]; then
  say "the virtual machine did not start within $boot_limit s and was killed"
else
  say "the virtual machine was killed: its command did not end within $limit s"
fi
say 'the last lines of its console:'
cat "$folder/.vm/qemu" >&2
tail -n 40 "$folder/.vm/console" >&2
exit 75
