#!/bin/bash
# Runs root tests in a virtual machine with Debian's own kernel: vm.sh RESULTS FILE …
# It has this machine's programs and files (read-only), two processors and no network but what a test makes. Emulated, without KVM:
# some five times slower, so only for what this machine's kernel lacks. Each file names the modules that it needs: // lab: vm sctp
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$1
shift
vm=${CNM_LAB_CACHE:-/var/cache/cnm-lab}/vm
bash "$here/make-vm.sh" "$vm"

printf '%s\n' "$@" > "$results/vm-files"
console=$results/vm.console
timeout --kill-after=10 1500 qemu-system-x86_64 \
  -accel tcg,thread=multi -cpu max -smp 2 -m 6144 -nographic -no-reboot -nic none \
  -kernel "$vm/vmlinuz" -initrd "$vm/initrd" \
  -append "console=ttyS0 quiet panic=-1 cnm.guest=$here/vm-guest.sh cnm.results=$results " \
  -virtfs local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$vm/tree,mount_tag=kernel,security_model=none,readonly=on" \
  -virtfs "local,path=$results,mount_tag=results,security_model=none" \
  < /dev/null > "$console" 2>&1 || { echo "vm.sh: the virtual machine ended with status $?:" >&2; tail -n 30 "$console" >&2; }
# What the files printed about themselves, as if they had been run here.
grep -aE '^(ok|FAIL) +[0-9.]+s ' "$console" | tr -d '\r' || true
