#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by jobs/*.sbatch: modules, ranks and threads, launcher, signals, deadline, requeue. See docs/slurm.md.
#
# NOTE: settings of a site or a user, here or in the environment, which sbatch passes on to the job:
#   ESPL_MODULES        modules to load, "gcc/13 openmpi/4.1 hdf5/1.14-parallel openblas" (none)
#   ESPL_PROGRAM        the program (that of the build in build/release, or the installed one)
#   ESPL_LAUNCHER       srun (with PMIx) or mpirun (srun)
#   ESPL_LAUNCH_OPTIONS additional options of the launcher (none)
#   ESPL_BIND           cores: bind each rank to its own; none: if binding is impossible or nodes share cores (cores)
#   ESPL_MARGIN         seconds before the time limit at which a run must have stopped (120)
#   ESPL_MAX_RESTARTS   a job that was restarted this often does not requeue itself (100)
#   ESPL_PYTHON         a Python with h5py, jinja2, matplotlib, pandas and scipy, for reports (python3, or else the
#                       system's /usr/bin/python3)
ESPL_MODULES=${ESPL_MODULES:-}
ESPL_LAUNCHER=${ESPL_LAUNCHER:-srun}
ESPL_LAUNCH_OPTIONS=${ESPL_LAUNCH_OPTIONS:-}
ESPL_BIND=${ESPL_BIND:-cores}
ESPL_MARGIN=${ESPL_MARGIN:-120}
ESPL_MAX_RESTARTS=${ESPL_MAX_RESTARTS:-100}
ESPL_PYTHON=${ESPL_PYTHON:-python3}

# ESPL_ROOT, which the script that sources this has set: the repository, or PREFIX/share/espalier of an installation.
if [ -z "${ESPL_PROGRAM:-}" ]; then
  ESPL_PROGRAM=$ESPL_ROOT/build/release/espalier
  [ -x "$ESPL_PROGRAM" ] || [ ! -x "$ESPL_ROOT/../../bin/espalier" ] || ESPL_PROGRAM=$ESPL_ROOT/../../bin/espalier
fi

espl_note() { printf '%s  %s\n' "$(date '+%F %T')" "$*" >&2; }
espl_refuse() { espl_note "$*" && exit 2; }

# ------------------------------------------------------------------ start

espl_threads=${SLURM_CPUS_PER_TASK:-1}
espl_ranks=${SLURM_NTASKS:-1}

espl_modules() {
  local module
  for module in $ESPL_MODULES; do module load "$module"; done
}

espl_check_program() {
  [ -x "$ESPL_PROGRAM" ] || espl_refuse "$ESPL_PROGRAM is missing: build espalier first, or set ESPL_PROGRAM"
}

# espl_check_python: sets espl_python to the interpreter of reports, or fails and says which packages it lacks.
espl_check_python() {
  local path
  if ! path=$(command -v "$ESPL_PYTHON"); then
    espl_note "no report: ESPL_PYTHON is $ESPL_PYTHON, which cannot be run"
    return 1
  fi
  espl_python=$("$path" -B "$ESPL_ROOT/analysis/needs.py" 2>&1) && return 0
  espl_note "no report by $path (ESPL_PYTHON): $espl_python"
  return 1
}

espl_environment() {
  espl_modules
  espl_check_program
  export OMP_NUM_THREADS=$espl_threads
  trap 'espl_on_signal USR1' USR1
  trap 'espl_on_signal TERM' TERM
  # root only in containers and tests; Open MPI wants both variables
  if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  espl_note "job ${SLURM_JOB_ID:-none}, restart ${SLURM_RESTART_COUNT:-0}, on ${SLURM_JOB_NODELIST:-$(hostname)}:" \
    "$espl_ranks ranks x $espl_threads threads, $ESPL_LAUNCHER"
}

# ---------------------------------------------------------------- signals
#
# Slurm signals this shell (--signal=B:USR1@300), which signals the launcher, which signals the ranks: this works for
# both srun and mpirun. TERM (scancel, preemption) also stops the run at a checkpoint, but the job is not requeued.

espl_child='' espl_signalled='' espl_cancelled=''
espl_on_signal() {
  espl_signalled=yes
  [ "$1" = USR1 ] || espl_cancelled=yes
  espl_note "signal $1: stopping at the next checkpoint"
  if [ -n "$espl_child" ]; then kill -USR1 "$espl_child" 2>/dev/null; fi
}

# espl_await COMMAND ARG...: runs a command and returns its exit code. It runs in the background, because bash handles
# signals only between foreground commands.
espl_await() {
  local rc
  "$@" &
  espl_child=$!
  while :; do
    espl_signalled=''
    wait "$espl_child"
    rc=$?
    [ -n "$espl_signalled" ] || break # a signal ends `wait`, but not the command: wait again
  done
  espl_child=''
  return $rc
}

# espl_launch RANKS ARG...: runs the program on that many ranks.
espl_launch() {
  local ranks=$1 command
  shift
  case $ESPL_LAUNCHER in
    srun)
      # --cpus-per-task: since Slurm 22.05, srun no longer inherits it from the job. --wait: 60 s after one rank has
      # ended, the others are ended too: a lost rank must not leave them waiting.
      command=(srun --mpi=pmix "--ntasks=$ranks" "--cpus-per-task=$espl_threads" "--cpu-bind=$ESPL_BIND" --wait=60)
      ;;
    mpirun)
      command=(mpirun -n "$ranks" --bind-to none)
      [ "$ESPL_BIND" = none ] || command=(mpirun -n "$ranks" --map-by "slot:PE=$espl_threads" --bind-to core)
      ;;
    *) espl_refuse "ESPL_LAUNCHER is \"$ESPL_LAUNCHER\", expected srun or mpirun" ;;
  esac
  # shellcheck disable=SC2206 # several options in one variable: split on purpose
  command+=($ESPL_LAUNCH_OPTIONS)
  espl_await "${command[@]}" "$ESPL_PROGRAM" "$@"
}

# --------------------------------------------------------------- deadline

# Prints the minutes until the job's end, less the margin; nothing if there is no limit. Asks squeue, since Slurm 22.05
# has no environment variable for the end time.
espl_minutes_left() {
  local end
  end=$(squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null) || return 0
  end=$(date -d "$end" +%s 2>/dev/null) || return 0 # no limit: "N/A"
  awk -v s=$((end - $(date +%s) - ESPL_MARGIN)) 'BEGIN { printf "%.3f\n", (s > 1 ? s : 1) / 60 }'
}

# espl_deadline: sets espl_limit to the option that passes the deadline to the program.
espl_limit=()
espl_deadline() {
  local minutes
  minutes=$(espl_minutes_left)
  [ -z "$minutes" ] || espl_limit=(--set "run.max_minutes=$minutes")
}

# ---------------------------------------------------------- configuration

# espl_config SECTION KEY ARG...: prints a value of the configuration that `espalier ARG...` would use, a text without its
# quotes. One process needs no daemon of Open MPI, which jobs that start at the same time on one host can fail to start.
espl_config() {
  local section=$1 key=$2
  shift 2
  OMPI_MCA_ess_singleton_isolated=1 "$ESPL_PROGRAM" "$@" --print-config |
    sed -n "/^  \"$section\": {\$/,/^  }/{s/^    \"$key\": \"\(.*\)\",\{0,1\}\$/\1/p;s/^    \"$key\": \([^\",]*\),\{0,1\}\$/\1/p}"
}

# espl_newest_checkpoint RUN_DIR: prints the path of the newest checkpoint, nothing if there is none.
espl_newest_checkpoint() {
  local files
  shopt -s nullglob
  files=("$1"/checkpoints/iteration-*.h5)
  shopt -u nullglob
  [ ${#files[@]} -eq 0 ] || printf '%s\n' "${files[-1]}"
}

# ---------------------------------------------------------------- requeue

# espl_requeue RUN_DIR NEWEST: requeues this job, unless it was cancelled or another start would get no further. NEWEST
# is the newest checkpoint at the start of this job: if it still is, no progress was made.
espl_requeue() {
  if [ -n "$espl_cancelled" ]; then
    espl_note "cancelled; submit it again to continue"
  elif [ -e "$1/stopped" ]; then
    espl_note "stopped by $1/stop; submit it again to continue"
  elif [ "$(espl_newest_checkpoint "$1")" = "$2" ]; then
    espl_note "not requeued: no checkpoint was reached before the time limit; raise --time (ESPL_MARGIN, if it is short)"
  elif [ "${SLURM_RESTART_COUNT:-0}" -ge "$ESPL_MAX_RESTARTS" ]; then
    espl_note "not requeued: restarted ${SLURM_RESTART_COUNT:-0} times (ESPL_MAX_RESTARTS); submit it again to continue"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    espl_note "requeued"
  else
    espl_note "Slurm refuses to requeue this job; submit it again to continue"
  fi
}

# espl_resumable RUN_DIR VERB ARG...: runs a command that continues from its checkpoints, requeues the job if it has to
# be continued, and ends this shell with the exit code. A run.max_minutes among the arguments overrides the deadline, as
# it comes later.
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
