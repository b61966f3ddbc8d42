#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, from a bare Debian 12: installs packages, builds, runs. Exit 0: all passed.
#   tests/run.sh              everything
#   tests/run.sh --quick      the release build's tests only
#   tests/run.sh --no-skips   a skipped test is a failure; may be combined with --quick
#
# The last lines name and count what was skipped. As root on Debian that is agent/real_server alone, which needs
# llama-cpp-python (docs/agent.md), where mounting is allowed. A test that
# leaves something out prints a line "skipped: WHY", whatever its exit code is.
set -euo pipefail
. "$(dirname "$0")/../jobs/setup.sh"
cd "$ESPL_ROOT"

quick=false no_skips=false
for word in "$@"; do
  case $word in
    --quick) quick=true ;;
    --no-skips) no_skips=true ;;
    *) echo "usage: tests/run.sh [--quick] [--no-skips]" >&2 && exit 2 ;;
  esac
done

skipped=$(mktemp)
# Runs last, also after a failure.
report() {
  local rc=$? count
  count=$(wc -l <"$skipped")
  sed 's/^/skipped: /' "$skipped" >&2
  rm "$skipped"
  if [ $rc -ne 0 ]; then
    espl_say "failed; $count skipped"
  elif $no_skips && [ "$count" -gt 0 ]; then
    espl_say "all other tests passed, but $count skipped"
    exit 1
  else
    espl_say "all tests passed; $count skipped"
  fi
}
trap report EXIT

# Adds the tests of the last ctest run that left something out, with their reasons, and those that ctest itself skipped.
note_skipped() { # PRESET, ctest's output
  awk -v preset="$1" '
    FILENAME != ARGV[2] && match($0, /Testing: /) { test = substr($0, RSTART + RLENGTH) }
    FILENAME != ARGV[2] && /^skipped: / { said[test] = 1; print preset ", " test ": " substr($0, 10) }
    FILENAME == ARGV[2] && /\*\*\*(Skipped|Not Run)/ {
      test = $4
      if (!(test in said)) print preset ", " test ": skipped by ctest"
    }' "build/$1/Testing/Temporary/LastTest.log" "$2" >>"$skipped"
}

run_preset() {
  local rc=0 output
  espl_build "$1"
  espl_say "tests ($1)"
  output=$(mktemp)
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j 2 -R "$2" | tee "$output" || rc=$?
  note_skipped "$1" "$output"
  rm "$output"
  return $rc
}

# The batch scripts on a Slurm of our own, where there can be one.
run_slurm() {
  local rc=0 output
  espl_say "tests (Slurm)"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null ||
    ! espl_install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge; then
    echo "Slurm: it needs root and Debian's packages slurmctld, slurmd, slurm-client, munge" >>"$skipped"
    return 0
  fi
  output=$(mktemp)
  tests/slurm/test_slurm.py build/release/espalier 2>&1 | tee "$output" >&2 || rc=$?
  sed -n 's/^skipped: /Slurm: /p' "$output" >>"$skipped"
  rm "$output"
  [ $rc -eq 0 ] || [ $rc -eq 77 ] # 77: not possible here, and it has said why
}

espl_install "${ESPL_BUILD_PACKAGES[@]}" "${ESPL_PAGE_PACKAGES[@]}" python3 curl ca-certificates clang-format-14 shellcheck \
  universal-ctags codespell
espl_mpi_environment
run_preset release .
if ! $quick; then
  run_slurm
  run_preset sanitize '^(unit|fuzz|mpi|fault)/|^e2e/short'
  espl_install clang libclang-rt-14-dev # LLVM 14 is Debian 12's
  espl_say "fuzzing"
  tests/fuzz/run.sh 10
  espl_install clang-tidy doxygen
  espl_say "API reference"
  cmake --preset release >/dev/null # finds Doxygen
  cmake --build build/release --target docs -- --quiet
  espl_say "lint"
  tests/lint/lint.py
  tests/lint/tidy.sh build/release
fi
