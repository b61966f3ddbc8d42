/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chooses the exponent of score curvature once, before the first step. Checkpoints hold the choice as the value of
 * prune.curvature_power, so that a resumed run goes on with it, on another type of CPU too.
 */
#include "exponent.h"

#include "espalier/methods/curvature.h"
#include "events.h"
#include "quality.h"

/* Validation windows, as for every decision between accepting and rolling back: what is reported must not be chosen by.
 */
static espl_status exponent_fitness(void *context, int64_t stage, double *value) {
    espl_job *j = context;
    (void)stage;
    return espl_quality_loss(j, &j->inputs.validation, j->o->validation_window, value);
}

espl_status espl_exponent_choose(espl_job *j) {
    double losses[ESPL_CURVATURE_POWERS];
    espl_method_options o;
    if (j->curvature_power >= 0) return ESPL_OK;
    j->curvature_power = j->o->prune_curvature_power;
    if (j->curvature_power >= 0 || j->o->prune_score != ESPL_SCORE_CURVATURE) return ESPL_OK;
    ESPL_TRY(espl_config_method(j->o, &o));
    espl_topic_samples topics[ESPL_TOPICS];
    espl_knowledge_samples(&j->inputs.profile, topics);
    o.caps = j->inputs.caps;
    o.topics = topics;
    o.topic_window = j->inputs.profile.window;
    o.fitness = exponent_fitness;
    o.context = j;
    ESPL_TRY(espl_curvature_choose_power(j->comm, &o, j->inputs.calibration, &j->masks, losses, &j->curvature_power));
    ESPL_TRY(espl_comm_agree(j->comm, espl_masks_take_zeros(&j->masks, j->zeros))); /* the trials cleared the masks */
    ESPL_INFO("curvature: exponent %g has the lowest validation loss", j->curvature_power);
    return espl_comm_agree(j->comm,
                           espl_event_curvature_power(j, espl_curvature_powers, losses, ESPL_CURVATURE_POWERS));
}
