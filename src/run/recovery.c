/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distillation inside a job: how many steps follow an iteration, and the full passes at the end.
 */
#include "recovery.h"

#include <inttypes.h>
#include <math.h>

espl_status espl_recovery_prepare(espl_job *j) {
    const espl_config *o = j->o;
    const espl_knowledge *k = &j->inputs.profile;
    espl_topic_samples topics[ESPL_TOPICS];
    if (!espl_config_distills(o)) return ESPL_OK;
    espl_knowledge_samples(k, topics);
    bool questions = k->n > 0 && k->window == o->calibration_window;
    return espl_distill_set_create(j->comm, &j->masks, o->calibration_window, j->inputs.calibration,
                                   j->inputs.distilled, questions ? topics : NULL, k->lengths, o->distill_share,
                                   &j->distill);
}

static void recovery_show(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "distillation: step %" PRId64 " of %" PRId64, done, n);
}

espl_status espl_recovery_run(espl_job *j, int64_t iteration, int64_t pruned) {
    const espl_config *o = j->o;
    bool last = pruned >= llround(o->prune_target * (double)j->weights);
    double pass = ceil((double)j->distill.n / (double)o->distill_batch), loss;
    espl_distill_options d = {.window = o->calibration_window,
                              .steps = last ? llround(o->distill_passes * pass) : o->distill_steps,
                              .batch = o->distill_batch,
                              .rate = o->distill_rate,
                              .seed = (uint64_t)o->run_seed,
                              .stream = (uint64_t)iteration,
                              .progress = recovery_show};
    if (j->distill.n == 0 || d.steps == 0) return ESPL_OK;
    ESPL_TRY(espl_comm_agree(j->comm, espl_masks_keep_updates(&j->masks)));
    ESPL_TRY(espl_distill_run(j->comm, &d, &j->distill, &j->masks, &loss));
    ESPL_DEBUG("distillation: %" PRId64 " steps, divergence %.4f nats per token", d.steps, loss);
    return ESPL_OK;
}
