#!/usr/bin/env bash
# usage: test_checkpoint.sh TEST_CHECKPOINT
# Checkpoints written on 1 to 4 ranks are the same bytes, and each is read on 1 to 4 ranks.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMP_NUM_THREADS=1
for np in 1 2 3 4; do
  timeout 60 mpirun -n "$np" "$1" write "$dir/of$np/new"
  diff -rq "$dir/of1" "$dir/of$np" || { echo "$np ranks write other bytes than one"; exit 1; }
done
for np in 1 2 3 4; do
  timeout 60 mpirun -n "$np" "$1" read "$dir/of$((5 - np))/new"
done
for np in 1 2 3 4; do
  timeout 60 mpirun -n "$np" "$1" retain "$dir/of$np/new"
done
echo "checkpoints equal on 1 to 4 ranks"
