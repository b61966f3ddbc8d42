#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_chat.sh TEST_CHAT MAKE_RANDOM_MODEL TRAINED_MODEL
# Runs test_chat on 1 to 4 ranks, on a small random model and on the trained one.
set -euo pipefail
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"
"$2" --layers 4 --hidden 32 --heads 2 --kv-heads 1 --head-dim 16 --ffn 48 --vocab 300 --byte-tokenizer "$dir/random" >/dev/null
"$(dirname "$0")/compare_np.sh" "$1" "$dir/random" "$3"
