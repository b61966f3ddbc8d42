#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_checkpoint.sh TEST_CHECKPOINT
# Checkpoints written on 1 to 4 ranks, by independent and by collective calls, are the same bytes, and each is read on 1
# to 4 ranks. With aligned datasets the file is another one, and that, too, is the same on 1 to 4 ranks.
set -euo pipefail
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
for np in $all_ranks; do
  ranks "$np" "$1" write "$dir/of$np/new"
  diff -rq "$dir/of1" "$dir/of$np" || { echo "$np ranks write other bytes than one"; exit 1; }
  ranks "$np" "$1" write "$dir/all$np/new" collective
  diff -rq "$dir/of1" "$dir/all$np" || { echo "$np ranks write other bytes collectively"; exit 1; }
  ranks "$np" "$1" write "$dir/aligned$np/new" aligned
  diff -rq "$dir/aligned1" "$dir/aligned$np" || { echo "$np ranks align otherwise than one"; exit 1; }
done
for np in $all_ranks; do
  ranks "$np" "$1" read "$dir/of$((1 + ${all_ranks##* } - np))/new"
  ranks "$np" "$1" read "$dir/aligned$((1 + ${all_ranks##* } - np))/new"
done
if cmp -s "$dir/of1/new/iteration-000007.h5" "$dir/aligned1/new/iteration-000007.h5"; then
  die "nothing was aligned"
fi
for np in $all_ranks; do
  ranks "$np" "$1" retain "$dir/of$np/new"
done
echo "checkpoints equal on 1 to 4 ranks"
