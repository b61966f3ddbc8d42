/* One iteration of the loop. */
#include "internal.h"

#include <math.h>
#include <string.h>

/* --------------------------------------------------------------- profile */

static void show_calibration(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "profile: pass %lld of %lld", (long long)done, (long long)n);
}

/* Without forward windows there is no s, without backward ones no g, and of a linear that is pruned away neither. */
static espl_status check_profile(const job *j) {
    bool wants_s = j->o->calibration_forward > 0, wants_g = j->o->calibration_backward > 0;
    char name[64];
    for (int64_t i = 0; i < j->linears; i++)
        if (j->rows[i].pruned < j->rows[i].weights &&
            ((wants_s && !isfinite(j->rows[i].s)) || (wants_g && !isfinite(j->rows[i].g))))
            return ESPL_FAIL(ESPL_FORMAT,
                             "%s: the profile of %s on calibration.text is not a number (s %g, g %g): the model's "
                             "weights hold NaN or infinity, or overflow",
                             j->o->model_path, espl_linear_name(i, name), j->rows[i].s, j->rows[i].g);
    return ESPL_OK;
}

/* A rolled back iteration leaves the model as it was, and its profile with it. */
static espl_status profile(job *j) {
    espl_calibration_options o = {.window = j->o->calibration_window,
                                  .forward = j->o->calibration_forward,
                                  .backward = j->o->calibration_backward};
    if (j->has_profile) return ESPL_OK;
    double start = espl_clock_now();
    espl_calibration_free(&j->calibration);
    ESPL_TRY(espl_model_calibrate(j->m, &o, j->data.calibration, show_calibration, NULL, &j->calibration));
    ESPL_TRY(espl_sensitivity_profile(j->c, j->m, &j->calibration, j->rows));
    ESPL_TRY(espl_comm_agree(j->c, j->root ? check_profile(j) : ESPL_OK));
    j->has_profile = true;
    espl_region_add(ESPL_REGION_PROFILE, espl_clock_now() - start);
    return ESPL_OK;
}

/* ------------------------------------------------------------------- ask */

static espl_status ask_agent(job *j, espl_decision *out) {
    const espl_config *o = j->o;
    espl_agent_view v = {.iteration = j->iteration + 1,
                         .budget = {.target = o->prune_target,
                                    .cap = o->prune_cap,
                                    .max_step = o->prune_max_step,
                                    .max_linears = o->prune_max_linears,
                                    .threshold = o->prune_threshold,
                                    .max_iterations = o->prune_max_iterations},
                         .layers = j->config.layers,
                         .rows = j->rows,
                         .sparsity = espl_job_sparsity(j, j->pruned),
                         .sparsity_model = espl_job_sparsity_of_model(j, j->pruned),
                         .dense = j->dense,
                         .last = j->last,
                         .history = j->history,
                         .n_history = j->n_history,
                         .mixed = o->prune_mixed,
                         .patterns = j->patterns};
    memcpy(v.in, j->shape.in, sizeof v.in);
    return espl_agent_ask(j->agent, &v, out);
}

/* What every rank must know of the decision: not its texts. */
static espl_status share_decision(job *j, espl_decision *d) {
    int64_t n = d->n;
    espl_comm_broadcast(j->c, &n, sizeof n, 0);
    espl_status st = ESPL_OK;
    if (!j->root) st = espl_decision_init(d, n);
    ESPL_TRY(espl_comm_agree(j->c, st));
    d->n = n;
    espl_comm_broadcast(j->c, d->items, n * (int64_t)sizeof *d->items, 0);
    espl_comm_broadcast(j->c, &d->stop, sizeof d->stop, 0);
    return ESPL_OK;
}

static espl_status ask(job *j, espl_decision *d) {
    double start = espl_clock_now();
    ESPL_TRY(espl_comm_agree(j->c, j->root ? ask_agent(j, d) : ESPL_OK));
    espl_region_add(ESPL_REGION_AGENT, espl_clock_now() - start);
    return share_decision(j, d);
}

/* ----------------------------------------------------------------- prune */

static int64_t count_of(const job *j, const espl_decision_item *item) {
    return llround(item->step * (double)j->rows[item->linear].weights);
}

static espl_status prune_linear(job *j, espl_score score, const espl_decision_item *item) {
    const espl_linear *l = espl_model_linear(j->m, item->linear);
    float *norm;
    if (!l) return ESPL_OK; /* another rank's */
    ESPL_TRY(espl_masks_keep(&j->masks, item->linear));
    ESPL_TRY(espl_mem_alloc(&norm, l->in, sizeof *norm, "activation norms"));
    espl_calibration_norms(&j->calibration, item->linear, l->in, norm);
    espl_scoring s = {.score = score, .norm = norm};
    espl_status st = espl_prune_linear(l, &s, &item->pattern, count_of(j, item), espl_masks_of(&j->masks, item->linear),
                                       espl_model_workspace(j->m));
    espl_mem_free(&norm);
    return st;
}

/* What the decision makes N:M is so from now on, or (`undo`) no longer: it was dense before. */
static void note_patterns(job *j, const espl_decision *d, bool undo) {
    for (int64_t i = 0; i < d->n; i++)
        if (espl_pattern_is_n_m(d->items[i].pattern))
            j->patterns[d->items[i].linear] = undo ? (espl_pattern){0} : d->items[i].pattern;
}

static espl_status prune_here(job *j, const espl_decision *d) {
    note_patterns(j, d, false);
    for (int64_t i = 0; i < d->n; i++) ESPL_TRY(prune_linear(j, j->o->prune_score, &d->items[i]));
    return ESPL_OK;
}

/* The masks must hold what was decided, to the weight. */
static espl_status verify_counts(const job *j, const espl_decision *d, const int64_t *counts) {
    for (int64_t i = 0, k = 0; i < j->linears; i++) {
        int64_t wanted = j->rows[i].pruned;
        char name[64];
        if (k < d->n && d->items[k].linear == i) wanted += count_of(j, &d->items[k++]);
        if (counts[i] != wanted)
            return ESPL_FAIL(ESPL_INTERNAL, "%s has %lld pruned weights, not %lld", espl_linear_name(i, name),
                             (long long)counts[i], (long long)wanted);
    }
    return ESPL_OK;
}

static espl_status verify(job *j, const espl_decision *d, int64_t *total) {
    int64_t *counts = NULL;
    espl_status st = ESPL_OK;
    if (j->root) st = espl_mem_alloc(&counts, j->linears, sizeof *counts, "counts");
    st = espl_comm_agree(j->c, st);
    if (st == ESPL_OK) st = espl_masks_count_pruned(&j->masks, counts, total);
    if (st == ESPL_OK) st = espl_comm_agree(j->c, j->root ? verify_counts(j, d, counts) : ESPL_OK);
    if (st == ESPL_OK) st = espl_comm_agree(j->c, espl_masks_check_patterns(&j->masks, j->patterns, NULL));
    espl_mem_free(&counts);
    return st;
}

/* ----------------------------------------------------------------- judge */

static bool good_enough(const job *j, const espl_probe *after) {
    return isfinite(after->perplexity) && after->perplexity <= j->last.perplexity * (1 + j->o->prune_threshold);
}

/* A probe without questions keeps the newest answers: they are what is known of this state's ancestor. */
static void become_last(job *j, const espl_probe *after) {
    espl_probe before = j->last;
    j->last = *after;
    if (after->mmlu_total == 0) {
        j->last.mmlu_right = before.mmlu_right;
        j->last.mmlu_total = before.mmlu_total;
    }
    if (after->freebaseqa_total == 0) {
        j->last.freebaseqa_right = before.freebaseqa_right;
        j->last.freebaseqa_total = before.freebaseqa_total;
    }
}

static espl_status judge(job *j, espl_outcome *o) {
    ESPL_TRY(espl_measure_perplexity(j, &o->after));
    o->accepted = good_enough(j, &o->after);
    if (o->accepted && o->iteration % j->o->probes_every == 0) return espl_measure_knowledge(j, &o->after);
    return ESPL_OK;
}

static void settle(job *j, const espl_outcome *o, int64_t pruned) {
    j->iteration = o->iteration;
    if (!o->accepted) {
        double start = espl_clock_now();
        espl_masks_roll_back(&j->masks);
        note_patterns(j, &o->decision, true);
        ESPL_DEBUG("masks put back in %.6f s", espl_clock_now() - start);
        j->rollbacks++;
        return;
    }
    espl_masks_accept(&j->masks);
    become_last(j, &o->after);
    j->pruned = pruned;
    j->revision++;
    j->has_profile = false;
}

/* Carries the decision out and keeps or undoes it. The outcome is known before anything is recorded; what is recorded
 * counts only once the checkpoint stands. */
static espl_status carry_out(job *j, espl_outcome *o, double start) {
    int64_t pruned = 0;
    double since = espl_clock_now();
    ESPL_TRY(espl_comm_agree(j->c, prune_here(j, &o->decision)));
    ESPL_TRY(verify(j, &o->decision, &pruned));
    espl_region_add(ESPL_REGION_PRUNE, espl_clock_now() - since);
    o->sparsity_after = espl_job_sparsity(j, pruned);
    ESPL_TRY(espl_stop_check(j, false));
    ESPL_TRY(judge(j, o));
    settle(j, o, pruned);
    double seconds = espl_clock_now() - start;
    j->longest = fmax(j->longest, seconds);
    espl_show_outcome(j, o, seconds);
    espl_status st = j->root ? espl_event_outcome(j, o, seconds) : ESPL_OK;
    if (st == ESPL_OK && j->root) st = espl_job_remember(j, o);
    ESPL_TRY(espl_comm_agree(j->c, st));
    return espl_store_write(j);
}

/* ------------------------------------------------------------------- end */

static const char *reason_to_end(const job *j) {
    if (j->pruned >= llround(j->o->prune_target * (double)j->weights)) return "target reached";
    if (j->iteration >= j->o->prune_max_iterations) return "iteration limit";
    return NULL;
}

static espl_status end_by_agent(job *j, const espl_decision *d) {
    j->end = "ended by the agent";
    if (!j->root) return ESPL_OK;
    ESPL_INFO("the agent ends the run: %s", d->reason && *d->reason ? d->reason : "(no reason given)");
    return espl_event_text(j, "agent_stop", d->reason);
}

espl_status espl_iterate(job *j) {
    double start = espl_clock_now();
    espl_outcome o = {.iteration = j->iteration + 1, .before = j->last};
    o.sparsity_before = espl_job_sparsity(j, j->pruned);
    j->end = reason_to_end(j);
    if (j->end) return ESPL_OK;
    ESPL_TRY(espl_stop_check(j, true));
    ESPL_TRY(profile(j));
    ESPL_TRY(espl_comm_agree(j->c, espl_event_profile(j)));
    ESPL_TRY(espl_stop_check(j, false));
    espl_status st = ask(j, &o.decision);
    if (st == ESPL_OK && o.decision.n == 0)
        st = espl_comm_agree(j->c, end_by_agent(j, &o.decision));
    else if (st == ESPL_OK)
        st = carry_out(j, &o, start);
    espl_decision_free(&o.decision);
    return st;
}
