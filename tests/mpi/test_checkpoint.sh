#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_checkpoint.sh TEST_CHECKPOINT
# Checkpoints written on 1 to 4 ranks are the same bytes, and each is read on 1 to 4 ranks.
set -euo pipefail
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
for np in $all_ranks; do
  ranks "$np" "$1" write "$dir/of$np/new"
  diff -rq "$dir/of1" "$dir/of$np" || { echo "$np ranks write other bytes than one"; exit 1; }
done
for np in $all_ranks; do
  ranks "$np" "$1" read "$dir/of$((1 + ${all_ranks##* } - np))/new"
done
for np in $all_ranks; do
  ranks "$np" "$1" retain "$dir/of$np/new"
done
echo "checkpoints equal on 1 to 4 ranks"
