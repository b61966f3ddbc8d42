/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The profile: what calibration measured, one row per linear. Each rank computes the rows of its slice; rank 0 gathers
 * and standardises them, so that every rank has the same bits.
 */
#include "espalier/sensitivity.h"

#include <math.h>

#include "espalier/base/memory.h"
#include "espalier/tensor/statistics.h"

/* The row of one linear of this rank, without z-scores. */
static espl_status profile_row(const espl_model *m, const espl_calibration *c, double power, int64_t index,
                               espl_profile_row *row) {
    const espl_linear *l = espl_model_linear(m, index);
    espl_workspace *ws = espl_model_workspace(m);
    float *norm, *factors = NULL;
    espl_status st;
    int64_t weights = l->out * l->in;
    *row = (espl_profile_row){.weights = weights,
                              .pruned = weights - espl_linear_survivors(l),
                              .s = NAN,
                              .g = espl_calibration_gradient(c, index),
                              .z_s = NAN,
                              .z_g = NAN};
    for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) row->damage[k] = NAN;
    if (c->forward_tokens == 0) return ESPL_OK;

    ESPL_TRY(espl_mem_alloc(&norm, l->in, sizeof *norm, "activation norms"));
    espl_calibration_norms(c, index, l->in, norm);
    ESPL_CHECK(st, done, espl_tensor_score_quantile(l, norm, ESPL_SENSITIVITY_QUANTILE, &row->s, ws));
    if (c->samples == 0) goto done;
    if (power >= 0) {
        ESPL_CHECK(st, done, espl_mem_alloc(&factors, l->out, sizeof *factors, "row factors"));
        espl_tensor_row_factors(espl_calibration_output_squares(c, index), l->out, espl_calibration_output_unit(c),
                                power, factors);
        st = espl_tensor_removal_curve_of_layer(l, norm, factors, espl_calibration_output_squares(c, index),
                                                ESPL_DAMAGE_LEVELS, row->damage, ws);
    } else {
        st = espl_tensor_removal_curve(l, norm, espl_calibration_output_squares(c, index), ESPL_DAMAGE_LEVELS,
                                       row->damage, ws);
    }
    if (st != ESPL_OK) goto done;
    /* The curve is a sum over the forward tokens of x^2 times a sum over the sample tokens of (dL/dy)^2, where L is the
     * mean loss of a sample's predictions. For l, the loss of one token, dl/dy = predictions * dL/dy; both sums become
     * means over their tokens, and the estimate takes half of their product. */
    double predictions = (double)(c->window - 1), tokens = (double)(c->samples * c->window);
    double unit = 0.5 * predictions * predictions / tokens / (double)c->forward_tokens;
    for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) row->damage[k] *= unit;
done:
    espl_mem_free(&factors);
    espl_mem_free(&norm);
    return st;
}

espl_status espl_sensitivity_profile(espl_comm *comm, const espl_model *m, const espl_calibration *c, double power,
                                     espl_profile_row *rows) {
    espl_range mine = espl_model_linears(m);
    int64_t n = espl_range_count(mine), total = espl_model_config_of(m)->layers * ESPL_LINEAR_KINDS;
    espl_profile_row *own;
    espl_status st = espl_mem_alloc(&own, n, sizeof *own, "profile rows");
    for (int64_t i = 0; st == ESPL_OK && i < n; i++) st = profile_row(m, c, power, mine.first + i, &own[i]);
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    ESPL_CHECK(st, done, espl_comm_gather_records(comm, own, n, sizeof *own, total, rows));
    if (espl_comm_rank(comm) == 0) espl_sensitivity_standardise(rows, total);
    espl_comm_broadcast(comm, rows, total * (int64_t)sizeof *rows, 0);
done:
    espl_mem_free(&own);
    return st;
}
