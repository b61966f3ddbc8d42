#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_short.sh ESPALIER MAKE_RANDOM_MODEL
# Every command, and every way to prune, once on one rank and once on two, on a model that is small enough for a build with
# sanitizers: nothing fails, and both write the same summaries.
set -uo pipefail
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
espalier=$1 m=$dir/model golden=$(cd "$(dirname "$0")/../golden/knowledge" && pwd)

# runs NP CODE ARG...: that exit code
runs() {
  local np=$1 code=$2 got
  shift 2
  ranks "$np" "$espalier" "$@" --quiet </dev/null >"$dir/out" 2>"$dir/err"
  got=$?
  [ $got -eq "$code" ] && ok || bad "$* on $np: exit $got, wanted $code: $(tail -40 "$dir/err")"
}

"$2" --layers 2 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer "$m" >/dev/null ||
  bad "make_random_model"
for i in $(seq 60); do echo "Line $i: the quick brown fox jumps over $((i * i)) lazy dogs."; done >"$dir/text"
cat >"$dir/run.json" <<JSON
{"model": {"path": "$m"}, "calibration": {"text": "$dir/text", "window": 64, "forward": 4, "backward": 2},
 "validation": {"text": "$dir/text", "window": 64, "windows": 4},
 "probes": {"mmlu": "$golden/mmlu", "mmlu_split": "test", "mmlu_questions": 2, "mmlu_shots": 1,
            "freebaseqa": "$golden/freebaseqa.json", "freebaseqa_questions": 2, "freebaseqa_shots": 1,
            "freebaseqa_tokens": 4},
 "report": {"text": "$dir/text", "window": 64, "limit": 256, "mmlu": "$golden/mmlu", "mmlu_questions": 2},
 "prune": {"target": 0.1, "max_step": 0.1, "max_linears": 8, "threshold": 1000, "max_iterations": 4}}
JSON
cat >"$dir/sweep.json" <<JSON
{"dir": "DIR/sweep", "base": "$dir/run.json", "set": {"run.export": false},
 "methods": {"wanda": {"prune.allocation": "uniform"}, "2:4": {"prune.allocation": "uniform", "prune.pattern": "2:4"}},
 "grid": {"run.seed": [1]}}
JSON

for np in 1 2; do
  d=$dir/of$np
  set -- "$dir/run.json" --set "run.dir=$d/agent"
  runs $np 0 prune "$@" --dry-run
  runs $np 75 prune "$@" --set run.max_minutes=0.0001 # stops after an iteration, with a checkpoint
  runs $np 0 prune "$@" --resume
  runs $np 0 prune "$@" --set "run.dir=$d/replay" --set agent.backend=replay --set "agent.replay=$d/agent/dialogue.jsonl"
  runs $np 0 prune "$@" --set "run.dir=$d/owl" --set prune.allocation=owl --set prune.score=gblm
  runs $np 0 prune "$@" --set "run.dir=$d/lsa" --set prune.allocation=lsa --set prune.score=ria
  runs $np 0 prune "$@" --set "run.dir=$d/search" --set prune.allocation=search --set prune.search_evaluations=4
  runs $np 0 prune "$@" --set "run.dir=$d/sparsegpt" --set prune.allocation=uniform --set prune.update=sparsegpt
  sed "s#DIR#$d#" "$dir/sweep.json" >"$d/sweep.json"
  runs $np 0 sweep "$d/sweep.json"
  masks=("$d"/agent/checkpoints/*.h5)
  runs $np 0 eval --model "$m" --mask "${masks[-1]}" --text "$dir/text" --window 64 --limit 256 --mmlu "$golden/mmlu" \
    --questions 2 --shots 1 --freebaseqa "$golden/freebaseqa.json" --choices "$golden/choices.jsonl" --json
  runs $np 0 generate --model "$d/sparsegpt/model" --prompt "The quick" --max-tokens 4 --temperature 1
  echo '{"enum": ["yes", "no"]}' >"$dir/schema.json"
  echo "Quick?" | ranks $np "$espalier" chat --model "$m" --schema "$dir/schema.json" --max-tokens 8 --quiet >"$dir/chat.$np" &&
    grep -qxE '"(yes|no)"' "$dir/chat.$np" && ok || bad "chat on $np"
  head -c 200 "$dir/text" | ranks $np "$espalier" score --model "$d/agent/model" --quiet >"$dir/score.$np" && ok || bad "score on $np"
  ranks $np "$espalier" tokenize --model "$m" <"$dir/text" 2>&1 | ranks $np "$espalier" tokenize --model "$m" --decode \
    >"$dir/decoded" && cmp -s "$dir/decoded" "$dir/text" && ok || bad "tokenize on $np"
  runs $np 0 inspect "$m"
  runs $np 2 prune "$dir/run.json" --set prune.taget=0.1
  runs $np 74 eval --model "$dir/nowhere" --text "$dir/text"
done
cmp -s "$dir/score.1" "$dir/score.2" && ok || bad "score differs on 2 ranks"
for summary in "$dir"/of1/*/summary.json "$dir"/of1/sweep/*/summary.json; do
  cmp "$summary" "${summary/of1/of2}" && ok || bad "$summary differs on 2 ranks"
done
end_of_test
