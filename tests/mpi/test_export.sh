#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_export.sh TEST_EXPORT MAKE_RANDOM_MODEL GOLDEN_MODELS_DIR
# Exports made on 1 to 4 ranks are the same bytes: the right tensors, the source's headers, and its other files. An earlier
# export is replaced; everything else is refused and stays as it is.
set -euo pipefail
test=$1 models=$3
# shellcheck source=../e2e/common.sh
. "$(dirname "$0")/../e2e/common.sh"

# run NP MODE SOURCE DIR: prints rank 0's message; notes go to $dir/notes.
run() { ranks "$1" "$test" "$2" "$3" "$4" 2>"$dir/notes" || { cat "$dir/notes" >&2; return 1; }; }
refused() { # TEXT SOURCE DIR
  local before out
  before=$(find "$dir" | sort)
  out=$(run 2 bad "$2" "$3")
  [[ $out == *"$1"* ]] || die "expected a message with \"$1\", got: $out"
  [ "$(find "$dir" | sort)" = "$before" ] || die "a refused export left something: $(find "$dir" | sort)"
}

# Models of each dtype; the last one as the hub's cache stores it: links, and files that do not belong to the model.
for m in qwen3-untied-f32-sharded qwen2-untied-f16 mistral-sliding qwen3-sliding olmo2-bf16 gemma3-pattern-f32 phi3-bf16 \
  qwen3moe-bf16; do
  mkdir -p "$dir/src"
  cp -r "$models/$m" "$dir/src/$m"
done
"$2" --layers 5 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer \
  "$dir/src/random-bf16" >/dev/null
sed -i 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' "$dir/src/qwen2-untied-f16/config.json" # yet with a head
mkdir -p "$dir/cache/blobs" "$dir/cache/snapshots/hub/onnx"
ln -s "$dir/cache/snapshots/hub" "$dir/src/hub"
for f in "$dir/src/random-bf16"/*; do
  cp "$f" "$dir/cache/blobs/"
  ln -s "../../blobs/$(basename "$f")" "$dir/src/hub/"
done
echo 'tokens "all"' >"$dir/src/hub/vocab.txt"
echo '{}' >"$dir/src/hub/generation_config.json"
for f in chat_template.jinja special_tokens_map.json added_tokens.json vocab.json merges.txt \
  tokenizer.model LICENSE; do
  [ -e "$dir/src/hub/$f" ] || echo "$f" >"$dir/src/hub/$f"
done
printf '%s\n' --- 'license: other' 'license_name: own' 'tags:' '- license: no' language: '- de' '  - en' 'x: y' --- \
  'license: not here' >"$dir/src/hub/README.md"
echo '{"an": "older one"}' >"$dir/src/hub/espalier_recipe.json"
touch "$dir/src/hub/pytorch_model.bin" "$dir/src/hub/consolidated.safetensors" "$dir/src/hub/model.safetensors.index.json" \
  "$dir/src/hub/model.Q4.GGUF" "$dir/src/hub/onnx/model.onnx" "$dir/src/hub/.gitattributes"
mkfifo "$dir/src/hub/pipe"
truncate -s 1073741825 "$dir/src/hub/large.txt"

for src in "$dir"/src/*; do
  m=$(basename "$src")
  layers=$(grep -o '"num_hidden_layers": *[0-9]*' "$src/config.json" | grep -o '[0-9]*$')
  for np in $all_ranks; do
    [ "$np" -le "$layers" ] || continue
    run "$np" good "$src" "$dir/of$np/$m"
    diff -r "$dir/of1/$m" "$dir/of$np/$m" || die "$m: $np ranks write other bytes than one"
  done
  # the files that are not weights are those of the source
  while IFS= read -r f; do
    case $f in
    espalier_export.json | README.md | espalier_recipe.json) continue ;; # of the export itself
    README.base.md) cmp "$src/README.md" "$dir/of1/$m/$f" ;;
    espalier_recipe.base.json) cmp "$src/espalier_recipe.json" "$dir/of1/$m/$f" ;;
    model*.safetensors) [ "$(stat -Lc %s "$src/$f")" = "$(stat -c %s "$dir/of1/$m/$f")" ] || die "$m: $f has another size" ;;
    *) cmp "$src/$f" "$dir/of1/$m/$f" ;;
    esac
  done < <(ls -A "$dir/of1/$m")
done

# from the hub's cache: the files of the model, and a note on each file that is left out
run 1 good "$dir/src/hub" "$dir/hub"
[ "$(ls -A "$dir/hub")" = "$( (ls "$dir/cache/blobs" && printf '%s\n' .gitattributes espalier_export.json vocab.txt README.md \
  README.base.md espalier_recipe.json espalier_recipe.base.json chat_template.jinja special_tokens_map.json \
  added_tokens.json vocab.json merges.txt tokenizer.model LICENSE generation_config.json) | sort -u)" ] ||
  die "the export of a hub's cache holds: $(ls -A "$dir/hub")"
[ -z "$(find "$dir/hub" -type l)" ] || die "the export of a hub's cache has links"
for f in pytorch_model.bin consolidated.safetensors model.safetensors.index.json model.Q4.GGUF onnx pipe large.txt; do
  grep -q "\"$f\" of .* is left out" "$dir/notes" || die "no note on $f: $(cat "$dir/notes")"
done
[ -e "$dir/of1/qwen3-untied-f32-sharded/model.safetensors.index.json" ] || die "no index"

# the licence and the languages are those of the source's card; LICENSE counts where the card has none, or none is there
printf '%s\n' 'license: other' 'license_name: own' language: '- de' '  - en' 'card: 1' | cmp - "$dir/hub/README.md"
printf '   %s\n' '' 'Apache License' 'Version 2.0, January 2004' >"$dir/src/hub/LICENSE"
sed -i /license/d "$dir/src/hub/README.md"
run 2 good "$dir/src/hub" "$dir/hub"
printf '%s\n' language: '- de' '  - en' 'license: apache-2.0' 'card: 1' | cmp - "$dir/hub/README.md"
echo terms >"$dir/src/hub/LICENSE"
rm "$dir/src/hub/README.md"
ln -s "$dir/src/hub/LICENSE" "$dir/src/hub/README.md"
rm -r "$dir/hub"
run 1 good "$dir/src/hub" "$dir/hub"
printf '%s\n' 'license: other' 'license_name: the-licence-of-the-base-model' 'license_link: LICENSE' 'card: 1' |
  cmp - "$dir/hub/README.md"
# an export of an export keeps the cards of both
run 1 good "$dir/hub" "$dir/hub2"
cmp "$dir/hub/README.md" "$dir/hub2/README.base.md"
cmp "$dir/hub/README.base.md" "$dir/hub2/README.base.base.md"

src=$dir/src/qwen3-sliding
out=$dir/of${all_ranks##* }/qwen3-sliding
# an earlier export, an empty directory, the rest of a killed export, and the target of a link are replaced
rm "$out/config.json"
mkdir "$dir/empty" "$out.part" "$out.old"
cp "$out"/* "$out.part"
cp "$out/espalier_export.json" "$out.old"
touch "$out.part/model.safetensors.part"
ln -s "$out" "$dir/link"
for to in "$out/" "$dir/empty" "$dir/link" "$src/inside"; do
  run 3 good "$src" "$to"
  diff -r "$dir/of1/qwen3-sliding" "$to"
done
rm -r "$src/inside"
[ -L "$dir/link" ] || die "the link was replaced"
[ "$(echo "$out"*)" = "$out" ] || die "leftovers: $(echo "$out"*)"
# an export of an export is one, too
run 2 good "$out" "$dir/second"
cmp -s "$dir/of1/qwen3-sliding/model.safetensors" "$dir/second/model.safetensors" && die "the second export is the first"

# everything else is refused
refused "would overwrite the model" "$src" "$src"
cp -r "$src" "$src.part"
refused "would overwrite the model" "$src.part" "$src"
rm -r "$src.part"
cp -r "$dir/of1/qwen3-sliding" "$dir/unmarked"
rm "$dir/unmarked/espalier_export.json"
refused "no espalier_export.json" "$src" "$dir/unmarked" # a model whose files have the same names
touch "$out/mine.txt"
refused "mine.txt" "$src" "$out"
rm "$out/mine.txt"
mkdir "$out.old"
touch "$out.old/theirs.txt"
refused "theirs.txt" "$src" "$out"
rm -r "$out.old"
mkdir "$out/deep"
refused '"deep"' "$src" "$out"
rmdir "$out/deep"
touch "$dir/file"
refused "Not a directory" "$src" "$dir/file"
refused "Not a directory" "$src" "$dir/file/x"
ln -s nowhere "$dir/dangling"
refused "cannot be reached" "$src" "$dir/dangling"
echo "exports equal on 1 to 4 ranks"
