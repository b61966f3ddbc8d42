#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_config.sh ESPALIER CONFIGS
# espalier prune's command line and configuration as a user meets them, short of a run.
set -uo pipefail
espalier=$1 configs=$2
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

# refuses CODE WORDS RANKS ARG...: that exit code, and a message with those words, once, without a hang
refuses() {
  local code=$1 words=$2 np=$3 got
  shift 3
  ranks "$np" "$espalier" prune "$@" </dev/null >"$dir/out" 2>"$dir/err"
  got=$?
  [ $got -eq "$code" ] || bad "$* on $np: exit $got, wanted $code: $(head -3 "$dir/err")"
  [ "$(grep -cF -- "$words" "$dir/err")" -eq 1 ] || bad "$* on $np: wanted one line with \"$words\": $(head -5 "$dir/err")"
  [ ! -s "$dir/out" ] || bad "$* on $np: prints $(head -3 "$dir/out")"
  ok
}

# fixed NAME ARG...: what --print-config prints reads back as itself
fixed() {
  local name=$1
  shift
  "$espalier" prune "$@" --print-config >"$dir/$name" 2>"$dir/err" || bad "$name: $(cat "$dir/err")"
  "$espalier" prune "$dir/$name" --print-config >"$dir/again" 2>"$dir/err" || bad "$name again: $(cat "$dir/err")"
  [ -s "$dir/$name" ] && cmp -s "$dir/$name" "$dir/again" && ok || bad "$name: --print-config does not read back as itself"
}

# --- printing
fixed defaults
fixed changed --set 'prune.milestones=[ 1e-1,0.25 ]' --set model.path=m --set prune.target=0.1 --set prune.target=0.30 --set 'run.dir=a "b"\c//' --set run.export=false
for words in '"path": "m"' '"target": 0.3,' '"dir": "a \"b\"\\c//"' '"export": false' '"max_iterations": 100,' '"milestones": [0.1, 0.25],'; do
  grep -qF -- "$words" "$dir/changed" && ok || bad "--set: no $words"
done
grep -qF '// sparsity of all prunable linears' "$dir/defaults" && ok || bad "--print-config explains nothing"
for config in "$configs"/*.json; do fixed "${config##*/}" "$config"; done
ranks 3 "$espalier" prune "$dir/changed" --print-config | cmp -s - "$dir/changed" && ok || bad "three ranks print once"
"$espalier" prune - --print-config <"$dir/changed" | cmp -s - "$dir/changed" && ok || bad "standard input"

# --- the JSON Schema: it names every key of the shipped configurations, and their values are what it allows
ranks 2 "$espalier" prune --print-schema >"$dir/schema.json" && python3 - "$dir" "$configs"/*.json <<'PY' && ok || bad "--print-schema"
import json, re, sys
directory, configs = sys.argv[1], sys.argv[2:]
schema = json.load(open(directory + "/schema.json", encoding="utf-8"))
assert schema["$schema"].startswith("https://json-schema.org/") and schema["additionalProperties"] is False
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool,
         "array": list}
COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.S)
for path in [directory + "/defaults", *configs]:
    text = COMMENT.sub(lambda m: m[1] or "", open(path, encoding="utf-8").read())
    for section, options in json.loads(re.sub(r",(\s*})", r"\1", text)).items():
        for key, value in options.items():
            rule = schema["properties"][section]["properties"][key]
            where = f"{path}: {section}.{key}: {value!r}, {rule}"
            assert rule["description"] and isinstance(value, TYPES[rule["type"]]), where
            assert value in rule.get("enum", [value]), where
            assert rule.get("minimum", value) <= value <= rule.get("maximum", value), where
PY

# --- errors
refuses 2 'CONFIG.json is missing' 2
refuses 2 '--ranks belongs to --dry-run' 2 "$dir/defaults" --ranks 3
refuses 2 '--print-config and --print-schema exclude' 2 --print-config --print-schema
refuses 2 '--resume and --dry-run exclude' 2 "$dir/defaults" --resume --dry-run
refuses 2 '--ranks: "0" is not an integer' 1 "$dir/defaults" --ranks 0
refuses 2 'unknown option "--model"' 2 "$dir/defaults" --model x
refuses 74 'nowhere.json' 3 "$dir/nowhere.json"
refuses 2 'model.path is missing' 2 "$dir/defaults"
refuses 2 'prune.target is 0.95, but no linear' 2 "$configs/sapling.json" --set prune.target=0.95
refuses 2 'unknown option "--dryrun": did you mean --dry-run?' 2 "$configs/sapling.json" --dryrun
refuses 2 'did you mean prune.target?' 3 "$configs/sapling.json" --set prune.taget=0.9
refuses 2 'prune.milestones holds 0.5 after 0.2, expected rising numbers below prune.target, 0.4' 2 "$configs/sapling.json" \
  --set prune.target=0.4 --set distill.passes=0 --set 'prune.milestones=[0.2, 0.5]'
refuses 2 'did you mean "rgs"?' 3 "$configs/sapling.json" --set prune.score=wanda++
refuses 2 'did you mean "unstructured"?' 3 "$configs/sapling.json" --set prune.pattern=unstructred
refuses 74 'model.path: nowhere: cannot be opened: No such file' 2 "$configs/sapling.json" --set model.path=nowhere
printf '{\n  "prune": {\n    "target": "0.45"\n  }\n}\n' >"$dir/bad.json"
refuses 2 'bad.json:3: prune.target is "0.45", expected a number from 0 to 1' 2 "$dir/bad.json"
many=()
for i in $(seq 65); do many+=(--set "run.seed=$i"); done
refuses 2 '--set may be given 64 times' 1 "$dir/defaults" "${many[@]}"
"$espalier" prune --print-config "${many[@]:2}" >"$dir/many" # not into grep -q, which may leave before all is written
grep -q '"seed": 65,' "$dir/many" && ok || bad "64 times --set"

end_of_test
