#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: compare_np.sh PROGRAM [ARG...]
# Runs PROGRAM on 1, 2, 3 and 4 ranks. All must succeed, and what they print must be the same: rank-invariance, to the bit.
# (A line present only for fewer ranks is fine: a model may have fewer layers than there are ranks.)
set -euo pipefail
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
limit=250
for np in $all_ranks; do
  OMP_NUM_THREADS=$((np == 1 ? 2 : 1)) ranks "$np" "$@" >"$dir/$np" || {
    echo "$np ranks: exit code $?"
    exit 1
  }
  sort "$dir/$np" >"$dir/$np.sorted"
  if extra=$(comm -13 "$dir/1.sorted" "$dir/$np.sorted") && [ -n "$extra" ]; then
    printf '%s ranks print what one rank does not:\n%s\n' "$np" "$extra"
    exit 1
  fi
done
[ -s "$dir/2" ] || { echo "two ranks printed nothing"; exit 1; }
printf '%s lines equal on 1 to 4 ranks\n' "$(wc -l <"$dir/1")"
