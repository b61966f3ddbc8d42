#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Downloads data: MMLU (original CSVs), FreebaseQA v1.0, multiple-choice sets as --choices files, WikiText-2, some C4.
# usage: jobs/fetch-data.sh [--list] DIR [mmlu] [freebaseqa] [choices] [text]      (default: all four)
#   --list   downloads nothing; prints each file's place, address and checksum
#
# DIR/wikitext2/wiki.{valid,test}.raw   DIR/c4/c4.jsonl (2000 documents)
# DIR/mmlu/{dev,val,test}/<subject>_*.csv   DIR/freebaseqa/FreebaseQA-{train,dev,eval}.json   DIR/choices/<task>.jsonl
# Files that exist are not downloaded again, nor is DIR/mmlu.tar. Checksums: those of MMLU and FreebaseQA are in this script. The other sets
# come row by row from the hub: the number of questions is checked, and the checksum of the first download is kept in
# DIR/SHA256SUMS and checked on later calls.
# Environment: MMLU_URL, FREEBASEQA_URL, HUB_ROWS (mirrors), proxies.
# Exit status: 0 done, 1 refused by the host or unexpected content, 2 usage, 69 host unreachable (the message says which
# files to copy where), 74 disk.
set -uo pipefail

readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_UNREACHABLE=69 EXIT_IO=74
readonly MMLU_URLS=("${MMLU_URL:-https://people.eecs.berkeley.edu/~hendrycks/data.tar}"
  https://huggingface.co/datasets/cais/mmlu/resolve/c30699e8356da336a370243923dbaf21066bb9fe/data.tar)
readonly MMLU_TAR_SHA256=bec563ba4bac1d6aaf04141cd7d1605d7a5ca833e38f994051e818489592989b
# Checksum of the unpacked files: `cat dev/* val/* test/* | sha256sum` with LC_ALL=C.
readonly MMLU_SHA256=f18226f7e2a136c29fb346133266ddc4bc304f5cf682cd1c301e0f4eb711d85b
readonly FREEBASEQA=${FREEBASEQA_URL:-https://raw.githubusercontent.com/kelvin-jiang/FreebaseQA/d16aae5149aaa25e43ff2a7bd00a06f280ca19b9}
# The files' Git blob hashes (`git hash-object FILE`) in that commit.
readonly FREEBASEQA_BLOBS="\
eval d7d06ae721aedca26a0838d0113cddc1aa6774a8
dev 2e16ac381efb7b9e362cbf9bd0cee90006244ea8
train 24dc4b13a9c4a0ad734732db094c124d086b7d67"
readonly ROWS=${HUB_ROWS:-https://datasets-server.huggingface.co/rows}

say() { printf 'fetch-data: %s\n' "$*" >&2; }
die() {
  say "$2"
  exit "$1"
}
usage() {
  sed -n '3,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2 # the comment above, without the SPDX line
  exit $EXIT_USAGE
}

# The lists: per file its place, its address, its checksum.
list_mmlu() {
  printf '%s\n' "$dir/mmlu.tar" "${MMLU_URLS[@]/#/    }" "    SHA-256 $MMLU_TAR_SHA256" \
    "    unpacked by fetch-data.sh into $dir/mmlu/{dev,val,test}"
}
list_freebaseqa() {
  local split blob
  while read -r split blob; do
    printf '%s\n' "$dir/freebaseqa/FreebaseQA-$split.json" "    $FREEBASEQA/FreebaseQA-$split.json" \
      "    git hash-object: $blob"
  done <<<"$FREEBASEQA_BLOBS"
}
list_choices() { HUB_ROWS=$ROWS python3 -B "$here/fetch_data/choices.py" --addresses "$dir/choices"; }
list_text() { HUB_ROWS=$ROWS python3 -B "$here/fetch_data/text.py" --addresses "$dir"; }

# no_network WHAT HOST
no_network() {
  say "cannot reach $2"
  cat >&2 <<EOF
This machine cannot reach that host. On one that has access, run the same command, then copy the folder here:
    jobs/fetch-data.sh DATA && rsync -a DATA/ thismachine:$dir/
and run it here again, which checks the files. To copy files by hand, put each where its first line says:
EOF
  "list_$1" >&2
  exit $EXIT_UNREACHABLE
}

# download URL FILE: returns 0 when done, 1 if the host cannot be reached, 2 if it refuses.
download() {
  local status
  say "$1"
  curl --fail --location --silent --show-error --retry "${ESPL_FETCH_RETRIES:-3}" --connect-timeout 20 \
    --output "$2.part" "$1"
  status=$?
  case $status in
    0) mv "$2.part" "$2" || exit $EXIT_IO ;;
    22) return 2 ;;
    23) die $EXIT_IO "cannot write $2.part" ;;
    *) return 1 ;;
  esac
}

# remember FILE: records its checksum, or checks it against the recorded one.
remember() {
  local name=${1#"$dir"/} seen known
  seen=$(sha256sum "$1" | cut -d' ' -f1)
  known=$(awk -v n="$name" '$2 == n {print $1}' "$dir/SHA256SUMS" 2>/dev/null)
  if [ -z "$known" ]; then
    printf '%s  %s\n' "$seen" "$name" >>"$dir/SHA256SUMS"
  elif [ "$known" != "$seen" ]; then
    die $EXIT_FAILED \
      "$1: checksum $seen, expected $known (to accept it, delete the file and its line in $dir/SHA256SUMS)"
  fi
}

fetch_mmlu_tar() {
  local url status=1
  [ ! -f "$1" ] || status=0 # copied here by hand
  [ $status -eq 0 ] || for url in "${MMLU_URLS[@]}"; do
    download "$url" "$1"
    status=$?
    [ $status -ne 0 ] || break
  done
  case $status in
    0) ;;
    1) no_network mmlu "${MMLU_URLS[0]}" ;;
    *) die $EXIT_FAILED "MMLU: all hosts refuse data.tar" ;;
  esac
  echo "$MMLU_TAR_SHA256  $1" | sha256sum --check --status || {
    rm -f "$1"
    die $EXIT_FAILED "MMLU: data.tar is not the published one (SHA-256 $MMLU_TAR_SHA256)"
  }
}

fetch_mmlu() {
  local tar=$dir/mmlu.tar seen
  if [ ! -d "$dir/mmlu/test" ]; then
    fetch_mmlu_tar "$tar"
    rm -rf "$dir/mmlu.part" && mkdir -p "$dir/mmlu.part" || exit $EXIT_IO
    tar -xf "$tar" -C "$dir/mmlu.part" --strip-components=1 || die $EXIT_IO "cannot unpack $tar"
    mv "$dir/mmlu.part" "$dir/mmlu" && rm -f "$tar" || exit $EXIT_IO
  fi
  seen=$(cd "$dir/mmlu" && LC_ALL=C && cat dev/*.csv val/*.csv test/*.csv | sha256sum | cut -d' ' -f1)
  if [ "$seen" = "$MMLU_SHA256" ]; then
    say "MMLU: checksum correct"
  else
    say "warning: $dir/mmlu: checksum $seen, expected $MMLU_SHA256: not the files that espalier was tested with"
  fi
}

# git_blob FILE: prints its Git blob hash.
git_blob() { { printf 'blob %d\0' "$(stat -c %s "$1")" && cat "$1"; } | sha1sum | cut -d' ' -f1; }

fetch_freebaseqa() {
  local split blob file
  mkdir -p "$dir/freebaseqa" || exit $EXIT_IO
  while read -r split blob; do
    file=$dir/freebaseqa/FreebaseQA-$split.json
    if [ ! -f "$file" ]; then
      download "$FREEBASEQA/FreebaseQA-$split.json" "$file"
      case $? in
        0) ;;
        1) no_network freebaseqa "$FREEBASEQA" ;;
        *) die $EXIT_FAILED "FreebaseQA: $FREEBASEQA refuses FreebaseQA-$split.json" ;;
      esac
    fi
    [ "$(git_blob "$file")" = "$blob" ] || die $EXIT_FAILED \
      "$file is not version 1.0's (git blob $blob): delete it to fetch it again"
  done <<<"$FREEBASEQA_BLOBS"
}

fetch_choices() {
  mkdir -p "$dir/choices" || exit $EXIT_IO
  HUB_ROWS=$ROWS python3 -B "$here/fetch_data/choices.py" "$dir/choices"
  case $? in
    0) ;;
    69) no_network choices "$ROWS" ;;
    *) exit $EXIT_FAILED ;;
  esac
  for file in "$dir"/choices/*.jsonl; do remember "$file"; done
}

fetch_text() {
  HUB_ROWS=$ROWS python3 -B "$here/fetch_data/text.py" "$dir"
  case $? in
    0) ;;
    69) no_network text "$ROWS" ;;
    *) exit $EXIT_FAILED ;;
  esac
  for file in "$dir"/wikitext2/wiki.{valid,test}.raw "$dir/c4/c4.jsonl"; do remember "$file"; done
}

action=fetch here=$(dirname "$(readlink -f "$0")")
if [ "${1:-}" = --list ]; then
  action=list
  shift
fi
case ${1:-} in
  "" | -*) usage ;;
esac
dir=$1
shift
[ $# -gt 0 ] || set -- mmlu freebaseqa choices text
if [ $action = list ]; then
  for what in "$@"; do
    case $what in
      mmlu | freebaseqa | choices | text) "list_$what" || exit $EXIT_FAILED ;;
      *) usage ;;
    esac
  done
  exit
fi
mkdir -p "$dir" || exit $EXIT_IO
command -v curl >/dev/null || die $EXIT_FAILED "curl is not installed"
for what in "$@"; do
  case $what in
    mmlu | freebaseqa | choices | text) "fetch_$what" ;;
    *) usage ;;
  esac
done
say "done: $dir"
