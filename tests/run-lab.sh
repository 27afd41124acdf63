#!/bin/bash
# The root tests: every tests/**/*.test.ts but tests/layout*.test.ts, which needs no root.
#   tests/run-lab.sh [FILE …]
# One file more than there are processors at a time, for they wait half of theirs, each with a time limit. A file can ask for something else in a comment of its own:
#   // lab: alone           while nothing else runs (it measures time, or loads the machine)
#   // lab: timeout 1200    seconds instead of 600 (1800 in the virtual machine)
#   // lab: vm sctp 8021q   in a virtual machine with Debian's own kernel (tests/lab/vm.sh), with these modules, where this kernel lacks them;
#                           all such files in one machine, one after the other, beside the rest
# A file that there is no such machine for is NOT RUN, which is a failure; with CNM_LAB_VM=no it is only said.
# Prints a table of durations, the output of what failed, and at the end "N passed, N failed" (assertions).
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

# Seconds that a file may take; in the virtual machine, which is slow, thrice as long.
limit_of() {
  local limit usual=600
  ! grep -q '^// lab: vm\b' "$1" || usual=1800
  limit=$(sed -n 's|^// lab: timeout \([0-9]\+\)$|\1|p' "$1" | head -n 1)
  echo "${limit:-$usual}"
}

# One file: its output and "STATUS SECONDS PASSED FAILED FILE" go to files in $results.
run_one() {
  local file=$1 results=$2 limit start status name totals passed failed
  name=${file//\//_}
  limit=$(limit_of "$file")
  start=$EPOCHREALTIME
  # tap ends the file itself, with its teardown, shortly before it is killed.
  TAP_TIMEOUT=$limit timeout --kill-after=20 "$((limit + 20))" node --import ./tests/property-seed.ts "$file" > "$results/$name.out" 2>&1 < /dev/null
  status=$?
  # "# { total: 3, pass: 2, fail: 1 }", tap's own count of assertions; the last line of the kind is the whole file's.
  totals=$(grep -aE '^# \{ total: ' "$results/$name.out" | tail -n 1)
  passed=$(sed -n 's/.*[ {]pass: \([0-9]\+\).*/\1/p' <<< "$totals")
  failed=$(sed -n 's/.*[ {]fail: \([0-9]\+\).*/\1/p' <<< "$totals")
  passed=${passed:-0} failed=${failed:-0}
  # Killed, crashed, or an error outside of any assertion.
  [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
  # A file that counts nothing has tested nothing.
  [ $((passed + failed)) -gt 0 ] || failed=1
  local seconds
  seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  echo "$status $seconds $passed $failed $file" > "$results/$name.result"
  printf '%-4s %7ss  %5d passed %4d failed  %s\n' "$([ "$failed" -eq 0 ] && echo ok || echo FAIL)" "$seconds" "$passed" "$failed" "$file"
  # Why, in the table too: it is all that some records of CI keep.
  [ "$failed" -eq 0 ] || grep -a -m 3 '^ *not ok' "$results/$name.out" | sed 's/^ */              /' | cut -c1-400
}

# Inside the virtual machine.
run_in_vm() {
  local results=$1 file
  shift
  for file in "$@"; do
    # shellcheck disable=SC2046 # a list of modules
    modprobe --all $(sed -n 's|^// lab: vm \(.*\)$|\1|p' "$file") || echo "run-lab.sh: the kernel lacks a module of $file"
    run_one "$file" "$results"
  done
}

# A result for each file that the machine left none for: exit status 69 is that there was no machine.
run_vm() {
  local results=$1 status=69 limit=0 file
  shift
  # Each file has its own limit inside; this is for a machine that hangs.
  for file in "$@"; do limit=$((limit + $(limit_of "$file") + 30)); done
  if [ "${CNM_LAB_VM:-}" = no ]; then
    echo 'run-lab.sh: CNM_LAB_VM=no' > "$results/vm.err"
  else
    CNM_VM_LIMIT=$limit bash tests/lab/vm.sh "$results" bash "$PWD/tests/run-lab.sh" --in-vm "$results" "$@" < /dev/null 2> "$results/vm.err"
    status=$?
  fi
  for file in "$@"; do
    [ ! -e "$results/${file//\//_}.result" ] || continue
    printf '%s  %s: %s\n' "$([ "$status" -eq 69 ] && echo 'NOT RUN' || echo 'FAIL   ')" "$file" "$(grep -m 1 -E "^(vm|run-lab)\.sh:" "$results/vm.err")"
    cat "$results/vm.err" >> "$results/${file//\//_}.out"
    echo "$status 0 0 $([ "${CNM_LAB_VM:-}" = no ] && echo 0 || echo 1) $file" > "$results/${file//\//_}.result"
  done
}

case ${1:-} in
  --one) run_one "$2" "$3"; exit 0 ;;
  --in-vm) shift; run_in_vm "$@"; exit 0 ;;
esac

if [ "$(id -u)" -ne 0 ]; then
  echo 'tests/run-lab.sh: these tests make network namespaces and run Docker Engines: they need root' >&2
  exit 1
fi

if [ $# -gt 0 ]; then
  files=("$@")
else
  # The lab's own tests first: what fails there explains the rest.
  mapfile -t files < <(
    find tests/lab -name '*.test.ts' | sort
    find tests -name '*.test.ts' ! -path 'tests/lab/*' ! -path 'tests/layout*' | sort
  )
fi

results=$(mktemp -d "${TMPDIR:-/tmp}/cnm-lab-results.XXXXXX")
trap 'rm -rf "$results"' EXIT
# See run-all.sh, from which it usually comes.
export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$results/compiled}"
# The managed plugin's image, built once by the first test that wants it.
export CNM_LAB_PLUGIN="$results/plugin"

together=() alone=() vm=()
for file in "${files[@]}"; do
  if grep -q '^// lab: vm\b' "$file"; then vm+=("$file")
  elif grep -q '^// lab: alone$' "$file"; then alone+=("$file")
  else together+=("$file"); fi
done
# The virtual machine beside them: they wait half of their time, and it computes all of its own.
[ ${#vm[@]} -eq 0 ] || { run_vm "$results" "${vm[@]}" & }
[ ${#together[@]} -eq 0 ] || printf '%s\0' "${together[@]}" | xargs -0 -P "$(($(nproc) + 1))" -I{} bash "$PWD/tests/run-lab.sh" --one {} "$results"
wait
for file in "${alone[@]}"; do bash "$PWD/tests/run-lab.sh" --one "$file" "$results"; done

passed=0 failed=0
for file in "${files[@]}"; do
  result=$results/${file//\//_}
  read -r status _ p f _ < "$result.result" 2>/dev/null || { status=none p=0 f=1; }
  passed=$((passed + p)) failed=$((failed + f))
  if [ "$f" -gt 0 ]; then
    printf '\n==== %s (exit status %s)\n' "$file" "$status"
    [ "$status" != 124 ] && [ "$status" != 137 ] || echo '==== killed, or stopped at its time limit'
    # What failed, and the daemons' words: whoever reads CI's record may be shown the first lines alone.
    grep -a -A 30 '^ *not ok' "$result.out" 2>/dev/null | head -n 120
    echo '==== the end of its output'
    tail -n 250 "$result.out" 2>/dev/null
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
