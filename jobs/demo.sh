#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole workflow on a bare Debian 12: installs packages, builds, prunes, evaluates, and makes a page about it.
#   jobs/demo.sh [CONFIG.json [--set section.key=value ...]]
# By default (configs/sapling.json), the embedded agent prunes sapling, a small trained model that comes with the tests,
# to 45 % on two ranks that share the cores, with perplexity, knowledge probes, rollbacks and checkpoints; then the
# exported model is evaluated. Once the packages are installed, neither a network nor an API key is needed.
# From an installation, it installs and builds nothing, and writes to ./espalier-demo.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/setup.sh"
started=$SECONDS
clone=false
[ ! -f "$ESPL_ROOT/CMakeLists.txt" ] || clone=true

if $clone; then
  cd "$ESPL_ROOT"
  espalier=build/release/espalier runs=build/runs configs=configs data=tests/sapling/data
else
  espalier=$(readlink -f "$ESPL_ROOT/../../bin/espalier")
  runs=espalier-demo configs=$ESPL_ROOT/configs data=$ESPL_ROOT/sapling/data
fi
config=${1:-$configs/sapling.json}
shift $(($# > 0 ? 1 : 0))
run=$runs/$(basename "$config" .json)

if [ "$config" = "$configs/sapling.json" ] && [ $# -eq 0 ]; then
  espl_say "this takes about 2 minutes on two idle cores, and 3 more if espalier must be built; results in $run"
else
  espl_say "results in $run"
fi

# The page needs some Python packages. It is the last step and not the point: without them, it is left out.
page=true
if $clone; then
  espl_install "${ESPL_BUILD_PACKAGES[@]}"
  espl_install "${ESPL_PAGE_PACKAGES[@]}" || page=false
  espl_build release
fi
"${ESPL_PYTHON:-python3}" -B "$ESPL_ROOT/analysis/needs.py" 2>/dev/null || page=false
espl_mpi_environment

ranks=2
threads=$((($(nproc) + ranks - 1) / ranks))
rm -rf "$run"
espl_say "$config: estimate for $ranks ranks"
OMP_NUM_THREADS=$threads "$espalier" prune "$config" --set "run.dir=$run" "$@" --dry-run --ranks $ranks
espl_say "pruning; in another terminal: $espalier status $run --follow"
OMP_NUM_THREADS=$threads mpirun -n $ranks "$espalier" prune "$config" --set "run.dir=$run" "$@"
if [ -d "$run/model" ]; then
  espl_say "evaluating the exported model: its perplexity must be the same"
  ESPL_PROGRAM=$espalier
  . "$here/slurm.sh" # espl_config
  text=$(espl_config report text prune "$config" "$@")
  OMP_NUM_THREADS=$(nproc) "$espalier" eval --model "$run/model" --text "${text:-$data/test.txt}" \
    --window "$(espl_config report window prune "$config" "$@")"
fi
if $page; then
  espl_say "making the page"
  "${ESPL_PYTHON:-python3}" -B "$ESPL_ROOT/analysis/report.py" "$run"
fi

espl_say "done after $(((SECONDS - started + 30) / 60)) minutes. What to look at:"
if $page; then
  echo "  $run/report.html      the run on one page: open it in a browser"
else
  echo "  no report.html: the page needs the Python packages of analysis/requirements.txt"
fi
cat <<EOF
  $run/summary.json     the dense and the pruned model, measured
  $run/dialogue.jsonl   what the agent decided, and why
  $run/model            the pruned model, as a Hugging Face directory
  next                  your own model: README.md, "Using it"
EOF
