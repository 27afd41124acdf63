#!/bin/bash
# Compiles what Node runs in the virtual machine into NODE_COMPILE_CACHE (Node's module.enableCompileCache()): an emulated processor takes
# seconds for the first TypeScript file of every process, which it must strip of its types, and this one takes none.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/node_modules/.bin:$PATH"

mapfile -t tests < <(grep -rl '^// lab: vm\b' tests --include='*.test.ts')
{
  node main.ts --version
  node inspect/cnm.ts --version
  node --eval 'import("tap")'
  # What a daemon loads only where there is a cluster.
  node tests/lab/vm-compile.ts store/etcd.ts inspect/cli/*.ts tests/property-seed.ts "${tests[@]}"
} > /dev/null
