#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Submits a chain of jobs to Slurm and prints the number of each, one per line:
#   jobs/chain.sh CONFIG.json [--set section.key=value]...          prune, then eval, then report
#   jobs/chain.sh --sweep SWEEP.json [--set section.key=value]...   the unfinished runs of a sweep, then report
# eval runs only if prune succeeds; report runs in any case. Run it from anywhere; paths are relative to the working
# directory.
# NOTE: environment variables, besides those of jobs/slurm.sh and sbatch (SBATCH_PARTITION, SBATCH_TIMELIMIT, ...):
#   ESPL_SBATCH_PRUNE   sbatch options of the pruning job or array, "--nodes=2 --ntasks=8" (none)
#   ESPL_SBATCH_EVAL    sbatch options of the evaluation (none)
#   ESPL_SBATCH_REPORT  sbatch options of the report (none)
#   ESPL_EVAL           options of espalier eval (text, window and limit of the configuration's report, else of its
#                       validation)
#   ESPL_REPORT         no: without report, which needs a Python with some packages (yes)
set -euo pipefail
ESPL_ROOT=${ESPL_ROOT:-$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)}
export ESPL_ROOT
. "$ESPL_ROOT/jobs/slurm.sh"

# submit NAME SBATCH_OPTIONS DEPENDENCY JOB ARG...: prints the number of the job.
submit() {
  local name=$1 options dependency=() id
  # shellcheck disable=SC2206 # several options in one variable: split on purpose
  options=($2)
  # kill-on-invalid-dep: otherwise a job whose predecessor failed would stay in the queue forever
  [ -z "$3" ] || dependency=("--dependency=$3" --kill-on-invalid-dep=yes)
  shift 3
  id=$(sbatch --parsable "${dependency[@]}" "${options[@]}" "$@") || exit 1
  printf '%-6s %s\n' "$name" "${id%%;*}" >&2
  printf '%s\n' "${id%%;*}"
}

# submit_report DEPENDENCY DIR
submit_report() {
  [ "${ESPL_REPORT:-yes}" != yes ] ||
    submit report "${ESPL_SBATCH_REPORT:-}" "$1" "$ESPL_ROOT/jobs/report.sbatch" "$2" >/dev/null
}

chain_sweep() {
  local numbers run id
  run=$(espl_config run dir sweep "$@" --only 1)
  numbers=$("$ESPL_PROGRAM" sweep "$@" --slurm | sed -n 's/^sbatch --array=\([0-9,-]*\) .*/\1/p')
  [ -n "$numbers" ] || espl_refuse "$1: nothing to submit: no run is left to do"
  id=$(submit sweep "--array=$numbers ${ESPL_SBATCH_PRUNE:-}" "" "$ESPL_ROOT/jobs/sweep.sbatch" "$@")
  submit_report "afterany:$id" "$(dirname "$run")"
}

# chain_eval_options ARG...: sets options to those that repeat the measurement of the run's summary.
chain_eval_options() {
  local text limit=0
  # shellcheck disable=SC2206 # several options in one variable: split on purpose
  options=(${ESPL_EVAL:-})
  [ ${#options[@]} -eq 0 ] || return 0
  text=$(espl_config report text prune "$@")
  if [ -n "$text" ]; then
    options=(--text "$text" --window "$(espl_config report window prune "$@")")
    limit=$(espl_config report limit prune "$@")
  else
    options=(--text "$(espl_config validation text prune "$@")" --window "$(espl_config validation window prune "$@")")
  fi
  [ "$limit" = 0 ] || options+=(--limit "$limit")
}

chain_run() {
  local run options id
  run=$(espl_config run dir prune "$@")
  chain_eval_options "$@"
  id=$(submit prune "${ESPL_SBATCH_PRUNE:-}" "" "$ESPL_ROOT/jobs/prune.sbatch" "$@")
  id=$(submit eval "${ESPL_SBATCH_EVAL:-}" "afterok:$id" "$ESPL_ROOT/jobs/eval.sbatch" "$run" "${options[@]}")
  submit_report "afterany:$id" "$run"
}

[ $# -ge 1 ] || espl_refuse "usage: jobs/chain.sh CONFIG.json [--set ...]... | --sweep SWEEP.json [--set ...]..."
espl_modules
espl_check_program
# before anything is submitted: hours later it would be too late to notice
[ "${ESPL_REPORT:-yes}" != yes ] || espl_check_python ||
  espl_refuse "nothing submitted: set ESPL_PYTHON, or ESPL_REPORT=no for a chain without report"
if [ "$1" = --sweep ]; then
  shift
  chain_sweep "$@"
else
  chain_run "$@"
fi
