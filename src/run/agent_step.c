/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that the agent proposes: profile the model, ask, and prune the named linears by a score. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "agent_host.h"
#include "espalier/model/shape.h"
#include "espalier/prune/linear.h"
#include "espalier/sensitivity.h"
#include "espalier/tensor/statistics.h"
#include "events.h"
#include "judge.h"
#include "loop.h"
#include "milestones.h"
#include "recovery.h"
#include "stop.h"

static const char *agent_reason_to_end(const espl_job *j) {
    if (j->pruned >= llround(j->target * (double)j->weights)) return "target reached";
    if (j->iteration >= j->o->prune_max_iterations) return "iteration limit";
    return NULL;
}

/* --------------------------------------------------------------- profile */

static void agent_show_calibration(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "profile: pass %" PRId64 " of %" PRId64, done, n);
}

/* Every value that was asked for must be a number. Without forward windows there is no s, without backward ones no g,
 * and a linear without survivors has neither. */
static espl_status agent_check_profile(const espl_job *j) {
    bool wants_s = j->o->calibration_forward > 0, wants_g = j->o->calibration_backward > 0;
    char name[ESPL_LINEAR_NAME_MAX];
    for (int64_t i = 0; i < j->linears; i++) {
        const espl_profile_row *row = &j->rows[i];
        bool bad = (wants_s && !isfinite(row->s)) || (wants_g && !isfinite(row->g));
        if (row->pruned < row->weights && bad)
            return ESPL_FAIL(ESPL_FORMAT,
                             "%s: the profile of %s on calibration.text is not a number (s %g, g %g): the weights hold "
                             "NaN or infinity, or overflow",
                             j->o->model_path, espl_linear_name(espl_model_layout(&j->config), i, name), row->s,
                             row->g);
    }
    return ESPL_OK;
}

/* Collective. The zeros of the source, which each rank counted in its slice, into all rows. */
static espl_status agent_share_zeros(espl_job *j) {
    int64_t *all;
    ESPL_TRY(espl_comm_agree(j->comm, espl_mem_alloc(&all, j->linears, sizeof *all, "zeros of the source")));
    espl_comm *pipeline = espl_comm_grid(j->comm)->pipeline;
    espl_status st = espl_comm_gather_records(pipeline, j->zeros, espl_range_count(espl_model_linears(j->model)),
                                              sizeof *all, j->linears, all);
    st = espl_comm_agree(j->comm, st);
    if (st == ESPL_OK) espl_comm_broadcast(pipeline, all, j->linears * (int64_t)sizeof *all, 0);
    for (int64_t i = 0; st == ESPL_OK && i < j->linears; i++) j->rows[i].zeros = all[i];
    espl_mem_free(&all);
    return st;
}

/* Collective. Profiles the accepted state, unless that was done: a rollback changes neither model nor profile. */
static espl_status agent_profile(espl_job *j) {
    ESPL_REGION_SCOPE(ESPL_REGION_PROFILE);
    espl_calibration_options o = {.window = j->o->calibration_window,
                                  .forward = j->o->calibration_forward,
                                  .backward = j->o->calibration_backward};
    if (j->has_profile) return ESPL_OK;
    espl_calibration_free(&j->calibration);
    ESPL_TRY(espl_model_calibrate(j->model, &o, j->inputs.calibration, agent_show_calibration, NULL, &j->calibration));
    espl_topic_samples topics[ESPL_TOPICS];
    espl_knowledge_samples(&j->inputs.profile, topics);
    ESPL_TRY(espl_model_calibrate_knowledge(j->model, topics, j->inputs.profile.window, j->o->knowledge_share,
                                            &j->calibration));
    /* The damage that the agent plans with is that of the weights that agent_apply will take. */
    espl_sensitivity_removal by = {.score = j->o->prune_score,
                                   .group = (espl_group)espl_config_step_pattern(j->o).group,
                                   .power = j->curvature_power};
    ESPL_TRY(espl_sensitivity_profile(j->comm, j->model, &j->calibration, &by, j->rows));
    ESPL_TRY(agent_share_zeros(j));
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? agent_check_profile(j) : ESPL_OK));
    j->has_profile = true;
    return ESPL_OK;
}

/* --------------------------------------------------------------- propose */

/* Rank 0 only. The view is all that the agent sees. It holds no clock and no rank, so that the same state gives the
 * same decision everywhere. */
static espl_agent_view agent_view(const espl_job *j) {
    const espl_config *o = j->o;
    espl_agent_view v = {.iteration = j->iteration + 1,
                         .budget = {.target = espl_milestones_goal(j),
                                    .cap = o->prune_cap,
                                    .max_step = o->prune_max_step,
                                    .max_linears = o->prune_max_linears,
                                    .threshold = o->prune_threshold,
                                    .max_iterations = o->prune_max_iterations,
                                    .share = j->inputs.judge.n > 0 ? o->knowledge_share : 0,
                                    .limit = o->prune_max_rise},
                         .layout = espl_model_layout(&j->config),
                         .rows = j->rows,
                         .sparsity = espl_job_sparsity(j, j->pruned),
                         .sparsity_model = espl_job_sparsity_of_model(j, j->pruned),
                         .dense = j->dense,
                         .last = j->last,
                         .history = j->history,
                         .n_history = j->n_history,
                         .power = o->prune_score == ESPL_SCORE_CURVATURE ? j->curvature_power : NAN,
                         .distills = espl_config_distills(o),
                         .updates = espl_config_updates_masked(o) && o->prune_update_when == ESPL_UPDATE_WHEN_STEP,
                         .mixed = o->prune_mixed,
                         .caps = j->inputs.caps,
                         .patterns = j->patterns};
    memcpy(v.in, j->shape.in, sizeof v.in);
    return v;
}

/* Rank 0 only. */
static espl_status agent_ask(espl_job *j, espl_decision *out) {
    const espl_agent_view v = agent_view(j);
    const espl_agent_host host = espl_agent_host_of(j);
    espl_status st = espl_agent_ask(j->agent, &v, &host, out);
    espl_agent_host_release(j);
    return st;
}

espl_status espl_agent_step_put_prompt(espl_job *j, espl_str *out) {
    ESPL_TRY(agent_profile(j));
    const espl_agent_view v = agent_view(j);
    const espl_agent_host host = espl_agent_host_of(j);
    return espl_comm_agree(j->comm, j->root ? espl_agent_put_prompt(j->agent, &v, &host, out) : ESPL_OK);
}

/* Collective. Profiles the accepted state and asks the agent. A decision without items ends the loop. */
static espl_status agent_propose(espl_job *j, espl_outcome *o) {
    espl_decision *d = &o->decision;
    ESPL_TRY(agent_profile(j));
    ESPL_TRY(espl_comm_agree(j->comm, espl_event_profile(j)));
    ESPL_TRY(espl_stop_check(j, ESPL_STOP_BETWEEN_PHASES));
    double start = espl_clock_now(), tried = j->tried_seconds;
    espl_status st = espl_comm_agree(j->comm, j->root ? agent_ask(j, d) : espl_agent_host_obey(j));
    if (st == ESPL_STOPPED) ESPL_TRY(espl_stop_check(j, ESPL_STOP_BEFORE_STEP)); /* says why */
    ESPL_TRY(st);
    /* Without the broadcast, and without what it had measured, which counts where it was done. */
    espl_region_add(ESPL_REGION_AGENT, espl_clock_now() - start - (j->tried_seconds - tried));
    ESPL_TRY(espl_agent_host_share_plan(j, d));
    if (d->n > 0) return ESPL_OK;
    bool no_answer = j->root && strcmp(espl_agent_source(j->agent), "stop (fallback)") == 0;
    j->end = no_answer ? "the agent gave no usable answer" : "ended by the agent";
    ESPL_INFO("the agent ends the run: %s", d->reason && *d->reason ? d->reason : "(no reason given)");
    return espl_comm_agree(j->comm, espl_event_text(j, "agent_stop", d->reason));
}

/* ----------------------------------------------------------------- apply */

/* Weights that an item prunes. The agent's validation rounds the same way, so that the target is met to the weight. */
static int64_t agent_item_weights(const espl_job *j, const espl_decision_item *item) {
    return llround(item->step * (double)j->rows[item->linear].weights);
}

/* A linear's scores are compared as a whole, so that its mask can be chosen anew. */
static bool agent_may_regrow(const espl_job *j, const espl_pattern *p) {
    return j->o->prune_regrow && j->o->prune_score == ESPL_SCORE_CURVATURE && p->group == ESPL_GROUP_LAYER;
}

/* Prunes a linear of this rank by the score, within the item's N:M groups or, unless it has any, as prune.pattern says.
 */
static espl_status agent_prune_linear(espl_job *j, const espl_decision_item *item, double power, const espl_linear *l) {
    bool outputs = espl_score_needs_outputs(j->o->prune_score);
    espl_pattern pattern = espl_pattern_is_n_m(item->pattern) ? item->pattern : espl_config_step_pattern(j->o);
    float *norm, *rows = NULL;
    double *importance = NULL;
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&norm, l->in, sizeof *norm, "activation norms"));
    espl_calibration_norms(&j->calibration, item->linear, l->in, norm);
    if (outputs) {
        ESPL_CHECK(st, done, espl_mem_alloc(&rows, l->out, sizeof *rows, "row factors"));
        ESPL_CHECK(st, done, espl_mem_alloc(&importance, l->out, sizeof *importance, "importance of the outputs"));
        espl_calibration_importance(&j->calibration, item->linear, l->out, importance);
        espl_tensor_row_factors(importance, l->out, 1, power, rows);
    }
    espl_scoring scoring = {.score = j->o->prune_score, .norm = norm, .rows = rows};
    uint64_t *mask = espl_masks_of(&j->masks, item->linear);
    int64_t count = agent_item_weights(j, item);
    /* A pattern prunes its share of each group, zeros of the source among it. */
    if (espl_pattern_is_n_m(pattern)) espl_mask_fill(mask, l->out, l->in);
    if (agent_may_regrow(j, &pattern)) { /* all weights compete again: those of the source where they are pruned now */
        count += j->rows[item->linear].pruned;
        espl_mask_fill(mask, l->out, l->in);
    }
    st = espl_prune_linear(l, &scoring, &pattern, count, mask, espl_model_workspace(j->model));
done:
    espl_mem_free(&importance);
    espl_mem_free(&rows);
    espl_mem_free(&norm);
    return st;
}

/* Statistics of this rank's linears are local, so no communication is needed. Masks are kept first, for a rollback. */
static espl_status agent_prune(espl_job *j, const espl_decision *d, int64_t *expected) {
    double power = isnan(d->power) ? j->curvature_power : d->power;
    for (int64_t i = 0; expected && i < j->linears; i++) expected[i] = j->rows[i].pruned;
    for (int64_t i = 0; i < d->n; i++) {
        const espl_decision_item *item = &d->items[i];
        const espl_linear *l = espl_model_linear(j->model, item->linear);
        if (expected && espl_pattern_is_n_m(item->pattern)) expected[item->linear] = 0;
        if (expected) expected[item->linear] += agent_item_weights(j, item);
        if (!l) continue; /* another rank's */
        ESPL_TRY(espl_masks_keep(&j->masks, item->linear));
        ESPL_TRY(agent_prune_linear(j, item, power, l));
    }
    return ESPL_OK;
}

/* Collective. Prunes, then lets the survivors recover. */
static espl_status agent_apply(espl_job *j, espl_outcome *o, int64_t *expected) {
    const espl_decision *d = &o->decision;
    int64_t pruned = j->pruned;
    for (int64_t i = 0; i < d->n; i++) {
        const espl_decision_item *item = &d->items[i];
        pruned += agent_item_weights(j, item); /* a pattern's share has the linear's zeros among it */
        if (espl_pattern_is_n_m(item->pattern)) pruned -= j->rows[item->linear].pruned;
    }
    ESPL_TRY(espl_comm_agree(j->comm, agent_prune(j, d, expected)));
    return espl_recovery_run(j, o->iteration, pruned);
}

const espl_proposer espl_agent_proposer = {.reason_to_end = agent_reason_to_end,
                                           .propose = agent_propose,
                                           .apply = agent_apply,
                                           .judge = espl_judge_step,
                                           .interruptible = true};
