#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_checkpoint.sh TEST_CHECKPOINT
# A checkpoint that cannot be written, on 1 to 4 ranks: the same status everywhere, no hang, no partial file, and the
# next one succeeds. Faults on demand (ESPL_FAULT), a killed rank, and, where mounting is allowed, full and read-only disks.
set -euo pipefail
test=$1
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
disk=$dir/disk
cleanup() { umount "$disk" 2>/dev/null || true; }

# run NP MODE DIR: prints rank 0's message. 60 s without an end is a hang.
run() { ranks "$1" "$test" "$2" "$3" "$io"; }

for io in independent collective; do
  for np in $all_ranks; do
    here=$dir/$io$np last=$((np - 1))
    run "$np" first "$here"
    for fault in reserve:0:1 skeleton:0:1 open:$last:1 slab:$last:9 verify:$last:1 rename:0:1; do
      out=$(ESPL_FAULT=checkpoint.$fault run "$np" again "$here")
      case $fault in
      reserve*) expect "No space left on device" "$out" ;;
      rename*) expect "cannot be renamed" "$out" ;;
      *) expect "fault on demand" "$out" ;;
      esac
      only "$here" iteration-000000.h5 iteration-1234567.h5
      rm "$here/iteration-1234567.h5"
    done
  done

  # A rank is killed while it writes: what is left has another name, and does not disturb the next run.
  for np in 1 3; do
    here=$dir/killed-$io$np
    run "$np" first "$here"
    if ESPL_FAULT=checkpoint.slab:$((np - 1)):9:kill run "$np" fail "$here" >/dev/null 2>&1; then
      die "a killed rank went unnoticed"
    fi
    only "$here" iteration-000000.h5 iteration-1234567.h5.part
    run $((4 - np)) succeed "$here"
    only "$here" iteration-000000.h5 iteration-1234567.h5
  done
done

# Each allocation that looking for the newest file makes fails in turn. The program makes one more at its end.
io=independent
run 1 succeed "$dir/independent1"
allocations() { # MODE
  ESPL_FAULT_LIST=$dir/passed-$1 run 1 "$1" "$dir/independent1"
  grep -c '^memory.alloc 0$' "$dir/passed-$1"
}
for i in $(seq "$(allocations nothing)" $(($(allocations memory) - 1))); do
  ESPL_FAULT=memory.alloc:0:$i run 1 memory "$dir/independent1"
done

# A file where the directory should be.
mkdir "$dir/a"
touch "$dir/a/c"
expect "is not a directory" "$(run 2 fail "$dir/a/c")"

mkdir "$disk"
if ! mount -t tmpfs -o size=100k none "$disk" 2>/dev/null; then
  echo "skipped: full and read-only disks: mounting is not allowed"
  exit 0
fi
for io in independent collective; do
  for np in 1 2 4; do
    run "$np" first "$disk/c"
    # with the space promised first, and as on a file system that promises none: then a rank finds out while it writes
    expect "No space left on device" "$(run "$np" fail "$disk/c")"
    expect "No space left on device" "$(ESPL_FAULT=checkpoint.no_promise:0 run "$np" fail "$disk/c")"
    only "$disk/c" iteration-000000.h5
  done
  rm -r "$disk/c"
done
mount -o remount,size=16k "$disk"
expect "No space left on device" "$(ESPL_FAULT=checkpoint.no_promise:0 run 2 fail "$disk/c")" # not even the skeleton fits
mount -o remount,ro "$disk"
expect "Read-only file system" "$(run 2 fail "$disk/c")"
echo "faults: same status everywhere, nothing half-written"
