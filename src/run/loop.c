/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pruning path (loop.h). The order inside a step matters: the outcome is known before anything of it is recorded,
 * and what was recorded counts only once the checkpoint is complete. So a run that is killed anywhere repeats at most
 * one step, and repeats it exactly.
 */
#include "loop.h"
#include "espalier/model/shape.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "events.h"
#include "judge.h"
#include "milestones.h"
#include "progress.h"
#include "quality.h"
#include "stop.h"
#include "store.h"

/* Records the N:M patterns that a decision gives to its linears, or withdraws them: the linears were dense before. */
static void loop_set_patterns(espl_job *j, const espl_decision *d, bool withdraw) {
    for (int64_t i = 0; i < d->n; i++)
        if (espl_pattern_is_n_m(d->items[i].pattern))
            j->patterns[d->items[i].linear] = withdraw ? (espl_pattern){0} : d->items[i].pattern;
}

/* Collective. Checks that the masks hold exactly what was decided: a mask that is off by one weight would make every
 * later sparsity wrong, and nobody would notice. Replicas must have the same masks, since each measures its share of
 * the windows with its own. *pruned: weights that the masks prune now. */
static espl_status loop_verify(espl_job *j, const int64_t *expected, int64_t *pruned) {
    int64_t *counts = NULL;
    char name[ESPL_LINEAR_NAME_MAX];
    espl_status st = j->root ? espl_mem_alloc(&counts, j->linears, sizeof *counts, "counts") : ESPL_OK;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, st));
    ESPL_CHECK(st, done, espl_masks_count_pruned(&j->masks, counts, pruned));
    for (int64_t i = 0; counts && expected && st == ESPL_OK && i < j->linears; i++)
        if (counts[i] != expected[i])
            st = ESPL_FAIL(ESPL_INTERNAL, "%s has %" PRId64 " pruned weights, expected %" PRId64,
                           espl_linear_name(espl_model_layout(&j->config), i, name), counts[i], expected[i]);
    if (st == ESPL_OK) st = espl_masks_check_patterns(&j->masks, j->patterns, NULL);
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, st));
    st = espl_masks_compare_replicas(&j->masks);
done:
    espl_mem_free(&counts);
    return st;
}

/* Collective. Applies a step and verifies it. */
static espl_status loop_apply(espl_job *j, const espl_proposer *p, espl_outcome *o, int64_t *pruned) {
    ESPL_REGION_SCOPE(ESPL_REGION_PRUNE);
    int64_t *expected = NULL;
    espl_status st = j->root ? espl_mem_alloc(&expected, j->linears, sizeof *expected, "counts") : ESPL_OK;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, st));
    loop_set_patterns(j, &o->decision, false);
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, p->apply(j, o, expected)));
    st = loop_verify(j, expected, pruned);
done:
    espl_mem_free(&expected);
    return st;
}

/* Makes an outcome the accepted state. If this step asked no questions, the answers of the last step that did are kept.
 */
static void loop_accept(espl_job *j, const espl_outcome *o, int64_t pruned) {
    espl_quality before = j->last;
    espl_masks_accept(&j->masks);
    espl_judge_accept(j);
    j->last = o->after;
    if (o->after.mmlu_total == 0) {
        j->last.mmlu_right = before.mmlu_right;
        j->last.mmlu_total = before.mmlu_total;
        memcpy(j->last.mmlu_category_right, before.mmlu_category_right, sizeof before.mmlu_category_right);
        memcpy(j->last.mmlu_category_total, before.mmlu_category_total, sizeof before.mmlu_category_total);
    }
    if (o->after.freebaseqa_total == 0) {
        j->last.freebaseqa_right = before.freebaseqa_right;
        j->last.freebaseqa_total = before.freebaseqa_total;
    }
    j->pruned = pruned;
    j->revision++;
    j->has_profile = false;
}

static void loop_take_back(espl_job *j, const espl_decision *d) {
    double start = espl_clock_now();
    espl_masks_roll_back(&j->masks);
    loop_set_patterns(j, d, true);
    ESPL_DEBUG("masks put back in %.6f s", espl_clock_now() - start);
}

/* ---------------------------------------------------------------- trials */

/* A plan that was tried in this step, if `d` is one: the same weights are pruned then, and learn the same. */
static const espl_trial *loop_find_trial(const espl_job *j, const espl_decision *d) {
    for (int64_t k = 0; k < j->n_trials; k++) {
        const espl_decision *tried = &j->trials[k].outcome.decision;
        bool same = tried->n == d->n && (tried->power == d->power || (isnan(tried->power) && isnan(d->power)));
        for (int64_t i = 0; same && i < d->n; i++)
            same = tried->items[i].linear == d->items[i].linear && tried->items[i].step == d->items[i].step &&
                   espl_pattern_equal(tried->items[i].pattern, d->items[i].pattern);
        if (same) return &j->trials[k];
    }
    return NULL;
}

/* Keeps what was measured last as the outcome of its plan. */
static espl_status loop_keep_trial(espl_job *j, const espl_outcome *o) {
    espl_trial t = {.outcome = *o};
    int64_t windows = j->validation_windows;
    espl_status st;
    t.outcome.decision = (espl_decision){.n = o->decision.n, .power = o->decision.power};
    ESPL_CHECK(st, failed, espl_mem_alloc(&t.windows, windows, sizeof *t.windows, "a plan's losses"));
    ESPL_CHECK(st, failed,
               espl_mem_alloc(&t.outcome.decision.items, o->decision.n, sizeof *o->decision.items, "a tried plan"));
    ESPL_CHECK(st, failed, espl_mem_resize(&j->trials, j->n_trials + 1, sizeof *j->trials, "tried plans"));
    memcpy(t.windows, j->judged_windows, (size_t)windows * sizeof *t.windows);
    memcpy(t.outcome.decision.items, o->decision.items, (size_t)o->decision.n * sizeof *o->decision.items);
    j->trials[j->n_trials++] = t;
    return ESPL_OK;
failed:
    espl_mem_free(&t.windows);
    espl_mem_free(&t.outcome.decision.items);
    return st;
}

static void loop_forget_trials(espl_job *j) {
    for (int64_t k = 0; k < j->n_trials; k++) {
        espl_mem_free(&j->trials[k].windows);
        espl_mem_free(&j->trials[k].outcome.decision.items);
    }
    espl_mem_free(&j->trials);
    j->n_trials = 0;
}

/* Collective. An agent that has had a plan measured often decides on it: then the verdict is known. */
static espl_status loop_judge(espl_job *j, const espl_proposer *p, espl_outcome *o) {
    const espl_trial *t = loop_find_trial(j, &o->decision);
    if (!t) return p->judge(j, &o->after, &o->accepted);
    ESPL_DEBUG("iteration %" PRId64 ": judged when its plan was tried", o->iteration);
    memcpy(j->judged_windows, t->windows, (size_t)j->validation_windows * sizeof *t->windows);
    o->after = t->outcome.after;
    o->accepted = t->outcome.accepted;
    return ESPL_OK;
}

/* ------------------------------------------------------------------ steps */

/* Collective. Judges an applied step, keeps or undoes it, and records it. */
static espl_status loop_judge_and_settle(espl_job *j, const espl_proposer *p, espl_outcome *o, int64_t pruned,
                                         double start) {
    ESPL_TRY(loop_judge(j, p, o));
    if (o->accepted && (p->always_probes || o->iteration % j->o->probes_every == 0))
        ESPL_TRY(espl_quality_probe(j, &o->after));
    j->iteration = o->iteration;
    if (o->accepted) {
        loop_accept(j, o, pruned);
    } else {
        loop_take_back(j, &o->decision);
        j->rollbacks++;
    }
    double seconds = espl_clock_now() - start;
    j->longest_step = fmax(j->longest_step, seconds);
    espl_status st = espl_progress_outcome(j, o, seconds);
    if (st == ESPL_OK) st = espl_event_outcome(j, o, seconds);
    if (st == ESPL_OK && j->root) st = espl_job_remember(j, o);
    ESPL_TRY(espl_comm_agree(j->comm, st));
    if (o->accepted) ESPL_TRY(espl_milestones_measure(j)); /* before the checkpoint, which holds it */
    return espl_store_write(j);
}

static espl_status loop_step(espl_job *j, const espl_proposer *p) {
    double start = espl_clock_now();
    int64_t pruned = 0;
    espl_outcome o = {
        .iteration = j->iteration + 1, .before = j->last, .sparsity_before = espl_job_sparsity(j, j->pruned)};
    espl_status st;
    ESPL_CHECK(st, done, espl_stop_check(j, ESPL_STOP_BEFORE_STEP));
    ESPL_CHECK(st, done, p->propose(j, &o));
    if (j->end) goto done;
    ESPL_CHECK(st, done, loop_apply(j, p, &o, &pruned));
    o.sparsity_after = espl_job_sparsity(j, pruned);
    if (p->interruptible) ESPL_CHECK(st, done, espl_stop_check(j, ESPL_STOP_BETWEEN_PHASES));
    st = loop_judge_and_settle(j, p, &o, pruned, start);
done:
    loop_forget_trials(j);
    espl_decision_free(&o.decision);
    return st;
}

espl_status espl_loop_try(espl_job *j, espl_outcome *o) {
    const espl_proposer *p = j->proposer;
    int64_t pruned = 0;
    o->iteration = j->iteration + 1;
    o->before = j->last;
    o->sparsity_before = espl_job_sparsity(j, j->pruned);
    ESPL_TRY(espl_stop_check(j, ESPL_STOP_BETWEEN_PHASES));
    ESPL_TRY(loop_apply(j, p, o, &pruned));
    o->sparsity_after = espl_job_sparsity(j, pruned);
    ESPL_TRY(p->judge(j, &o->after, &o->accepted));
    loop_take_back(j, &o->decision);
    return espl_comm_agree(j->comm, loop_keep_trial(j, o));
}

espl_status espl_loop_run(espl_job *j, const espl_proposer *p) {
    j->proposer = p;
    while (!j->end) {
        j->end = p->reason_to_end(j);
        if (!j->end) ESPL_TRY(loop_step(j, p));
    }
    return ESPL_OK;
}
