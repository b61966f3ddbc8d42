/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New weights for the survivors inside a job: an update of each linear, and distillation: how many steps follow an
 * iteration, and the full passes at the end.
 */
#include "recovery.h"

#include <inttypes.h>
#include <math.h>

#include "espalier/base/integer.h"
#include "quality.h"
#include "stop.h"

static espl_status recovery_check(void *context) { return espl_stop_check(context, ESPL_STOP_BETWEEN_PHASES); }

static void recovery_show_teacher(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "distillation: predictions of the dense model, window %" PRId64 " of %" PRId64, done,
                      n);
}

static void recovery_show(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "distillation: step %" PRId64 " of %" PRId64, done, n);
}

espl_status espl_recovery_prepare(espl_job *j) {
    const espl_config *o = j->o;
    const espl_knowledge *k = &j->inputs.profile;
    espl_topic_samples topics[ESPL_TOPICS];
    espl_distill_watch watch = {.progress = recovery_show_teacher, .check = recovery_check, .context = j};
    if (!espl_config_distills(o)) return ESPL_OK;
    espl_knowledge_samples(k, topics);
    bool questions = k->n > 0 && k->window == o->calibration_window;
    if (o->distill_share > 0 && !questions)
        ESPL_INFO("note: distill.share has no effect: %s",
                  k->n > 0
                      ? "calibration.window is longer than the model's context, so that windows of questions are not"
                      : "there are no windows of probe questions (probes, knowledge.windows)");
    espl_workspace *ws = espl_model_workspace(j->model);
    espl_arithmetic loop =
        espl_workspace_use(ws, ESPL_ARITHMETIC_F32); /* what is learned is kept: no rounding to bf16 */
    espl_status st =
        espl_distill_set_create(j->comm, &j->masks, o->calibration_window, j->inputs.calibration, j->inputs.distilled,
                                questions ? topics : NULL, k->lengths, o->distill_share, &watch, &j->distill);
    espl_workspace_use(ws, loop);
    return st;
}

static void recovery_show_blocks(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "update: block %" PRId64 " of %" PRId64, done, n);
}

/* Collective. New weights for the masks as they are now. Errors of single linears can fall while the model gets worse:
 * with `guarded`, the weights are taken back unless the validation loss falls. */
static espl_status recovery_update(espl_job *j, bool guarded) {
    espl_method_options o;
    double without = INFINITY, with = 0;
    ESPL_TRY(espl_config_method(j->o, &o));
    o.progress = recovery_show_blocks;
    if (guarded) ESPL_TRY(espl_quality_loss(j, &j->inputs.validation, j->o->validation_window, &without));
    ESPL_TRY(espl_comm_agree(j->comm, espl_masks_keep_updates(&j->masks)));
    double start = espl_clock_now();
    espl_arithmetic before = espl_workspace_use(espl_model_workspace(j->model), ESPL_ARITHMETIC_F32);
    espl_status st = espl_method_update(j->comm, &o, j->inputs.calibration, &j->masks, &j->update);
    espl_workspace_use(espl_model_workspace(j->model), before);
    ESPL_TRY(st);
    ESPL_INFO("update %s: %" PRId64 " of %" PRId64 " pruned linears kept their weights; %.1f s",
              espl_update_name(o.update), j->update.kept, j->update.linears, espl_clock_now() - start);
    if (guarded) ESPL_TRY(espl_quality_loss(j, &j->inputs.validation, j->o->validation_window, &with));
    if (with < without) return ESPL_OK;
    espl_masks_restore_updates(&j->masks);
    j->update.taken_back = true;
    ESPL_INFO("note: update %s taken back: the validation loss would be %.8g, not below %.8g nats per token",
              espl_update_name(o.update), with, without);
    return ESPL_OK;
}

espl_status espl_recovery_run(espl_job *j, int64_t iteration, int64_t pruned) {
    const espl_config *o = j->o;
    bool last = pruned >= llround(j->target * (double)j->weights);
    double loss;
    j->update = (espl_update_result){0};
    if (espl_config_updates_masked(o) && (last || o->prune_update_when == ESPL_UPDATE_WHEN_STEP))
        ESPL_TRY(recovery_update(j, espl_config_is_oneshot(o) || o->prune_update_when == ESPL_UPDATE_WHEN_END));
    espl_distill_options d = {.window = o->calibration_window,
                              .steps = last ? espl_job_final_distillation(j) : o->distill_steps,
                              .batch = o->distill_batch,
                              .rate = o->distill_rate,
                              .seed = (uint64_t)o->run_seed,
                              .stream = (uint64_t)iteration,
                              .watch = {.progress = recovery_show, .check = recovery_check, .context = j}};
    if (j->distill.n == 0 || d.steps == 0) return ESPL_OK;
    ESPL_TRY(espl_comm_agree(j->comm, espl_masks_keep_updates(&j->masks)));
    double start = espl_clock_now();
    espl_arithmetic before = espl_workspace_use(espl_model_workspace(j->model), ESPL_ARITHMETIC_F32);
    espl_status st = espl_distill_run(j->comm, &d, &j->distill, &j->masks, &loss);
    espl_workspace_use(espl_model_workspace(j->model), before);
    ESPL_TRY(st);
    j->distill_seconds += espl_clock_now() - start;
    j->distill_steps += d.steps;
    ESPL_DEBUG("distillation: %" PRId64 " steps, divergence %.4f nats per token", d.steps, loss);
    return ESPL_OK;
}
