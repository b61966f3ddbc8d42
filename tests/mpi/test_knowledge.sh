#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_knowledge.sh TEST_KNOWLEDGE MAKE_RANDOM_MODEL GOLDEN_DIR TRAINED_MODEL
# Runs test_knowledge on 1 to 4 ranks, on a small random model and on the trained one.
set -euo pipefail
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
"$2" --layers 5 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer "$dir/random" >/dev/null
"$(dirname "$0")/compare_np.sh" "$1" "$3" "$dir/random" "$4"
