/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a sweep: its runs one after another, on the ranks that there are. Each run is a resume, so that the same command
 * continues an interrupted sweep. A failing run is recorded and the next one begins, but a stop request ends all.
 */
#include <inttypes.h>

#include "espalier/run/job.h"
#include "espalier/run/lock.h"
#include "espalier/run/stop.h"
#include "plan.h"

static const double MINUTES_MIN = 1e-3; /* 0 would mean no limit */

/* A sweep under way. */
typedef struct sweep_job {
    espl_comm *comm;
    const espl_sweep *s; /* rank 0; elsewhere NULL */
    bool root;
    double start, limit; /* clock at the start; run.max_minutes of the newest run: the sweep shares it out */
    int64_t *order;      /* [n] runs to be done; rank 0 */
    int64_t n, finished, failed, held; /* held: by another process */
} sweep_job;

static double sweep_minutes_left(const sweep_job *k) { return k->limit - (espl_clock_now() - k->start) / 60; }

/* --------------------------------------------------------------- one run */

/* Rank 0 only. A run that another process works on is left to it, with its mark. */
static bool sweep_run_is_held(sweep_job *k, int64_t run) {
    espl_str dir = {0}, holder = {0};
    bool held = espl_sweep_path(k->s, run, "", &dir) == ESPL_OK && espl_run_lock_is_held(dir.data, &holder);
    if (held) ESPL_INFO("left out: %s is in use by %s", dir.data, holder.data ? holder.data : "?");
    k->held += held;
    espl_str_free(&dir);
    espl_str_free(&holder);
    return held;
}

/* Rank 0 only. The configuration of a run, checked; run.max_minutes becomes what is left of it. */
static espl_status sweep_prepare_run(sweep_job *k, int64_t run, espl_config *o) {
    ESPL_TRY(espl_sweep_config(k->s, run, o));
    ESPL_TRY(espl_config_check(o));
    ESPL_TRY(espl_config_locate_model(o));
    ESPL_TRY(espl_config_check_files(o));
    k->limit = o->run_max_minutes;
    if (k->limit > 0) {
        double left = sweep_minutes_left(k);
        o->run_max_minutes = left > MINUTES_MIN ? left : MINUTES_MIN;
    }
    return espl_sweep_write_mark(k->s, run, SWEEP_MARK_UNDER_WAY, "");
}

/* Collective. */
static espl_status sweep_execute_run(sweep_job *k, int64_t run) {
    espl_config o;
    espl_status st;
    ESPL_TRY(espl_comm_agree(k->comm, espl_config_init(&o)));
    ESPL_CHECK(st, done, espl_comm_agree(k->comm, k->root ? sweep_prepare_run(k, run, &o) : ESPL_OK));
    ESPL_CHECK(st, done, espl_config_broadcast(k->comm, &o));
    espl_region_reset();
    st = espl_run_prune(k->comm, &o, true);
done:
    espl_config_free(&o);
    return st;
}

/* Rank 0 only. Writes the end of a run into its directory. ESPL_STOPPED ends the sweep; a failed run does not. A run
 * that missed its target is finished: another attempt would miss it again. */
static espl_status sweep_record_end(sweep_job *k, int64_t run, espl_status st) {
    char text[ESPL_ERROR_TEXT_MAX];
    if (st == ESPL_OK || st == ESPL_OFF_TARGET || st == ESPL_FELL_BACK) {
        if (st != ESPL_OK) ESPL_INFO("note: %s", espl_base_error_text());
        k->finished++;
        return espl_sweep_write_mark(k->s, run, SWEEP_MARK_FINISHED, "");
    }
    snprintf(text, sizeof text, "%s", espl_base_error_text()); /* writing the mark may set another */
    if (st == ESPL_STOPPED) {
        ESPL_TRY(espl_sweep_write_mark(k->s, run, SWEEP_MARK_STOPPED, text));
        return ESPL_FAIL(ESPL_STOPPED, "%s: %s", espl_sweep_name(k->s, run), text);
    }
    k->failed++;
    ESPL_INFO("failed: %s: %s", espl_sweep_name(k->s, run), text);
    return espl_sweep_write_mark(k->s, run, SWEEP_MARK_FAILED, text);
}

/* -------------------------------------------------------------- all runs */

/* Rank 0 only. A process that was killed between the end of a run and its mark leaves the mark's part file, the mark of
 * a run under way, and perhaps its lock. */
static espl_status sweep_finish_mark(const sweep_job *k, int64_t run) {
    espl_str part = {0}, dir = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_sweep_path(k->s, run, "sweep.json.part", &part));
    ESPL_CHECK(st, done, espl_sweep_path(k->s, run, "", &dir));
    espl_run_lock_clear_dead(dir.data, espl_stop_signalled);
    if (espl_file_exists(part.data)) st = espl_sweep_write_mark(k->s, run, SWEEP_MARK_FINISHED, "");
done:
    espl_str_free(&part);
    espl_str_free(&dir);
    return st;
}

/* Rank 0 only. Which runs are to be done, in order. Runs that failed, or were under way when their process died,
 * go last: one that kills the whole job must not keep the others from being done. ESPL_CONFIG: a directory holds
 * another run. */
static espl_status sweep_order_runs(sweep_job *k, int64_t only) {
    int64_t all = espl_sweep_count(k->s), first = only < 0 ? 0 : only, last = only < 0 ? all : only + 1;
    ESPL_TRY(espl_mem_alloc(&k->order, all, sizeof *k->order, "runs of a sweep"));
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = first; i < last; i++) {
            espl_sweep_state state = ESPL_SWEEP_NEW;
            espl_str note = {0};
            espl_status st = espl_sweep_state_of(k->s, i, &state, &note);
            bool troubled = state == ESPL_SWEEP_FAILED || note.len > 0; /* failed, or under way when it was killed */
            if (st == ESPL_OK && state == ESPL_SWEEP_DIFFERS)
                st = ESPL_FAIL(ESPL_CONFIG, "run %" PRId64 ", %s/%s: %s; rename the directory, or use another \"dir\"",
                               i + 1, k->s->dir, k->s->names[i], note.data ? note.data : "");
            espl_str_free(&note);
            ESPL_TRY(st);
            if (state == ESPL_SWEEP_FINISHED) {
                k->finished += pass == 0;
                ESPL_TRY(sweep_finish_mark(k, i));
            } else if (troubled == (pass == 1)) {
                k->order[k->n++] = i;
            }
        }
    if (k->n == 0) ESPL_INFO("nothing to do: all runs are finished");
    return ESPL_OK;
}

/* Collective. Has somebody asked to stop, or is the time up? */
static espl_status sweep_check_stop(const sweep_job *k) {
    bool late = k->root && k->limit > 0 && sweep_minutes_left(k) <= 0;
    if (espl_comm_max(k->comm, espl_stop_signalled() || late) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_STOPPED,
                     "stopped between two runs, by a signal or run.max_minutes; the same command continues");
}

espl_status espl_sweep_run(espl_comm *c, const espl_sweep *s, int64_t only) {
    sweep_job k = {.comm = c, .s = s, .root = espl_comm_rank(c) == 0, .start = espl_clock_now()};
    espl_status st;
    espl_stop_watch();
    ESPL_CHECK(st, done, espl_comm_agree(c, k.root ? sweep_order_runs(&k, only) : ESPL_OK));
    espl_comm_broadcast(c, &k.n, sizeof k.n, 0);
    for (int64_t at = 0; at < k.n; at++) {
        ESPL_CHECK(st, done, sweep_check_stop(&k));
        int64_t run = k.root ? k.order[at] : 0;
        if (k.root)
            ESPL_INFO("run %" PRId64 " of the sweep (%" PRId64 " of %" PRId64 " to do): %s", run + 1, at + 1, k.n,
                      espl_sweep_name(s, run));
        bool held = k.root && sweep_run_is_held(&k, run);
        espl_comm_broadcast(c, &held, sizeof held, 0);
        if (held) continue;
        st = sweep_execute_run(&k, run);
        ESPL_CHECK(st, done, espl_comm_agree(c, k.root ? sweep_record_end(&k, run, st) : ESPL_OK));
    }
    if (k.root && k.failed > 0)
        st = ESPL_FAIL(ESPL_FAILED,
                       "%" PRId64 " run%s failed, %" PRId64 " finished: --list says why; the same command tries again",
                       k.failed, k.failed == 1 ? "" : "s", k.finished);
    else if (k.root && k.held > 0)
        st = ESPL_FAIL(ESPL_FAILED, "%" PRId64 " run%s left to another process, %" PRId64 " finished", k.held,
                       k.held == 1 ? " was" : "s were", k.finished);
    st = espl_comm_agree(c, st);
done:
    espl_mem_free(&k.order);
    return st;
}
