#!/usr/bin/env bash
# The main job, from a bare Debian 12: installs, builds, and lets the embedded agent prune sapling (a small trained model
# that ships with the tests) to 45 % on two ranks that share the cores, with perplexity, knowledge probes, rollback and
# checkpoints; then evaluates the exported model. No network and no key are needed once the packages are there.
#   jobs/demo.sh [CONFIG.json [--set section.key=value ...]]     another configuration, other options
set -euo pipefail
. "$(dirname "$0")/setup.sh"
cd "$ESPL_ROOT"
config=${1:-configs/sapling.json}
shift $(($# > 0 ? 1 : 0))

espl_install "${ESPL_BUILD_PACKAGES[@]}"
espl_mpi_environment
espl_build release

espalier=build/release/espalier
run=build/runs/$(basename "$config" .json)
ranks=2
threads=$((($(nproc) + ranks - 1) / ranks))
rm -rf "$run"
espl_say "$config: what it will take on $ranks ranks"
OMP_NUM_THREADS=$threads "$espalier" prune "$config" --set "run.dir=$run" "$@" --dry-run --ranks $ranks
espl_say "pruning, in $run"
OMP_NUM_THREADS=$threads mpirun -n $ranks "$espalier" prune "$config" --set "run.dir=$run" "$@"
espl_say "the exported model, evaluated anew: the same perplexity"
text=$(sed -n 's/^ *"report": *{.*"text": *"\([^"]*\)".*/\1/p' "$config")
OMP_NUM_THREADS=$(nproc) "$espalier" eval --model "$run/model" --text "${text:-tests/sapling/data/test.txt}" --window 512
espl_say "read $run/summary.json, events.jsonl, dialogue.jsonl"
