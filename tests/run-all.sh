#!/bin/bash
# npm test: the unit tests, then the root tests. Ends with the line "N passed, N failed" (assertions of both).
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

output=$(mktemp "${TMPDIR:-/tmp}/cnm-tests.XXXXXX")
# Every process of the run is TypeScript that Node would strip of its types and compile anew: a third of all the time. Node keeps it here
# (module.enableCompileCache()).
NODE_COMPILE_CACHE=$(mktemp -d "${TMPDIR:-/tmp}/cnm-compiled.XXXXXX")
export NODE_COMPILE_CACHE
trap 'rm -rf "$output" "$NODE_COMPILE_CACHE"' EXIT
passed=0 failed=0

# A part that ends with an error but counted no failure has one: it could not even start. One that counts nothing has tested nothing.
add() {
  local status=$1 p=${2:-0} f=${3:-0}
  if [ "$f" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$p" -eq 0 ]; }; then f=1; fi
  passed=$((passed + p)) failed=$((failed + f))
}

if [ "$(id -u)" -eq 0 ] && ! bash tests/install-packages.sh; then
  echo 'tests/run-all.sh: the packages that the tests need could not be installed' >&2
  add 1
fi

echo '== unit tests'
npm run --silent test:unit < /dev/null 2>&1 | tee "$output" | grep -aE '^(not ok|ok|Bail out|# \{|# time)'
status=${PIPESTATUS[0]}
totals=$(grep -aE '^# \{ total: ' "$output" | tail -n 1)
[ "$status" -eq 0 ] || cat "$output"
add "$status" "$(sed -n 's/.*[ {]pass: \([0-9]\+\).*/\1/p' <<< "$totals")" "$(sed -n 's/.*[ {]fail: \([0-9]\+\).*/\1/p' <<< "$totals")"

if [ "$(id -u)" -eq 0 ]; then
  echo '== root tests'
  npm run --silent test:lab < /dev/null 2>&1 | tee "$output"
  status=${PIPESTATUS[0]}
  totals=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$output" | tail -n 1)
  add "$status" "$(sed -n 's/^\([0-9]\+\) passed.*/\1/p' <<< "$totals")" "$(sed -n 's/.*, \([0-9]\+\) failed/\1/p' <<< "$totals")"
else
  echo '== root tests: NOT RUN. They make network namespaces and run Docker Engines; run npm test as root.'
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
