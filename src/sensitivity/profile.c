/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The profile: what calibration measured, one row per linear. Replicas share the rows of a slice; the first stage of
 * each gathers and standardises them, so that every rank has the same bits.
 */
#include "espalier/sensitivity.h"

#include <math.h>

#include "espalier/base/memory.h"
#include "espalier/model/shape.h"
#include "espalier/prune/removal.h"
#include "espalier/tensor/statistics.h"

/* Removal curves of a linear, as means per token: damage of text and of answers. */
static espl_status profile_damage(const espl_calibration *c, const espl_sensitivity_removal *by, int64_t index,
                                  const espl_linear *l, const float *norm, espl_workspace *ws, espl_profile_row *row) {
    const double *answers = espl_calibration_knowledge(c, index), *squares[] = {NULL, answers};
    double *importance = NULL, curves[2][ESPL_DAMAGE_LEVELS];
    float *factors = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&importance, l->out, sizeof *importance, "importance of the outputs"));
    espl_calibration_importance(c, index, l->out, importance);
    if (espl_score_needs_outputs(by->score)) {
        ESPL_CHECK(st, done, espl_mem_alloc(&factors, l->out, sizeof *factors, "row factors"));
        espl_tensor_row_factors(importance, l->out, 1, by->power, factors);
    }
    espl_scoring scoring = {.score = by->score, .norm = norm, .rows = factors};
    squares[0] = espl_calibration_output_squares(c, index);
    ESPL_CHECK(st, done,
               espl_prune_removal_curves(l, &scoring, by->group, norm, squares, answers ? 2 : 1, ESPL_DAMAGE_LEVELS,
                                         curves[0], ws));
    /* Sums over the forward tokens of x^2 become means; half of the product is the estimate. Of an expert: over the
     * tokens that reach it, since the gradients of the others are 0. */
    int64_t tokens = espl_calibration_reached(c, index);
    for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) {
        double half = 0.5 / (double)(tokens > 0 ? tokens : 1);
        row->damage[k] = half * espl_calibration_output_unit(c) * curves[0][k];
        if (answers) row->damage_k[k] = half * curves[1][k];
    }
done:
    espl_mem_free(&factors);
    espl_mem_free(&importance);
    return st;
}

/* The row of one linear of this rank, without z-scores. */
static espl_status profile_row(const espl_model *m, const espl_calibration *c, const espl_sensitivity_removal *by,
                               int64_t index, espl_profile_row *row) {
    const espl_linear *l = espl_model_linear(m, index);
    espl_workspace *ws = espl_model_workspace(m);
    float *norm;
    espl_status st;
    int64_t weights = l->out * l->in;
    *row = (espl_profile_row){.weights = weights,
                              .pruned = weights - espl_linear_survivors(l),
                              .tokens = espl_calibration_reached(c, index),
                              .s = NAN,
                              .g = espl_calibration_gradient(c, index),
                              .z_s = NAN,
                              .z_g = NAN,
                              .z_k = NAN};
    for (int t = 0; t < ESPL_TOPICS; t++) {
        row->k[t] = espl_calibration_topic_gradient(c, index, (espl_topic)t);
        row->z_topic[t] = NAN;
    }
    for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) row->damage[k] = row->damage_k[k] = NAN;
    if (c->forward_tokens == 0) return ESPL_OK;

    ESPL_TRY(espl_mem_alloc(&norm, l->in, sizeof *norm, "activation norms"));
    espl_calibration_norms(c, index, l->in, norm);
    st = espl_tensor_score_quantile(l, norm, ESPL_SENSITIVITY_QUANTILE, &row->s, ws);
    if (st == ESPL_OK && c->samples > 0) st = profile_damage(c, by, index, l, norm, ws, row);
    espl_mem_free(&norm);
    return st;
}

espl_status espl_sensitivity_profile(espl_comm *comm, const espl_model *m, const espl_calibration *c,
                                     const espl_sensitivity_removal *by, espl_profile_row *rows) {
    const espl_grid *grid = espl_comm_grid(comm);
    espl_range mine = espl_model_linears(m);
    int64_t n = espl_range_count(mine), total = espl_model_linears_of(espl_model_config_of(m));
    espl_profile_row *own;
    espl_status st = espl_mem_alloc(&own, n, sizeof *own, "profile rows");
    int64_t first = espl_part_begin(n, grid->replicas, grid->replica);
    int64_t last = espl_part_begin(n, grid->replicas, grid->replica + 1);
    for (int64_t i = first; st == ESPL_OK && i < last; i++) st = profile_row(m, c, by, mine.first + i, &own[i]);
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    espl_comm_share_parts(grid->peers, own, NULL, n, sizeof *own);
    st = espl_comm_gather_records(grid->pipeline, own, n, sizeof *own, total, rows);
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    if (grid->stage == 0) espl_sensitivity_standardise(rows, total);
    espl_comm_broadcast(grid->pipeline, rows, total * (int64_t)sizeof *rows, 0);
done:
    espl_mem_free(&own);
    return st;
}
