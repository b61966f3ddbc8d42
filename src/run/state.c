/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a job: paths, sparsities, history. */
#include "state.h"

#include <math.h>

#include "espalier/model/shape.h"
#include "espalier/run/checkpoint_shape.h"

void espl_job_measure_model(espl_job *j) {
    j->shape = espl_run_checkpoint_shape(&j->config, espl_model_slice(j->model));
    j->linears = espl_model_linears_of(&j->config);
    j->weights = j->config.layers * espl_model_layer_linear_weights(&j->config);
}

espl_status espl_job_path(const espl_job *j, const char *name, espl_str *path) {
    espl_str_printf(path, "%s/%s", j->o->run_dir, name);
    return espl_str_status(path);
}

double espl_job_sparsity(const espl_job *j, int64_t pruned) { return (double)pruned / (double)j->weights; }

double espl_job_sparsity_of_model(const espl_job *j, int64_t pruned) {
    return (double)pruned / (double)espl_model_parameters(&j->config);
}

espl_status espl_job_remember(espl_job *j, espl_outcome *outcome) {
    ESPL_TRY(espl_mem_resize(&j->history, j->n_history + 1, sizeof *j->history, "history"));
    j->history[j->n_history++] = *outcome;
    outcome->decision = (espl_decision){0};
    return ESPL_OK;
}

int64_t espl_job_final_distillation(const espl_job *j) {
    int64_t n = j->distill.n, batch = espl_min_i64(j->o->distill_batch, espl_max_i64(n, 1));
    return (int64_t)ceil(j->o->distill_passes * ceil((double)n / (double)batch));
}
