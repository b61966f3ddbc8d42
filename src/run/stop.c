/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping early. A signal may reach one rank only, and only rank 0 looks for the stop file, so the ranks agree on a
 * reason between two phases and stop together: a rank that left alone would leave the others in a collective.
 */
#include "stop.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>

/* Seconds between two looks at the stop file: a shared file system would feel more. */
static const double LOOK_SECONDS = 0.5;
static const double STEP_MARGIN = 1.1; /* the next step may take a tenth longer than the longest so far */

static volatile sig_atomic_t caught_signal;

static void stop_remember_signal(int number) { caught_signal = number; }

void espl_stop_watch(void) {
    struct sigaction a = {.sa_handler = stop_remember_signal, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

void espl_stop_unwatch(void) {
    signal(SIGUSR1, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (caught_signal) raise(caught_signal);
}

bool espl_stop_signalled(void) { return caught_signal != 0; }

/* A signal may come to a rank that waits for rank 0, which waits for the agent's reply: rank 0 must hear of it now. */
static void stop_pass_signal_on(void *all) {
    if (espl_stop_signalled()) espl_comm_nudge(all);
}

void espl_stop_watch_waits(espl_comm *all) { espl_comm_watch(all ? stop_pass_signal_on : NULL, all); }

static bool stop_is_signalled(const espl_job *j) {
    return espl_stop_signalled() || (j->root && espl_comm_nudged(j->all));
}

/* The ranks agree on the largest value. */
typedef enum stop_reason { STOP_NO_REASON, STOP_SIGNAL, STOP_FILE, STOP_TIME_LIMIT } stop_reason;

static stop_reason stop_reason_here(const espl_job *j, espl_stop_point point) {
    if (stop_is_signalled(j)) return STOP_SIGNAL;
    if (!j->root) return STOP_NO_REASON;
    espl_str file = {0};
    bool requested = espl_job_path(j, "stop", &file) == ESPL_OK && espl_file_exists(file.data);
    espl_str_free(&file);
    if (requested) return STOP_FILE;
    double limit = 60 * j->o->run_max_minutes, used = espl_clock_now() - j->start;
    bool late = limit > 0 && used + STEP_MARGIN * j->longest_step > limit;
    return point == ESPL_STOP_BEFORE_STEP && late ? STOP_TIME_LIMIT : STOP_NO_REASON;
}

/* Renames RUN/stop to RUN/stopped: the next start must not stop again, and scripts see why this one ended. */
static void stop_retire_file(const espl_job *j) {
    espl_str from = {0}, to = {0};
    if (espl_job_path(j, "stop", &from) == ESPL_OK && espl_job_path(j, "stopped", &to) == ESPL_OK &&
        rename(from.data, to.data) != 0)
        ESPL_INFO("note: %s cannot be renamed to %s and would stop the next start too", from.data, to.data);
    espl_str_free(&from);
    espl_str_free(&to);
}

espl_status espl_stop_check(espl_job *j, espl_stop_point point) {
    static const char *const texts[] = {[STOP_NO_REASON] = "",
                                        [STOP_SIGNAL] = "a signal",
                                        [STOP_FILE] = "the stop file",
                                        [STOP_TIME_LIMIT] = "the time limit (run.max_minutes)"};
    /* Whoever else writes into the directory, this run must not go on to do so. */
    ESPL_TRY(espl_comm_agree(j->comm, espl_run_lock_check(j->lock)));
    /* Nor may it go on with a model that is another one by now. */
    if (j->model) ESPL_TRY(espl_comm_agree(j->comm, espl_weights_check_unchanged(espl_model_weights(j->model))));
    int reason = espl_comm_max(j->comm, (int)stop_reason_here(j, point));
    if (reason == STOP_NO_REASON) return ESPL_OK;
    if (j->root && reason == STOP_FILE) stop_retire_file(j);
    return ESPL_FAIL(ESPL_STOPPED, "stopped by %s after iteration %" PRId64 "; --resume continues from there",
                     texts[reason], j->iteration);
}

bool espl_stop_is_due(espl_job *j) {
    double now = espl_clock_now();
    if (stop_is_signalled(j)) return true;
    if (now - j->looked_for_stop < LOOK_SECONDS) return false;
    j->looked_for_stop = now;
    return stop_reason_here(j, ESPL_STOP_BEFORE_STEP) != STOP_NO_REASON;
}
