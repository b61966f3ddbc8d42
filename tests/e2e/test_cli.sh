#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_cli.sh ESPALIER MAKE_RANDOM_MODEL
# The program as a user runs it: every command on 1 to 4 ranks, equal output; every kind of error, its exit code and text.
set -uo pipefail
espalier=$1 make_model=$2
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

# same NAME ARG...: equal standard output on 1, 2, 3 and 4 ranks; it is left in $dir/NAME.1
same() {
  local name=$1 np
  shift
  for np in $all_ranks; do
    ranks "$np" "$espalier" "$@" --quiet <"$dir/input" >"$dir/raw" 2>"$dir/err" || {
      bad "$name on $np ranks: exit $? $(cat "$dir/err")"
      return
    }
    # timings and the number of ranks may differ, nothing else
    sed -E 's/"(seconds|tokens_per_second|ranks)": [0-9.e+-]+/"\1": 0/g' "$dir/raw" >"$dir/$name.$np"
    cmp -s "$dir/$name.1" "$dir/$name.$np" || {
      bad "$name: output differs on $np ranks"
      return
    }
  done
  [ -s "$dir/$name.1" ] && ok || bad "$name: no output"
}

# refuses CODE WORDS RANKS ARG...: that exit code, and a message with those words, once, without a hang
refuses() {
  local code=$1 words=$2 np=$3 got
  shift 3
  ranks "$np" "$espalier" "$@" </dev/null >"$dir/out" 2>"$dir/err"
  got=$?
  [ $got -eq "$code" ] || bad "$* on $np: exit $got, wanted $code: $(head -3 "$dir/err")"
  [ "$(grep -cF -- "$words" "$dir/err")" -eq 1 ] || bad "$* on $np: wanted one line with \"$words\": $(head -5 "$dir/err")"
  ok
}

"$make_model" --layers 4 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer \
  "$dir/model" >/dev/null || bad "make_random_model"
for i in $(seq 60); do printf 'Line %d: a quick brown fox, \xe4\xb8\xad\xe6\x96\x87 and \xf0\x9f\x98\x80.\n' "$i"; done >"$dir/input"
m=$dir/model

# --- the commands, equal on every number of ranks
same eval eval --model "$m" --text "$dir/input" --window 128 --batch 48 --json
"$espalier" eval --model "$m" --text "$dir/input" --window 128 --quiet |
  grep -q '^perplexity [0-9.]* +- [0-9.]* (.* windows of 128 tokens' && ok || bad "eval as text"
same score score --model "$m"
same score_windows score --model "$m" --window 100
same generate generate --model "$m" --prompt "Hello" --max-tokens 20 --json
same sampled generate --model "$m" --prompt "Hello" --max-tokens 20 --temperature 1 --top-p 0.9 --seed 3
same sampled4 generate --model "$m" --prompt "Hello" --max-tokens 20 --temperature 1 --top-p 0.9 --seed 4
cmp -s "$dir/sampled.1" "$dir/sampled4.1" && bad "the seed changes nothing"
same chat chat --model "$m" --max-tokens 20
same tokenize tokenize --model "$m"
same inspect inspect "$m"

# --- what they print
python3 - "$dir" <<'PY' && ok || bad "the printed JSON"
import json, math, sys
d = sys.argv[1]
text = open(d + "/input", "rb").read()
rows = [json.loads(line) for line in open(d + "/score.1")]
assert len(rows) == len(text), "byte tokenizer: one token per byte"
assert rows[0]["logprob"] is None and all(r["logprob"] < 0 for r in rows[1:])
windows = [json.loads(line) for line in open(d + "/score_windows.1")]
assert [i for i, r in enumerate(windows) if r["logprob"] is None] == list(range(0, len(text), 100))
# OpenBLAS may add in another order for another number of tokens at once
assert rows[99]["id"] == windows[99]["id"]
assert math.isclose(rows[99]["logprob"], windows[99]["logprob"], rel_tol=1e-5), "the same context gives the same number"
ids = [int(x) for x in open(d + "/tokenize.1")]
assert ids == [r["id"] for r in rows]
g = json.load(open(d + "/generate.1"))
assert g["prompt_tokens"] == 5 and len(g["ids"]) <= 20
PY
tail -n +1 "$dir/tokenize.1" | "$espalier" tokenize --model "$m" --decode >"$dir/decoded"
cmp -s "$dir/decoded" "$dir/input" && ok || bad "decode(encode(text)) differs"
"$espalier" eval --model "$m" --text "$dir/input" --window 128 --limit 256 --json --quiet | python3 -c '
import json, sys
r = json.load(sys.stdin)
assert r["windows"] == 2 and r["tokens"] == 256 and r["perplexity"] > 1 and r["perplexity_stderr"] > 0, r' && ok || bad "eval --json"
"$espalier" --version | grep -q '^OpenBLAS: ' && ok || bad "--version"
"$espalier" --help >"$dir/help" && grep -q 'Exit codes' "$dir/help" && ok || bad "--help"
for command in chat eval generate inspect prune score sweep tokenize; do
  grep -q "^  $command " "$dir/help" && ok || bad "--help does not list $command"
  "$espalier" $command --help >"$dir/one" 2>"$dir/err" && [ ! -s "$dir/err" ] &&
    grep -q "^Usage: espalier $command " "$dir/one" && ok || bad "$command --help: $(cat "$dir/err")"
  "$espalier" $command --usage >"$dir/out" && grep -q -- '\[--quiet\]' "$dir/out" && ok || bad "$command --usage"
done
ranks 3 "$espalier" tokenize --help | cmp -s - "$dir/one" && ok || bad "three ranks print the help once"
ranks 2 "$espalier" sweep --version | grep -c '^espalier ' | grep -qx 1 && ok || bad "two ranks print the version once"
"$espalier" eval --help >"$dir/help" && grep -q -- '--window=TOKENS' "$dir/help" && ok || bad "eval --help"
"$espalier" generate --model "$m" --prompt - --max-tokens 1 --quiet <"$dir/input" >/dev/null && ok || bad "prompt from stdin"
"$espalier" score --model "$m" --quiet </dev/null && ok || bad "score of nothing"

# --- knowledge benchmarks: equal on every number of ranks, reports that add up
golden=$(cd "$(dirname "$0")/../golden/knowledge" && pwd)
same knowledge eval --model "$m" --mmlu "$golden/mmlu" --freebaseqa "$golden/freebaseqa.json" --shots 2 \
  --choices "$golden/choices.jsonl" --text "$dir/input" --window 128 --json
same knowledge_details eval --model "$m" --mmlu "$golden/mmlu" --mmlu-style lm-eval --choices "$golden/choices.jsonl" \
  --freebaseqa "$golden/freebaseqa.json" --freebaseqa-mode llm-kick --context 300 --details "$dir/details"
same knowledge_sample eval --model "$m" --mmlu "$golden/mmlu" --questions 3 --seed 5
"$espalier" eval --model "$m" --mmlu "$golden/mmlu" --limit 3 --seed 5 --quiet >"$dir/limit" &&
  cmp -s "$dir/limit" "$dir/knowledge_sample.1" && ok || bad "--limit without --text is --questions"
python3 - "$dir" <<'PY' && ok || bad "the knowledge report"
import json, sys
r = json.load(open(sys.argv[1] + "/knowledge.1"))
m, f, c = r["mmlu"], r["freebaseqa"], r["choices"]
assert m["micro"]["questions"] == 5 and len(m["subjects"]) == 2 and m["style"] == "hendrycks"
for part in (m["subjects"], m["categories"]):
    assert sum(s["hits"] for s in part.values()) == m["micro"]["hits"]
    assert sum(s["questions"] for s in part.values()) == 5
rates = [s["hits"] / s["questions"] for s in m["subjects"].values()]
assert abs(m["macro"]["rate"] - sum(rates) / 2) < 1e-9
assert m["micro"]["low"] <= m["micro"]["rate"] <= m["micro"]["high"]
assert f["exact"]["questions"] == 2 and f["shots"] == 2 and f["mode"] == "standard"
assert c["acc"]["questions"] == 4 and r["perplexity"]["window"] == 128
lines = [json.loads(x) for x in open(sys.argv[1] + "/details")]
assert sorted(x["task"] for x in lines) == ["choices"] * 4 + ["freebaseqa"] * 4 + ["mmlu"] * 5
PY
grep -q '^  all questions (micro average) .* / 3$' "$dir/knowledge_sample.1" && ok || bad "--questions"

# --- errors: usage and configuration
refuses 2 'a command is missing' 2
refuses 2 'unknown command "pruen": did you mean prune?' 2 pruen
refuses 2 'unknown option "--windw": did you mean --window?' 2 eval --windw 3
refuses 2 'unknown option "-window": did you mean --window?' 1 eval -window 3
refuses 2 'unknown option "--xyzzy"' 1 eval --xyzzy=3
refuses 2 'did you mean test?' 1 eval --mmlu-split tset
refuses 2 '--model is required' 2 eval --text x
refuses 2 '--window: "1" is not an integer from 2' 1 eval --model "$m" --text x --window 1
refuses 2 '--window: "9x" is not an integer' 1 eval --model "$m" --text x --window 9x
refuses 2 "option '--json' doesn't allow an argument" 3 eval --json=yes
refuses 2 "option '--seed' requires an argument" 1 generate --model "$m" --prompt x --seed
refuses 2 'unexpected argument "y"' 1 inspect "$m" y
refuses 2 '6 replicas of the model, but 5 ranks' 5 eval --model "$m" --text "$dir/input" --window 128 --replicas 6
refuses 2 'use at most 4' 1 inspect "$m" --ranks 5
refuses 2 'fewer than one window' 2 eval --model "$m" --text "$dir/input" --window 100000
refuses 2 'empty prompt' 2 generate --model "$m" --prompt ''

refuses 2 'nothing to evaluate' 2 eval --model "$m"
refuses 2 '--mmlu-style: "x" is not one of' 2 eval --model "$m" --mmlu "$golden/mmlu" --mmlu-style x
refuses 2 '--mmlu-split: "all" is not one of' 1 eval --model "$m" --mmlu "$golden/mmlu" --mmlu-split all
refuses 2 '--freebaseqa-mode: "x" is not one of' 1 eval --model "$m" --freebaseqa f --freebaseqa-mode x
refuses 2 'belong to --mmlu' 1 eval --model "$m" --text "$dir/input" --questions 10

# --- errors: files
refuses 74 'nowhere: cannot be opened' 3 eval --model "$dir/nowhere" --text "$dir/input"
refuses 74 'nowhere: cannot be opened' 1 inspect "$dir/nowhere"
refuses 74 'no-such-text' 3 eval --model "$m" --text "$dir/no-such-text"
cp -r "$m" "$dir/truncated" && truncate -s -100 "$dir/truncated/model.safetensors"
refuses 1 'truncated/model.safetensors' 3 eval --model "$dir/truncated" --text "$dir/input" --window 128
cp -r "$m" "$dir/noweights" && rm "$dir/noweights/model.safetensors"
refuses 74 'noweights' 3 eval --model "$dir/noweights" --text "$dir/input" --window 128
cp -r "$m" "$dir/layers" && sed -i 's/"num_hidden_layers": *4/"num_hidden_layers": 3/' "$dir/layers/config.json"
refuses 1 'unexpected tensor "model.layers.3.' 3 eval --model "$dir/layers" --text "$dir/input" --window 128
cp -r "$m" "$dir/more" && sed -i 's/"num_hidden_layers": *4/"num_hidden_layers": 5/' "$dir/more/config.json"
refuses 1 'model.layers.4.' 2 eval --model "$dir/more" --text "$dir/input" --window 128
cp -r "$m" "$dir/wide" && sed -i 's/"intermediate_size": *96/"intermediate_size": 97/' "$dir/wide/config.json"
refuses 1 'mlp.gate_proj.weight' 2 eval --model "$dir/wide" --text "$dir/input" --window 128
cp -r "$m" "$dir/gpt2" && sed -i 's/"model_type": *"[a-z0-9]*"/"model_type": "gpt2"/' "$dir/gpt2/config.json"
refuses 1 'model_type "gpt2" is not supported' 2 eval --model "$dir/gpt2" --text "$dir/input" --window 128
cp -r "$m" "$dir/badtok" && printf '{"model": {"type": "WordPiece"}}' >"$dir/badtok/tokenizer.json"
refuses 1 'badtok/tokenizer.json' 2 eval --model "$dir/badtok" --text "$dir/input" --window 128
echo 99999 >"$dir/ids"
"$espalier" tokenize --model "$m" --decode <"$dir/ids" >/dev/null 2>"$dir/err"
[ $? -eq 1 ] && grep -q 99999 "$dir/err" && ok || bad "an id outside the vocabulary: $(cat "$dir/err")"
refuses 74 'nowhere/test' 3 eval --model "$m" --mmlu "$dir/nowhere"
refuses 74 'mmlu/val' 2 eval --model "$m" --mmlu "$golden/mmlu" --mmlu-split val
refuses 74 'nowhere.json' 2 eval --model "$m" --freebaseqa "$dir/nowhere.json"
refuses 74 'nowhere/details' 2 eval --model "$m" --mmlu "$golden/mmlu" --details "$dir/nowhere/details"
cp -r "$golden/mmlu" "$dir/mmlu" && printf 'x,1,2,3\n' >>"$dir/mmlu/dev/abstract_algebra_dev.csv"
refuses 1 'abstract_algebra_dev.csv: line 3: 4 columns, expected 6' 3 eval --model "$m" --mmlu "$dir/mmlu"
printf 'x,1,2,3,4,E\n' >"$dir/mmlu/dev/abstract_algebra_dev.csv"
refuses 1 'line 1: the answer is "E"' 1 eval --model "$m" --mmlu "$dir/mmlu"
rm "$dir/mmlu/dev/abstract_algebra_dev.csv"
refuses 74 'dev/abstract_algebra_dev.csv' 2 eval --model "$m" --mmlu "$dir/mmlu"
refuses 1 'freebaseqa.json: line 1: not valid JSON' 2 eval --model "$m" --choices "$golden/freebaseqa.json"
refuses 1 '"Questions" must be a list' 2 eval --model "$m" --freebaseqa "$m/config.json"
"$espalier" tokenize --model "$m" <&- >"$dir/out" 2>"$dir/err"
[ $? -eq 74 ] && grep -q 'standard input' "$dir/err" && ok || bad "standard input closed: $(cat "$dir/err")"
"$espalier" tokenize --model "$m" <"$dir/input" >&- 2>"$dir/err"
[ $? -eq 74 ] && grep -q 'standard output' "$dir/err" && ok || bad "standard output closed: $(cat "$dir/err")"
cp -r "$m" "$dir/pipe" && rm "$dir/pipe/model.safetensors" && mkfifo "$dir/pipe/model.safetensors"
refuses 74 'pipe/model.safetensors: not a regular file' 2 eval --model "$dir/pipe" --text "$dir/input" --window 128
if [ -e /dev/full ]; then
  "$espalier" tokenize --model "$m" <"$dir/input" >/dev/full 2>"$dir/err"
  [ $? -eq 74 ] && ok || bad "a full disk: $(cat "$dir/err")"
fi

end_of_test
