#!/usr/bin/env bash
# Downloads data: MMLU (original CSVs), FreebaseQA v1.0, multiple-choice sets as --choices files, WikiText-2 and some C4.
# usage: jobs/fetch-data.sh DIR [mmlu] [freebaseqa] [choices] [text]      (all four unless named)
#
# DIR/wikitext2/wiki.{valid,test}.raw   DIR/c4/c4.jsonl (2000 documents)
# DIR/mmlu/{dev,val,test}/<subject>_*.csv   DIR/freebaseqa/FreebaseQA-{train,dev,eval}.json   DIR/choices/<task>.jsonl
# Nothing is downloaded twice. Checksums: where one is known, it is checked; otherwise the checksum seen is appended to
# DIR/SHA256SUMS on the first download, and checked from then on. Without a network: exit code 69, and what to copy where.
set -uo pipefail

MMLU_URLS=(https://people.eecs.berkeley.edu/~hendrycks/data.tar
  https://huggingface.co/datasets/cais/mmlu/resolve/main/data.tar)
# Of the files inside, sorted by name: `cat dev/* val/* test/* | sha256sum` with LC_ALL=C.
MMLU_SHA256=f18226f7e2a136c29fb346133266ddc4bc304f5cf682cd1c301e0f4eb711d85b
FREEBASEQA_URL=https://raw.githubusercontent.com/kelvin-jiang/FreebaseQA/master
HUB_ROWS=https://datasets-server.huggingface.co/rows

say() { printf 'fetch-data: %s\n' "$*" >&2; }
usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

no_network() {
  say "cannot reach $1"
  cat >&2 <<EOF
This machine has no way to that host. On one that has, run the same command, then copy the folder here:
    jobs/fetch-data.sh DATA && rsync -a DATA/ thismachine:$dir/
By hand, these are the files that espalier wants:
    MMLU         ${MMLU_URLS[0]}
                 unpacked as $dir/mmlu/dev, val and test
    FreebaseQA   $FREEBASEQA_URL/FreebaseQA-eval.json (and -dev.json for the examples)
                 as $dir/freebaseqa/
    WikiText-2   the raw version's wiki.valid.raw and wiki.test.raw, in $dir/wikitext2/
    C4           any JSON Lines file with a "text" a line, as $dir/c4/c4.jsonl
    ARC, HellaSwag, PIQA, WinoGrande, BoolQ: any JSON Lines file as docs/evaluation.md describes
EOF
  exit 69
}

# download URL FILE: 0 done, 1 not there
download() {
  say "$1"
  if curl --fail --location --silent --show-error --retry "${ESPL_FETCH_RETRIES:-3}" --connect-timeout 20 \
    --output "$2.part" "$1"; then
    mv "$2.part" "$2"
  else
    rm -f "$2.part"
    return 1
  fi
}

# remember FILE: its checksum must be the recorded one, if there is one
remember() {
  local name=${1#"$dir"/} seen known
  seen=$(sha256sum "$1" | cut -d' ' -f1)
  known=$(awk -v n="$name" '$2 == n {print $1}' "$dir/SHA256SUMS" 2>/dev/null)
  if [ -z "$known" ]; then
    printf '%s  %s\n' "$seen" "$name" >>"$dir/SHA256SUMS"
  elif [ "$known" != "$seen" ]; then
    say "$1: checksum $seen, but $known was recorded in $dir/SHA256SUMS: delete the file and its line to accept it"
    exit 1
  fi
}

fetch_mmlu() {
  local url tar=$dir/mmlu.tar seen
  if [ ! -d "$dir/mmlu/test" ]; then
    for url in "${MMLU_URLS[@]}"; do download "$url" "$tar" && break; done
    [ -f "$tar" ] || no_network "${MMLU_URLS[0]}"
    rm -rf "$dir/mmlu.part" && mkdir -p "$dir/mmlu.part"
    tar -xf "$tar" -C "$dir/mmlu.part" --strip-components=1 || { say "$tar: not a tar file"; exit 1; }
    mv "$dir/mmlu.part" "$dir/mmlu" && rm -f "$tar"
  fi
  seen=$(cd "$dir/mmlu" && LC_ALL=C && cat dev/*.csv val/*.csv test/*.csv | sha256sum | cut -d' ' -f1)
  if [ "$seen" = "$MMLU_SHA256" ]; then
    say "MMLU: the files that espalier was checked with"
  else
    say "MMLU: checksum $seen differs from that of the files espalier was checked with ($MMLU_SHA256)"
  fi
}

fetch_freebaseqa() {
  local split
  mkdir -p "$dir/freebaseqa"
  for split in eval dev train; do
    local file=$dir/freebaseqa/FreebaseQA-$split.json
    [ -f "$file" ] || download "$FREEBASEQA_URL/FreebaseQA-$split.json" "$file" || no_network "$FREEBASEQA_URL"
    remember "$file"
  done
}

fetch_choices() {
  mkdir -p "$dir/choices"
  HUB_ROWS=$HUB_ROWS python3 "$(dirname "$0")/fetch_data/choices.py" "$dir/choices"
  case $? in
    0) ;;
    69) no_network "$HUB_ROWS" ;;
    *) exit 1 ;;
  esac
  for file in "$dir"/choices/*.jsonl; do remember "$file"; done
}

fetch_text() {
  HUB_ROWS=$HUB_ROWS python3 -B "$(dirname "$0")/fetch_data/text.py" "$dir"
  case $? in
    0) ;;
    69) no_network "$HUB_ROWS" ;;
    *) exit 1 ;;
  esac
  for file in "$dir"/wikitext2/wiki.{valid,test}.raw "$dir/c4/c4.jsonl"; do remember "$file"; done
}

case ${1:-} in
  "" | -*) usage ;;
esac
dir=$1
shift
mkdir -p "$dir" || exit 74
command -v curl >/dev/null || { say "curl is not installed"; exit 1; }
[ $# -gt 0 ] || set -- mmlu freebaseqa choices text
for what in "$@"; do
  case $what in
    mmlu | freebaseqa | choices | text) "fetch_$what" ;;
    *) usage ;;
  esac
done
say "done: $dir"
