#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: tests/fuzz/run.sh [SECONDS [TARGET...]]
# Builds the libFuzzer targets (preset fuzz: clang, AddressSanitizer, UBSan) and runs each for SECONDS (default 10) on one
# core, two at a time. TARGET: agent, checkpoint, ...; default: all. An hour of everything: tests/fuzz/run.sh 3600
#
# build/fuzz/grown/TARGET keeps the inputs that reached something new, and the next run starts from them, too;
# build/fuzz/findings/TARGET has what crashed, hung or leaked: build/fuzz/tests/fuzz_TARGET FILE repeats it. Exit code 1
# after a finding.
set -euo pipefail
. "$(dirname "$0")/../../jobs/setup.sh"
cd "$ESPL_ROOT"
seconds=${1:-10}
shift $(($# > 0))
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for source in tests/fuzz/fuzz_*.c; do
    target=${source##*/fuzz_}
    targets+=("${target%.c}")
  done
fi
cmake --preset fuzz >/dev/null
cmake --build build/fuzz --target "${targets[@]/#/fuzz_}" -- --quiet

export OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=$ESPL_ROOT/tests/lsan.supp:print_suppressions=0
fuzz() { # TARGET
  local grown=build/fuzz/grown/$1 findings=build/fuzz/findings/$1 log=build/fuzz/$1.log leaks=1 rc=0 executed
  mkdir -p "$grown" "$findings"
  [ "$1" != checkpoint ] || leaks=0 # MPI and HDF5 keep what they allocate; the target counts our own memory
  ASAN_OPTIONS=detect_leaks=$leaks build/fuzz/tests/fuzz_"$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
    -print_final_stats=1 -artifact_prefix="$findings/" "$grown" tests/fuzz/corpus/"$1" >"$log" 2>&1 || rc=$?
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  printf '%-12s %12s executions, %5s inputs kept%s\n' "$1" "$executed" \
    "$(find "$grown" -type f | wc -l)" "$([ $rc -eq 0 ] || echo ", FINDING: see $log and $findings")"
  return $rc
}

failed=0
running=0
for target in "${targets[@]}"; do
  if [ $running -eq 2 ]; then
    wait -n || failed=1
    running=1
  fi
  fuzz "$target" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit $failed
