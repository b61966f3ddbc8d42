#include "espalier/sensitivity.h"
#include "espalier/tensor/statistics.h"

#include <math.h>

/* From sums over samples of the gradient of their mean loss to the loss of a mean token. */
static espl_status expect_damage(const espl_model *m, const espl_calibration *c, int64_t index, const float *norm,
                                 double *damage) {
    double predictions = (double)(c->window - 1), tokens = (double)(c->samples * c->window);
    double unit = 0.5 * predictions * predictions / tokens / (double)c->forward_tokens;
    ESPL_TRY(espl_tensor_removal_curve(espl_model_linear(m, index), norm, espl_calibration_output_squares(c, index),
                                       ESPL_DAMAGE_LEVELS, damage, espl_model_workspace(m)));
    for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) damage[k] *= unit;
    return ESPL_OK;
}

/* What needs the norms of the activations. */
static espl_status weigh(const espl_model *m, const espl_calibration *c, int64_t index, espl_profile_row *row) {
    const espl_linear *l = espl_model_linear(m, index);
    float *norm;
    ESPL_TRY(espl_mem_alloc(&norm, l->in, sizeof *norm, "activation norms"));
    espl_calibration_norms(c, index, l->in, norm);
    espl_status st = espl_tensor_score_quantile(l, norm, ESPL_SENSITIVITY_QUANTILE, &row->s, espl_model_workspace(m));
    if (st == ESPL_OK && c->samples > 0) st = expect_damage(m, c, index, norm, row->damage);
    espl_mem_free(&norm);
    return st;
}

espl_status espl_sensitivity_row(const espl_model *m, const espl_calibration *c, int64_t index, espl_profile_row *row) {
    const espl_linear *l = espl_model_linear(m, index);
    if (!l || !espl_calibration_squares(c, index))
        return ESPL_FAIL(ESPL_INTERNAL, "no statistics of linear %lld on this rank", (long long)index);
    int64_t weights = l->out * l->in;
    *row = (espl_profile_row){.weights = weights,
                              .pruned = weights - espl_linear_survivors(l),
                              .s = NAN,
                              .g = espl_calibration_gradient(c, index),
                              .z_s = NAN,
                              .z_g = NAN};
    for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) row->damage[k] = NAN;
    return c->forward_tokens > 0 ? weigh(m, c, index, row) : ESPL_OK;
}

/* Rows of this rank's slice. */
static espl_status fill_rows(const espl_model *m, const espl_calibration *c, espl_profile_row **rows, int64_t *n) {
    espl_range slice = espl_model_slice(m);
    int64_t first = espl_linear_index(slice.first, ESPL_Q_PROJ);
    *n = espl_range_count(slice) * ESPL_LINEAR_KINDS;
    ESPL_TRY(espl_mem_alloc(rows, *n, sizeof **rows, "profile rows"));
    for (int64_t i = 0; i < *n; i++) ESPL_TRY(espl_sensitivity_row(m, c, first + i, *rows + i));
    return ESPL_OK;
}

espl_status espl_sensitivity_profile(espl_comm *comm, const espl_model *m, const espl_calibration *c,
                                     espl_profile_row *rows) {
    espl_profile_row *mine = NULL;
    int64_t n = 0, total = espl_model_config_of(m)->layers * ESPL_LINEAR_KINDS;
    espl_status st = espl_comm_agree(comm, fill_rows(m, c, &mine, &n));
    if (st == ESPL_OK) st = espl_comm_gather_records(comm, mine, n, sizeof *mine, total, rows);
    espl_mem_free(&mine);
    if (st != ESPL_OK) return st;
    if (espl_comm_rank(comm) == 0) espl_sensitivity_standardise(rows, total);
    espl_comm_broadcast(comm, rows, total * (int64_t)sizeof *rows, 0);
    return ESPL_OK;
}
