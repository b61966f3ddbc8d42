#include "espalier/sensitivity.h"

#include <math.h>

static espl_status wanda_quantile(const espl_model *m, const espl_calibration *c, int64_t index, double *s) {
    const espl_linear *l = espl_model_linear(m, index);
    float *norm;
    ESPL_TRY(espl_mem_alloc(&norm, l->in, sizeof *norm, "activation norms"));
    espl_calibration_norms(c, index, l->in, norm);
    espl_status st = espl_tensor_score_quantile(l, norm, ESPL_SENSITIVITY_QUANTILE, s, espl_model_workspace(m));
    espl_mem_free(&norm);
    return st;
}

espl_status espl_sensitivity_row(const espl_model *m, const espl_calibration *c, int64_t index, espl_profile_row *row) {
    const espl_linear *l = espl_model_linear(m, index);
    if (!l || !espl_calibration_squares(c, index))
        return ESPL_FAIL(ESPL_INTERNAL, "no statistics of linear %lld on this rank", (long long)index);
    int64_t weights = l->out * l->in;
    *row = (espl_profile_row){.weights = weights,
                              .pruned = weights - espl_tensor_surviving(l),
                              .s = NAN,
                              .g = espl_calibration_gradient(c, index),
                              .z_s = NAN,
                              .z_g = NAN};
    return c->forward_tokens > 0 ? wanda_quantile(m, c, index, &row->s) : ESPL_OK;
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
