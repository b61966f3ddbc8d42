#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole workflow on a bare Debian 12: installs packages, builds, prunes and evaluates.
#   jobs/demo.sh [CONFIG.json [--set section.key=value ...]]
# By default (configs/sapling.json), the embedded agent prunes sapling, a small trained model that comes with the tests,
# to 45 % on two ranks that share the cores, with perplexity, knowledge probes, rollbacks and checkpoints; then the
# exported model is evaluated. Once the packages are installed, neither a network nor an API key is needed.
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
espl_say "$config: estimate for $ranks ranks"
OMP_NUM_THREADS=$threads "$espalier" prune "$config" --set "run.dir=$run" "$@" --dry-run --ranks $ranks
espl_say "pruning; run directory $run"
OMP_NUM_THREADS=$threads mpirun -n $ranks "$espalier" prune "$config" --set "run.dir=$run" "$@"
espl_say "evaluating the exported model: its perplexity must be the same"
text=$(sed -n 's/^ *"report": *{.*"text": *"\([^"]*\)".*/\1/p' "$config")
OMP_NUM_THREADS=$(nproc) "$espalier" eval --model "$run/model" --text "${text:-tests/sapling/data/test.txt}" --window 512
espl_say "results: $run/summary.json, events.jsonl, dialogue.jsonl"
