#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_sweep.sh ESPALIER SAPLING
# espalier sweep as a user runs it on a laptop: runs that fail, that are interrupted, continued, repeated and changed.
set -uo pipefail
espalier=$1 sapling=$2
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
limit=250

# sweep RANKS CODE ARG...: that exit code; what it prints is left in out and err
sweep() {
  local np=$1 code=$2 got
  shift 2
  ranks "$np" "$espalier" sweep "$@" </dev/null >"$dir/out" 2>"$dir/err"
  got=$?
  [ $got -eq "$code" ] && ok || bad "sweep $*: exit $got, wanted $code: $(grep espalier: "$dir/err")"
}
says() { grep -qF -- "$1" "$dir/out" "$dir/err" && ok || bad "wanted \"$1\": $(head -20 "$dir/out" "$dir/err")"; }

cat >"$dir/base.json" <<JSON
{"model": {"path": "$sapling/model"}, "run": {"export": false},
 "calibration": {"text": "$sapling/data/calibration.txt", "window": 64, "forward": 2, "backward": 1},
 "validation": {"text": "$sapling/data/validation.txt", "window": 64, "windows": 4},
 "prune": {"target": 0.1, "max_linears": 56, "max_step": 0.1, "threshold": 0.5},
 "policy": {"horizon": 3}}
JSON
cat >"$dir/sweep.json" <<JSON
{"dir": "$dir/runs", "base": "$dir/base.json",
 "models": {"gone": {"model.path": "$dir/gone"}, "sapling": {}},
 "methods": {"wanda": {}, "few": {"prune.score": "magnitude", "prune.target": 0.05}},
 "grid": {"prune.target": [0.1, 0.12]}} // the second method has a target of its own: 3 runs per model
JSON
s=$dir/sweep.json

# --- what there is to be done
sweep 2 0 "$s" --list
says '    3  new        gone-few'
says '6 runs: 6 new'
sweep 1 0 "$s" --slurm --set "run.keep=1"
root=$(cd "$(dirname "$0")/../.." && pwd)
says "sbatch --array=1-6 --chdir='$PWD' --export=ALL,ESPL_ROOT='$root' '$root/jobs/sweep.sbatch' '$s' --set 'run.keep=1'"
sweep 1 2 "$s" --only 7
sweep 1 2 "$s" --list --slurm
sweep 2 2 "$s" --set prune.target=0.1
says 'the sweep varies this option'
sweep 2 2 "$s" --set prune.max_step=2
[ ! -e "$dir/runs" ] && ok || bad "something was written"

# --- one model is not there: its runs fail, the others are done; nothing leaks from one run into the next
sweep 2 1 "$s"
says '3 runs failed, 3 finished'
sweep 1 0 "$s" --list
says '1  failed     gone-wanda-target0.1: model.path: '
says '6 runs: 3 finished, 3 failed'
sweep 1 0 "$s" --slurm
says '--array=1-3 '
"$espalier" sweep "$s" --only 6 --print-config >"$dir/last.json" || bad "--print-config"
"$espalier" prune "$dir/last.json" --set "run.dir=$dir/alone" --quiet >"$dir/out" 2>&1 || bad "alone: $(cat "$dir/out")"
cmp "$dir/alone/summary.json" "$dir/runs/sapling-few/summary.json" && ok || bad "a run alone differs"
grep -q '"method": "few"' "$dir/runs/sapling-few/sweep.json" && ok || bad "sweep.json does not name the method"

# --- repaired, the same command does the rest, and then nothing
cp "$dir/runs/sapling-few/summary.json" "$dir/before"
ln -s "$sapling/model" "$dir/gone"
sweep 1 0 "$s"
says '(3 of 3 to do): gone-few'
sweep 2 0 "$s"
says 'nothing to do'
cmp "$dir/before" "$dir/runs/sapling-few/summary.json" && ok || bad "a finished run was touched"

# --- another configuration is another run
sweep 2 2 "$s" --set prune.threshold=0.4
says 'begun with another prune.threshold'
sweep 2 0 "$s" --set run.max_minutes=100

# --- time limit, signal
sed "s#$dir/runs#$dir/late#" "$s" >"$dir/late.json"
sweep 2 75 "$dir/late.json" --only 4 --set run.max_minutes=0.0001
says 'run.max_minutes'
sweep 1 0 "$dir/late.json" --list
says '4  resumable  sapling-wanda-target0.1'
mpirun -n 2 "$espalier" sweep "$dir/late.json" >"$dir/out" 2>"$dir/err" &
job=$!
for _ in $(seq 1000); do
  compgen -G "$dir/late/gone-few/checkpoints/*.h5" >/dev/null && break
  sleep 0.02
done
kill -USR1 $job
wait $job
got=$?
[ $got -eq 75 ] && ok || bad "USR1: exit $got: $(tail -3 "$dir/err")"
sweep 2 0 "$dir/late.json"
for run in "$dir"/runs/*/; do
  cmp "$run/summary.json" "$dir/late/$(basename "$run")/summary.json" && ok || bad "$run: interrupted, it ends differently"
done

# --- several targets in one run, where the method allows; the dense model is measured by the first run
cat >"$dir/merge.json" <<JSON
{"dir": "$dir/merged", "base": "$dir/base.json", "merge_targets": true, "set": {"model.path": "$sapling/model"},
 "methods": {"agent": {}, "wanda": {"prune.allocation": "uniform"}}, "grid": {"prune.target": [0.05, 0.1]}}
JSON
sweep 1 0 "$dir/merge.json" --list
says '1  new        agent-targets, measured on the way at [0.05]'
says '3 runs: 3 new'
sweep 2 0 "$dir/merge.json"
before=$(grep -c "the dense model was measured before" "$dir/err")
[ "$before" -eq 4 ] && ok || bad "two runs took $before measures of the dense model"
"$espalier" sweep "$dir/merge.json" --only 3 --print-config >"$dir/third.json" || bad "--print-config"
"$espalier" prune "$dir/third.json" --set "run.dir=$dir/third" --set run.dense_cache= --quiet >/dev/null 2>&1 || bad third
cmp "$dir/third/summary.json" "$dir/merged/wanda-target0.1/summary.json" && ok || bad "a shared measure differs"
grep -q '{"target": 0.05, ' "$dir/merged/agent-targets/summary.json" && ok || bad "no milestone in the summary"

end_of_test
