/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures of the dense model that allocations start from.
 */
#include "driver.h"

#include <math.h>

#include "espalier/prune/lsa.h"

/* The state of a survey pass. Only the buffers of the configured allocation are taken. */
typedef struct survey {
    method_driver *driver;
    block_pass pass;
    double *values;
    float *const *norms;
    float **norm;   /* [inputs] OWL: [in] */
    double *rows;   /* OWL: [largest out] sums of scores */
    float *hessian; /* LSA: [largest in, largest in] */
} survey;

static void survey_take(survey *s, const method_plan *plan, espl_comm *comm, espl_block *block, pool *buffers) {
    int64_t in, out, weights;
    espl_plan_largest(plan->config, &in, &out, &weights);
    espl_pass_take(&s->pass, plan, &plan->survey, comm, block, buffers);
    if (plan->o->allocation == ESPL_ALLOCATION_OWL) {
        s->norm = espl_pool_take(buffers, plan->inputs, sizeof *s->norm, "activation norms");
        for (int i = 0; i < plan->inputs; i++) {
            float *norm = espl_pool_take(buffers, espl_input_size(plan->config, i), sizeof *norm, "activation norms");
            if (s->norm) s->norm[i] = norm;
        }
        s->rows = espl_pool_take(buffers, out, sizeof *s->rows, "row sums");
    }
    if (plan->survey.grams) s->hessian = espl_pool_take(buffers, in, (size_t)in * sizeof *s->hessian, "Hessian");
}

/* Sum of the Wanda scores of the loaded block, and how many exceed `threshold`. Sums are added in row order, the same
 * for any number of threads. */
static double wanda_scores(survey *s, float threshold, int64_t *above) {
    espl_workspace *ws = espl_model_workspace(s->driver->m);
    double sum = 0;
    int64_t count = 0;
    for (int k = 0; k < s->driver->plan.places; k++) {
        const espl_linear *l = espl_block_linear(s->driver->block, k);
        const float *norm = s->norm[espl_input_of(k)];
#pragma omp parallel for schedule(static) reduction(+ : count)
        for (int64_t r = 0; r < l->out; r++) {
            float *w = espl_workspace_scratch(ws);
            const char *from = (const char *)l->weight + (size_t)(r * l->in) * espl_dtype_size(l->dtype);
            double row = 0;
            int64_t n = 0;
            espl_tensor_widen(from, l->dtype, l->in, w);
            for (int64_t c = 0; c < l->in; c++) {
                float score = fabsf(w[c]) * norm[c];
                row += (double)score;
                n += score > threshold;
            }
            s->rows[r] = row;
            count += n;
        }
        for (int64_t r = 0; r < l->out; r++) sum += s->rows[r];
    }
    *above = count;
    return sum;
}

/* Local, at the owners. Measures the loaded block. */
static espl_status survey_block(void *context, int64_t layer) {
    survey *s = context;
    method_driver *driver = s->driver;
    const method_plan *plan = &driver->plan;
    const espl_method_options *o = plan->o;
    if (o->allocation == ESPL_ALLOCATION_SEARCH) {
        int64_t mine = (layer - espl_model_slice(driver->m).first) * plan->inputs;
        if (espl_plan_owner(plan, &plan->survey, layer, 0) != plan->rank) return ESPL_OK;
        for (int i = 0; i < plan->inputs; i++)
            espl_statistics_norm(&s->pass.s, i, espl_score_needs_gradients(o->score), s->norms[mine + i]);
    } else if (o->allocation == ESPL_ALLOCATION_OWL) {
        /* Per cent of the block's scores above M times their mean. */
        double n = (double)espl_model_layer_linear_weights(plan->config);
        int64_t above;
        if (espl_plan_owner(plan, &plan->survey, layer, 0) != plan->rank) return ESPL_OK;
        for (int i = 0; i < plan->inputs; i++) espl_statistics_norm(&s->pass.s, i, false, s->norm[i]);
        double sum = wanda_scores(s, INFINITY, &above);
        wanda_scores(s, (float)(o->owl_outlier * sum / n), &above);
        s->values[layer * plan->places] = 100 * (double)above / n;
    } else {
        /* LSA's error of each linear, from the full (2 / samples) X^T X in f32. */
        for (int input = 0; input < plan->inputs; input++) {
            int64_t n = espl_input_size(plan->config, input);
            const double *sum = s->pass.s.grams[input].total;
            if (espl_plan_owner(plan, &plan->survey, layer, input) != plan->rank) continue;
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j <= i; j++)
                    s->hessian[i * n + j] = s->hessian[j * n + i] = (float)(2.0 / (double)o->samples * sum[i * n + j]);
            for (int k = espl_input_first(input); k < espl_input_first(input + 1); k++)
                ESPL_TRY(espl_prune_lsa_error(espl_block_linear(driver->block, k), s->hessian,
                                              &s->values[layer * plan->places + k], espl_model_workspace(driver->m)));
        }
    }
    return ESPL_OK;
}

/* Collective. The values of a block from their owners to all. */
static void survey_publish(void *context, int64_t layer) {
    survey *s = context;
    const method_plan *plan = &s->driver->plan;
    for (int k = 0; k < plan->places; k++)
        espl_comm_broadcast(s->driver->comm, &s->values[layer * plan->places + k], sizeof(double),
                            espl_plan_owner(plan, &plan->survey, layer, espl_input_of(k)));
}

espl_status espl_survey_run(method_driver *driver, double *values, float *const *norms) {
    survey s = {.driver = driver,
                .values = values,
                .norms = norms,
                .pass = {.context = &s, .work = survey_block, .publish = values ? survey_publish : NULL}};
    pool buffers = {0};
    survey_take(&s, &driver->plan, driver->comm, driver->block, &buffers);
    espl_status st = espl_pass_run(&s.pass, driver->ids);
    espl_pool_free(&buffers);
    return st;
}

int64_t espl_survey_bytes(const method_plan *plan) {
    survey s = {0};
    pool buffers = {.counting = true};
    int64_t kernel = 0;
    survey_take(&s, plan, NULL, NULL, &buffers);
    for (int k = 0; k < plan->places && plan->survey.grams; k++) {
        int64_t out, in;
        espl_plan_shape(plan->config, k, &out, &in);
        if (espl_plan_may_own(plan, &plan->survey, espl_input_of(k)))
            kernel = espl_max_i64(kernel, espl_prune_lsa_bytes(out, in));
    }
    return buffers.bytes + kernel;
}
