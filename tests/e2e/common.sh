#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by the shell tests in tests/ after "set -uo pipefail" (with -e where the first failure ends the test).
#   $dir                 a temporary directory, removed at the end; a function cleanup, if there is one, is called before
#   ranks NP COMMAND...  COMMAND on NP ranks; after 60 s ($limit, times ESPL_TEST_SLOW) it counts as hanging: exit code 124
#   $all_ranks           the numbers of ranks to try: 1 2 3 4, or ESPL_TEST_RANKS (consecutive, from 1)
#   ok; bad TEXT         count a check that holds, or that does not and say so; a test goes on after bad
#   die TEXT             ends the test
#   expect TEXT OUTPUT   ends the test unless OUTPUT contains TEXT
#   only DIR NAME...     ends the test unless DIR holds these files and nothing else
#   end_of_test          the last line of a test that uses ok and bad: prints the counts, exit code 1 after a bad
dir=$(mktemp -d)
end_of_shell() {
  if declare -F cleanup >/dev/null; then cleanup; fi
  rm -rf "$dir"
}
trap end_of_shell EXIT

export LC_ALL=C OMP_NUM_THREADS=1 # more ranks than cores
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none

# shellcheck disable=SC2034 # used by those who source this
limit=60 all_ranks=${ESPL_TEST_RANKS:-1 2 3 4}
ranks() {
  local np=$1
  shift
  timeout $((limit * ${ESPL_TEST_SLOW:-1})) mpirun -n "$np" "$@"
}

passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() {
  failed=$((failed + 1))
  printf 'FAILED: %s\n' "$*"
}
end_of_test() {
  printf '%d passed, %d failed\n' $passed $failed
  [ $failed -eq 0 ]
}

die() {
  printf '%s\n' "$*" >&2
  exit 1
}
expect() { [[ $2 == *"$1"* ]] || die "expected a message with \"$1\", got: $2"; }
only() {
  local found=$1
  shift
  [ "$(ls -A "$found")" = "$(printf '%s\n' "$@")" ] || die "$found holds: $(ls -A "$found")"
}
