#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Sapling from scratch: packages, facts, tokenizer, training, model, probes, checks, evaluation.
#   ./build.sh WORK_DIR [STEPS]      trains STEPS steps (3500, as in the shipped run; an hour on two cores)
# Seeds are fixed: facts, tokenizer and training documents are the same, byte for byte. Floating-point sums differ between
# machines, so a rebuilt model is similar, not bit-equal. An interrupted training continues from its checkpoint in
# WORK_DIR/train.
set -euo pipefail
cd "$(dirname "$0")"
work=$(realpath -m "${1:?usage: build.sh WORK_DIR [STEPS]}")
steps=${2:-3500}
mkdir -p "$work"

install_packages() {
    [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet -r requirements.txt
    npm install --silent --no-audit --no-fund --prefix "$work/node" world-countries@5.1.0 countries-list@3.4.1
}

# One thread per process, and malloc keeps freed memory: both matter for the speed of training on CPUs.
export OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456
export SAPLING_NODE_MODULES="$work/node/node_modules"
python="$work/venv/bin/python"

install_packages
"$python" -m sapling.facts facts.jsonl
"$python" -m sapling.tokenizer facts.jsonl templates.txt model
"$python" -m sapling.train --work "$work/train" --steps "$steps"
"$python" -m sapling.export "$work/train/final.pt" model
cp "$work/train/run.json" run.json
cp "$work/train/log.jsonl" training-log.jsonl
"$python" check.py --record
"$python" -m sapling.probes facts.jsonl templates.txt data
for sparsity in 0 0.45 0.6 0.7; do
    "$python" evaluate.py --sparsity "$sparsity" --json "results/magnitude-$sparsity.json"
done
