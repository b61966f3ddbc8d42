/* The runs of a sweep, one after another, in the ranks that are there. */
#include "sweep.h"

#include "espalier/run/job.h"
#include "espalier/run/stop.h"

#include <string.h>

/* A sweep under way; the sweep itself is rank 0's alone. */
typedef struct sweep_job {
    espl_comm *c;
    const espl_sweep *s; /* NULL elsewhere */
    bool root;
    double start, limit; /* clock; run.max_minutes of the newest run */
    int64_t *order;      /* [n] runs to be done, on rank 0 */
    int64_t n, finished, failed;
} sweep_job;

/* ---------------------------------------------------------------- one run */

/* run.max_minutes is the sweep's: what is left of it is the run's. */
static double minutes_left(const sweep_job *k) { return k->limit - (espl_clock_now() - k->start) / 60; }

static void limit_time(sweep_job *k, espl_config *o) {
    k->limit = o->run_max_minutes;
    if (k->limit > 0) o->run_max_minutes = minutes_left(k) > 1e-3 ? minutes_left(k) : 1e-3;
}

static espl_status configure(sweep_job *k, int64_t i, espl_config *o) {
    ESPL_TRY(espl_sweep_config(k->s, i, o));
    ESPL_TRY(espl_config_check(o));
    ESPL_TRY(espl_config_check_files(o));
    limit_time(k, o);
    return espl_sweep_mark(k->s, i, "under way", "");
}

static espl_status run_configured(sweep_job *k, int64_t i, espl_config *o) {
    ESPL_TRY(espl_comm_agree(k->c, k->root ? configure(k, i, o) : ESPL_OK));
    ESPL_TRY(espl_config_broadcast(k->c, o));
    espl_region_reset();
    return espl_run_prune(k->c, o, true);
}

static espl_status run_one(sweep_job *k, int64_t i) {
    espl_config o;
    ESPL_TRY(espl_comm_agree(k->c, espl_config_init(&o)));
    espl_status st = run_configured(k, i, &o);
    espl_config_free(&o);
    return st;
}

/* Rank 0 only. The run's end goes on record. ESPL_STOPPED ends the sweep, a failure of the run does not. */
static espl_status record(sweep_job *k, int64_t i, espl_status st) {
    char text[ESPL_ERROR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", st == ESPL_OK ? "" : espl_base_error_text());
    if (st == ESPL_OK) {
        k->finished++;
        return espl_sweep_mark(k->s, i, "finished", "");
    }
    if (st == ESPL_STOPPED) {
        ESPL_TRY(espl_sweep_mark(k->s, i, "stopped", text));
        return ESPL_FAIL(ESPL_STOPPED, "%s: %s", espl_sweep_name(k->s, i), text);
    }
    k->failed++;
    ESPL_INFO("failed: %s: %s", espl_sweep_name(k->s, i), text);
    return espl_sweep_mark(k->s, i, "failed", text);
}

/* ------------------------------------------------------------- all of them */

static espl_status refuse_other(const espl_sweep *s, int64_t i, const espl_str *note) {
    return ESPL_FAIL(ESPL_CONFIG, "run %lld, %s/%s, is %s: rename the directory, or take another \"dir\"",
                     (long long)i + 1, s->dir, s->names[i], note->data ? note->data : "");
}

/* Appends run i, if it is to be done in this pass: what has never failed goes first, so that a run which kills the
 * whole job does not keep the others from being done. */
static espl_status consider(sweep_job *k, int64_t i, bool troubled_pass) {
    espl_sweep_state state;
    espl_str note = {0};
    espl_status st = espl_sweep_state_of(k->s, i, &state, &note);
    bool troubled = state == ESPL_SWEEP_FAILED || note.len > 0;
    if (st == ESPL_OK && state == ESPL_SWEEP_DIFFERS) st = refuse_other(k->s, i, &note);
    espl_str_free(&note);
    ESPL_TRY(st);
    if (state == ESPL_SWEEP_FINISHED && !troubled_pass) k->finished++;
    if (state != ESPL_SWEEP_FINISHED && troubled == troubled_pass) k->order[k->n++] = i;
    return ESPL_OK;
}

static espl_status plan(sweep_job *k, int64_t only) {
    int64_t all = espl_sweep_count(k->s), first = only < 0 ? 0 : only, last = only < 0 ? all : only + 1;
    ESPL_TRY(espl_mem_alloc(&k->order, all, sizeof *k->order, "runs of a sweep"));
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = first; i < last; i++) ESPL_TRY(consider(k, i, pass == 1));
    if (k->n == 0) ESPL_INFO("nothing to do: finished");
    return ESPL_OK;
}

/* Before a run begins: has somebody said stop, is the time up? */
static espl_status check_stop(const sweep_job *k) {
    bool late = k->root && k->limit > 0 && minutes_left(k) <= 0;
    if (espl_comm_max(k->c, espl_stop_signalled() || late) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_STOPPED,
                     "stopped between two runs, by a signal or run.max_minutes; the same command continues");
}

static espl_status run_planned(sweep_job *k) {
    for (int64_t at = 0; at < k->n; at++) {
        ESPL_TRY(check_stop(k));
        int64_t i = k->root ? k->order[at] : 0;
        if (k->root)
            ESPL_INFO("run %lld of the sweep (%lld of %lld to do): %s", (long long)i + 1, (long long)at + 1,
                      (long long)k->n, espl_sweep_name(k->s, i));
        espl_status st = run_one(k, i);
        ESPL_TRY(espl_comm_agree(k->c, k->root ? record(k, i, st) : ESPL_OK));
    }
    return ESPL_OK;
}

static espl_status conclude(const sweep_job *k) {
    if (k->failed == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_FAILED, "%lld run%s failed, %lld finished: --list says why; the same command tries again",
                     (long long)k->failed, k->failed == 1 ? "" : "s", (long long)k->finished);
}

espl_status espl_sweep_run(espl_comm *c, const espl_sweep *s, int64_t only) {
    sweep_job k = {.c = c, .s = s, .root = espl_comm_rank(c) == 0, .start = espl_clock_now()};
    espl_stop_watch();
    espl_status st = espl_comm_agree(c, k.root ? plan(&k, only) : ESPL_OK);
    espl_comm_broadcast(c, &k.n, sizeof k.n, 0);
    if (st == ESPL_OK) st = run_planned(&k);
    if (st == ESPL_OK) st = espl_comm_agree(c, k.root ? conclude(&k) : ESPL_OK);
    espl_mem_free(&k.order);
    return st;
}
