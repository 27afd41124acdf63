#!/bin/bash
# What Node reads in the virtual machine, as a file system of its own that stands above the machine's files there: vm-image.sh IMAGE COMPILED
# Every file that is read from the machine around costs some messages to it and back, each of which waits for a turn of its processors; a
# start of cnmd reads two thousand, which took a minute where other tests ran. What is not in the image is read from the machine around.
set -euo pipefail
mkdir -p "$2"
image=$1 compiled=$(readlink -f "$2")
repository=$(cd "$(dirname "$0")/../.." && pwd -P)
# A git worktree may borrow its packages from another one.
modules=$(readlink -f "$repository/node_modules")
tree=$(mktemp -d "$image.XXXXXX")
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"

read_by_node=('(' -name '*.ts' -o -name '*.js' -o -name '*.cjs' -o -name '*.mjs' -o -name '*.json' -o -name '*.node' -o -name '*.wasm' -o -name '*.sh' ')')
# Tools of which no test runs anything, and declarations, which are for one of them.
tools=('(' -path '*/typescript' -o -path '*/@typescript' -o -path '*/@typescript-eslint' -o -path '*/prettier' -o -path '*/node/bin' -o -path '*/tshy' -o -path '*/@types' ')')

# Names from the root, as tar wants them.
files() {
  local path
  # With their own owners and modes: a folder looks as its topmost layer has it.
  for path in "$repository" "$modules" "$compiled"; do
    while [ "$path" != / ]; do printf '%s\0' "${path#/}"; path=$(dirname "$path"); done
  done
  find "${repository#/}" -mindepth 1 '(' -name node_modules -o -name '.?*' ')' -prune -o -type f "${read_by_node[@]}" -print0
  find "${modules#/}" "${tools[@]}" -prune -o -type f "${read_by_node[@]}" ! -name '*.d.*ts' -print0
  find "${compiled#/}" -type f -print0
}

cd /
files | tar --create --null --no-recursion --files-from=- --ignore-failed-read --warning=no-file-changed |
  tar --extract --directory="$tree" --preserve-permissions
truncate --size 2G "$image.part"
mke2fs -q -F -t ext4 -O ^has_journal -m 0 -d "$tree" "$image.part"
mv "$image.part" "$image"
