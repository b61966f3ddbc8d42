#!/usr/bin/env bash
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

espl_install "${ESPL_BUILD_PACKAGES[@]}" python3 curl ca-certificates python3-h5py python3-pandas python3-matplotlib
espl_mpi_environment
run_preset release .
if ! $quick; then
  run_preset sanitize '^(unit|fuzz)/' # rooms without MPI: its stack leaks
  espl_install clang-format clang-tidy shellcheck universal-ctags
  espl_say "lint"
  tests/lint/lint.py
  tests/lint/tidy.sh build/release
fi
espl_say "all tests passed"
