#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_export.sh TEST_EXPORT MAKE_RANDOM_MODEL
# An export that cannot be written, on 1 to 4 ranks: every rank gets the same status, nothing hangs, DIR.part is removed, an
# earlier export is untouched, and the next export succeeds. Faults are injected (ESPL_FAULT), a rank is killed, and, where
# mounting is allowed, the disk is full or read-only.
set -euo pipefail
test=$1
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
disk=$dir/disk
cleanup() { umount "$disk" 2>/dev/null || true; }
"$2" --layers 5 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer "$dir/model" >/dev/null

# run NP MODE DIR: prints rank 0's message. 60 s without an end is a hang.
run() { ranks "$1" "$test" "$2" "$dir/model" "$3"; }

run 1 good "$dir/reference/model"
faults_of() { # NP: faults on rank 0 and on the last rank; :2, :3 and :9 count calls, so that they strike in the middle
  echo copy:0:2 start:0:1 put:0:3 put:$(($1 - 1)):9 flush:$(($1 - 1)):1 rename:0:1
}
for fault in $(faults_of 2); do # no earlier export: a failure leaves nothing
  here=$dir/none-$fault
  expect "fault on demand" "$(ESPL_FAULT=export.$fault run 2 bad "$here/model")"
  only "$here"
done
for np in $all_ranks; do
  # an earlier export: unchanged after a failure, replaced by the next success
  here=$dir/of$np
  run "$np" good "$here/model"
  for fault in $(faults_of "$np") aside:0:1; do
    echo earlier >"$here/model/config.json"
    expect "fault on demand" "$(ESPL_FAULT=export.$fault run "$np" bad "$here/model")"
    only "$here" model
    [ "$(cat "$here/model/config.json")" = earlier ] || die "$fault: the earlier export was touched"
  done
  expect "fault on demand" "$(ESPL_FAULT=export.put:$((np - 1)):9 run "$np" again "$here/model")"
  only "$here" model
  diff -r "$dir/reference/model" "$here/model"
done

# A rank is killed: DIR is never a partial export, and the next export removes what is left beside it.
for fault in copy:0:2 put:2:9 rename:0:1; do
  here=$dir/killed-$fault
  run 3 good "$here/model"
  echo earlier >"$here/model/config.json"
  if ESPL_FAULT=export.$fault:kill run 3 bad "$here/model" >/dev/null 2>&1; then die "a killed rank went unnoticed"; fi
  case $fault in
  rename*) only "$here" model.old model.part ;; # between the two renames: both are complete
  *) only "$here" model model.part && [ "$(cat "$here/model/config.json")" = earlier ] ;;
  esac
  run 2 good "$here/model"
  only "$here" model
  diff -r "$dir/reference/model" "$here/model"
done

mkdir "$disk"
if ! mount -t tmpfs -o size=476k none "$disk" 2>/dev/null; then
  echo "skipped: full and read-only disks: mounting is not allowed"
  exit 0
fi
expect "is a mount point" "$(run 2 bad "$disk")"
for size in 476 400; do # the first has no room for some of the small files, the second none for the weights
  mount -o remount,size=${size}k "$disk"
  for np in 1 4; do
    expect "No space left on device" "$(run "$np" bad "$disk/model")"
    only "$disk"
    # as on a file system that cannot reserve space: a rank meets the full disk while it writes
    expect "No space left on device" "$(ESPL_FAULT=weights.no_promise:0 run "$np" bad "$disk/model")"
    only "$disk"
  done
done
mount -o remount,size=100m "$disk"
run 2 good "$disk/model"
mount -o remount,ro "$disk"
expect "Read-only file system" "$(run 2 bad "$disk/model")"
diff -r "$dir/reference/model" "$disk/model"
echo "faults: same status everywhere, nothing half-written"
