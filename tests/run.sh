#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, from a bare Debian 12: installs packages, builds, runs. Exit 0: all passed.
#   tests/run.sh           everything
#   tests/run.sh --quick   the release build's tests only
set -euo pipefail
. "$(dirname "$0")/../jobs/setup.sh"
cd "$ESPL_ROOT"

quick=false
case "${1:-}" in
  "") ;;
  --quick) quick=true ;;
  *) echo "usage: tests/run.sh [--quick]" >&2 && exit 2 ;;
esac

run_preset() {
  espl_build "$1"
  espl_say "tests ($1)"
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j 2 -R "$2"
}

# The batch scripts on a Slurm of our own, where there can be one.
run_slurm() {
  local rc=0
  espl_say "tests (Slurm)"
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null ||
    ! espl_install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge; then
    echo "skipped: a Slurm of our own needs root and Debian's packages slurmctld, slurmd, slurm-client, munge" >&2
    return 0
  fi
  tests/slurm/test_slurm.py build/release/espalier || rc=$?
  [ $rc -eq 0 ] || [ $rc -eq 77 ] # 77: not possible here, and it has said why
}

espl_install "${ESPL_BUILD_PACKAGES[@]}" python3 curl ca-certificates python3-h5py python3-jinja2 python3-matplotlib \
  python3-pandas python3-scipy
espl_mpi_environment
run_preset release .
if ! $quick; then
  run_slurm
  run_preset sanitize '^(unit|fuzz|mpi|fault)/|^e2e/short'
  espl_install clang-format clang-tidy shellcheck universal-ctags codespell doxygen
  espl_say "API reference"
  cmake --preset release >/dev/null # finds Doxygen
  cmake --build build/release --target docs -- --quiet
  espl_say "lint"
  tests/lint/lint.py
  tests/lint/tidy.sh build/release
fi
espl_say "all tests passed"
