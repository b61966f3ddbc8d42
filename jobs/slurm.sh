#!/usr/bin/env bash
# Sourced by jobs/*.sbatch: modules, ranks and threads, launcher, signals, deadline, requeue. docs/slurm.md explains.
#
# NOTE: what a site or a user sets, here or in the environment that sbatch takes along:
#   ESPL_MODULES        modules to load, "gcc/13 openmpi/4.1 hdf5/1.14-parallel openblas" (none)
#   ESPL_PROGRAM        the program (build/release/espalier)
#   ESPL_LAUNCHER       srun (with PMIx) or mpirun (srun)
#   ESPL_LAUNCH_OPTIONS more options for the launcher (none)
#   ESPL_BIND           cores: each rank has its own; none: where cores cannot be bound, or nodes share them (cores)
#   ESPL_MARGIN         seconds before the time limit that nothing may run into (120)
#   ESPL_MAX_RESTARTS   a job that was restarted more often does not requeue itself (100)
#   ESPL_PYTHON         a Python with h5py, jinja2, matplotlib, pandas and scipy, for reports (python3)
ESPL_MODULES=${ESPL_MODULES:-}
ESPL_LAUNCHER=${ESPL_LAUNCHER:-srun}
ESPL_LAUNCH_OPTIONS=${ESPL_LAUNCH_OPTIONS:-}
ESPL_BIND=${ESPL_BIND:-cores}
ESPL_MARGIN=${ESPL_MARGIN:-120}
ESPL_MAX_RESTARTS=${ESPL_MAX_RESTARTS:-100}
ESPL_PYTHON=${ESPL_PYTHON:-python3}

# Slurm runs a copy of the job script, so the repository is where the job was submitted, unless ESPL_ROOT says otherwise.
ESPL_ROOT=${ESPL_ROOT:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
ESPL_PROGRAM=${ESPL_PROGRAM:-$ESPL_ROOT/build/release/espalier}

espl_note() { printf '%s  %s\n' "$(date '+%F %T')" "$*" >&2; }
espl_refuse() { espl_note "$*" && exit 2; }

# ------------------------------------------------------------------ start

espl_threads=${SLURM_CPUS_PER_TASK:-1}
espl_ranks=${SLURM_NTASKS:-1}

espl_environment() {
  local module
  for module in $ESPL_MODULES; do module load "$module"; done
  [ -x "$ESPL_PROGRAM" ] || espl_refuse "$ESPL_PROGRAM is missing: build first, submit from the repository or set ESPL_ROOT"
  export OMP_NUM_THREADS=$espl_threads
  trap 'espl_on_signal USR1' USR1
  trap 'espl_on_signal TERM' TERM
  # only in containers and tests; Open MPI asks for it twice
  if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  espl_note "job ${SLURM_JOB_ID:-none}, restart ${SLURM_RESTART_COUNT:-0}, on ${SLURM_JOB_NODELIST:-$(hostname)}:" \
    "$espl_ranks ranks x $espl_threads threads, $ESPL_LAUNCHER"
}

# ---------------------------------------------------------------- signals
#
# Slurm signals this shell (--signal=B:USR1@300), which tells the launcher, which tells the ranks: that way holds for srun
# and mpirun alike. TERM (scancel, preemption) does the same, but then nobody wants the job back in the queue.

espl_child='' espl_signalled='' espl_cancelled=''
espl_on_signal() {
  espl_signalled=yes
  [ "$1" = USR1 ] || espl_cancelled=yes
  espl_note "signal $1: stopping at the next checkpoint"
  if [ -n "$espl_child" ]; then kill -USR1 "$espl_child" 2>/dev/null; fi
}

# Runs a command in the background, so that signals are handled while it runs, and returns its exit code.
espl_await() {
  local rc
  "$@" &
  espl_child=$!
  while :; do
    espl_signalled=''
    wait "$espl_child"
    rc=$?
    [ -n "$espl_signalled" ] || break # a signal ended the wait: wait on
  done
  espl_child=''
  return $rc
}

# espl_launch RANKS ARG...: the program on that many ranks.
espl_launch() {
  local ranks=$1 command
  shift
  case $ESPL_LAUNCHER in
    srun)
      # --cpus-per-task: srun no longer takes it from the job (since Slurm 22.05). --wait: a rank that is lost ends the rest.
      command=(srun --mpi=pmix "--ntasks=$ranks" "--cpus-per-task=$espl_threads" "--cpu-bind=$ESPL_BIND" --wait=60)
      ;;
    mpirun)
      command=(mpirun -n "$ranks" --bind-to none)
      [ "$ESPL_BIND" = none ] || command=(mpirun -n "$ranks" --map-by "slot:PE=$espl_threads" --bind-to core)
      ;;
    *) espl_refuse "ESPL_LAUNCHER is \"$ESPL_LAUNCHER\", expected srun or mpirun" ;;
  esac
  # shellcheck disable=SC2206 # options, split on purpose
  command+=($ESPL_LAUNCH_OPTIONS)
  espl_await "${command[@]}" "$ESPL_PROGRAM" "$@"
}

# --------------------------------------------------------------- deadline

# Minutes until the job's end, less the margin; nothing if there is no limit. Slurm 22.05 has no variable for it.
espl_minutes_left() {
  local end
  end=$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null) || return 0
  end=$(date -d "$end" +%s 2>/dev/null) || return 0 # "N/A"
  awk -v s=$((end - $(date +%s) - ESPL_MARGIN)) 'BEGIN { printf "%.3f\n", (s > 1 ? s : 1) / 60 }'
}

# Fills espl_limit with the option that tells the program.
espl_limit=()
espl_deadline() {
  local minutes
  minutes=$(espl_minutes_left)
  [ -z "$minutes" ] || espl_limit=(--set "run.max_minutes=$minutes")
}

# ---------------------------------------------------------- configuration

# espl_config SECTION KEY ARG...: a text of the configuration that `espalier ARG...` would use.
espl_config() {
  local section=$1 key=$2
  shift 2
  "$ESPL_PROGRAM" "$@" --print-config |
    sed -n "/^  \"$section\": {\$/,/^  }/s/^    \"$key\": \"\\(.*\\)\",\\{0,1\\}\$/\\1/p"
}

espl_newest_checkpoint() {
  local files
  shopt -s nullglob
  files=("$1"/checkpoints/iteration-*.h5)
  shopt -u nullglob
  [ ${#files[@]} -eq 0 ] || printf '%s\n' "${files[-1]}"
}

# ---------------------------------------------------------------- requeue

# espl_requeue RUN_DIR NEWEST: back into the queue, unless that would be for nothing. NEWEST was the newest checkpoint when
# this job started.
espl_requeue() {
  if [ -n "$espl_cancelled" ]; then
    espl_note "cancelled: submit again to go on"
  elif [ -e "$1/stopped" ]; then
    espl_note "$1/stop was there: submit again to go on"
  elif [ "$(espl_newest_checkpoint "$1")" = "$2" ]; then
    espl_note "no checkpoint was reached in this job's time: not requeued; raise --time (and ESPL_MARGIN, if it is short)"
  elif [ "${SLURM_RESTART_COUNT:-0}" -ge "$ESPL_MAX_RESTARTS" ]; then
    espl_note "restarted ${SLURM_RESTART_COUNT:-0} times already (ESPL_MAX_RESTARTS): submit again to go on"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    espl_note "requeued"
  else
    espl_note "Slurm does not requeue this job: submit again to go on"
  fi
}

# espl_resumable RUN_DIR VERB ARG...: runs what continues by itself, and ends this job. A run.max_minutes among the
# arguments comes later, and so counts more than the deadline.
espl_resumable() {
  local run=$1 verb=$2 newest rc=0
  shift 2
  newest=$(espl_newest_checkpoint "$run")
  espl_deadline
  espl_launch "$espl_ranks" "$verb" "${espl_limit[@]}" "$@" || rc=$?
  espl_note "exit code $rc"
  [ $rc -ne 75 ] || espl_requeue "$run" "$newest"
  exit $rc
}
