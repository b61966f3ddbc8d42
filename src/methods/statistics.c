/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of a block over samples that are spread over the ranks.
 *
 * The sums of a group of samples are formed on one rank, and the groups are added in f64 in their order. Both the
 * groups and the order are independent of the number of ranks, and so are the bits of every total.
 */
#include "statistics.h"

#include <math.h>
#include <string.h>

#include "espalier/tensor/statistics.h"

/* Every rank has a part, since every rank may have samples; a total only where the rank can be its owner. sums: NULL
 * when the pool only counts, or after a failure. */
static void take_sum(block_statistics *s, block_sum *sums, int64_t i, int input, int64_t rows, int64_t columns,
                     bool wide, pool *buffers, const char *what) {
    block_sum none, *sum = sums && s->all ? &sums[i] : &none;
    *sum = (block_sum){.n = rows * columns, .input = input, .wide = wide};
    sum->part = espl_pool_take(buffers, rows, (size_t)columns * (wide ? sizeof(double) : sizeof(float)), what);
    if (espl_plan_may_own(s->plan, s->pass, input))
        sum->total = espl_pool_take(buffers, rows, (size_t)columns * sizeof(double), what);
    if (sum != &none) s->all[s->n++] = sum;
}

void espl_statistics_take(block_statistics *s, const method_plan *plan, const pass_plan *pass, espl_comm *comm,
                          espl_block *block, pool *buffers) {
    *s = (block_statistics){.plan = plan, .pass = pass, .comm = comm, .block = block};
    s->squares = espl_pool_take(buffers, plan->inputs, sizeof *s->squares, "sums of squares");
    s->grams = espl_pool_take(buffers, plan->inputs, sizeof *s->grams, "Hessian");
    s->drifts = espl_pool_take(buffers, plan->inputs, sizeof *s->drifts, "drift of the inputs");
    s->dense = espl_pool_take(buffers, plan->inputs, sizeof *s->dense, "inputs of the dense model");
    s->gradients = espl_pool_take(buffers, plan->places, sizeof *s->gradients, "gradients");
    s->all = espl_pool_take(buffers, 3 * plan->inputs + plan->places, sizeof *s->all, "statistics");
    s->seen = espl_pool_take(buffers, plan->places, sizeof *s->seen, "statistics");
    s->parts = espl_pool_take(buffers, plan->places, sizeof *s->parts, "statistics");
    for (int i = 0; i < plan->inputs; i++) {
        int64_t in = espl_input_size(plan->config, i);
        if (pass->squares) take_sum(s, s->squares, i, i, in, 1, true, buffers, "sums of squares");
        if (pass->grams) take_sum(s, s->grams, i, i, in, in, false, buffers, "Hessian");
        if (!espl_plan_drifts(plan, pass, i)) continue;
        take_sum(s, s->drifts, i, i, in, in, false, buffers, "drift of the inputs");
        float *dense =
            espl_pool_take(buffers, plan->o->window, (size_t)in * sizeof *dense, "inputs of the dense model");
        if (s->dense) s->dense[i] = dense;
    }
    if (!pass->gradients) return;
    for (int k = 0; k < plan->places; k++) {
        int64_t out, in;
        espl_plan_shape(plan->config, k, &out, &in);
        take_sum(s, s->gradients, k, espl_input_of(k), out, in, false, buffers, "gradients");
    }
    s->output = espl_pool_take(buffers, plan->o->window, (size_t)plan->config->hidden * sizeof(float), "block output");
}

static void use_linears(espl_block *block, const espl_linear *linears, int n) {
    for (int k = 0; k < n; k++) *espl_block_linear(block, k) = linears[k];
}

/* Whether an input is collected now. */
static bool is_wanted(const block_statistics *s, int input) {
    return !s->pass->staged || espl_input_stage(input) == s->stage;
}

/* Keeps the stage's inputs of the dense model, for a sample, and takes its stream along. */
static void see_dense(block_statistics *s, float *dense) {
    use_linears(s->block, s->sources, s->plan->places);
    espl_block_trace(s->block, s->stage, dense, s->seen);
    for (int i = 0; i < s->plan->inputs; i++) {
        const espl_block_input *seen = &s->seen[espl_input_first(i)];
        if (!is_wanted(s, i) || !espl_plan_drifts(s->plan, s->pass, i)) continue;
        memcpy(s->dense[i], seen->x, (size_t)(seen->rows * espl_input_size(s->plan->config, i)) * sizeof *seen->x);
    }
    if (s->stage == ESPL_BLOCK_O || s->stage == ESPL_BLOCK_DOWN) espl_block_add(s->block, s->stage, dense);
}

/* The stage's inputs of the pruned model. Attention is computed again rather than kept since stage O: o_proj has
 * changed meanwhile, and its inputs of all samples are larger than the stream. */
static void see_stage(block_statistics *s, float *x, float *dense) {
    if (dense) see_dense(s, dense);
    use_linears(s->block, s->current, s->plan->places);
    if (s->stage == ESPL_BLOCK_GATE_UP) {
        espl_block_trace(s->block, ESPL_BLOCK_O, x, s->seen);
        espl_block_add(s->block, ESPL_BLOCK_O, x);
    }
    espl_block_trace(s->block, s->stage, x, s->seen);
}

/* Adds y [window, in] - x to the drift's part; y becomes the difference. */
static void add_drift(block_sum *drift, float *y, const float *x, int64_t window, int64_t in) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < window * in; i++) y[i] -= x[i];
    espl_tensor_cross_gram(y, x, window, in, drift->part);
}

/* Adds the sample with block input x [window, hidden], and `dense` in the dense model, to the parts. */
static void add_sample(block_statistics *s, float *x, float *dense) {
    int64_t window = s->plan->o->window, floats = window * s->plan->config->hidden;
    if (s->pass->staged)
        see_stage(s, x, dense);
    else if (s->pass->squares || s->pass->grams)
        espl_block_inputs(s->block, x, s->seen);
    for (int i = 0; i < s->plan->inputs; i++) {
        const espl_block_input *seen = &s->seen[espl_input_first(i)];
        int64_t in = espl_input_size(s->plan->config, i);
        if (!is_wanted(s, i)) continue;
        if (s->pass->squares) espl_tensor_square_sums(seen->x, seen->rows, in, s->squares[i].part);
        if (s->pass->grams && seen->rows > 0) espl_tensor_gram(seen->x, seen->rows, in, s->grams[i].part);
        if (espl_plan_drifts(s->plan, s->pass, i)) add_drift(&s->drifts[i], s->dense[i], seen->x, window, in);
    }
    if (s->pass->gradients) {
        /* Wanda++'s regional gradient: of the norm of the block's output y, whose gradient is y / ||y||. */
        float *y = s->output;
        double sum = 0;
        for (int k = 0; k < s->plan->places; k++) s->parts[k] = s->gradients[k].part;
        memcpy(y, x, (size_t)floats * sizeof *y);
        espl_block_forward(s->block, y);
        for (int64_t i = 0; i < floats; i++) sum += (double)y[i] * (double)y[i];
        if (sum > 0) {
            float scale = (float)(1 / sqrt(sum));
            for (int64_t i = 0; i < floats; i++) y[i] *= scale;
            espl_block_backward(s->block, x, y, s->parts);
        }
    }
    espl_comm_progress(s->comm);
}

/* The diagonal of X^T X, or its n squares, are 0 for an expert that no token of the samples was routed to. */
static void fill_unreached(const block_statistics *s, int64_t layer) {
    if (s->plan->config->experts == 0) return;
    for (int i = ATTENTION_INPUTS; i < s->plan->inputs; i++) {
        int64_t in = espl_input_size(s->plan->config, i), seen = 0;
        double *total = s->pass->grams ? s->grams[i].total : s->pass->squares ? s->squares[i].total : NULL;
        int64_t stride = s->pass->grams ? in + 1 : 1;
        if (!is_wanted(s, i)) continue;
        if (!total || espl_plan_owner(s->plan, s->pass, layer, i) != s->plan->rank) continue;
        for (int64_t j = 0; j < in; j++) seen += total[j * stride] != 0;
        for (int64_t j = 0; j < in && seen == 0; j++) total[j * stride] = 1;
    }
}

espl_status espl_statistics_collect(block_statistics *s, int64_t layer, float *states, float *dense,
                                    espl_range groups) {
    const method_plan *p = s->plan;
    int64_t floats = p->o->window * p->config->hidden, local = 0;
    for (int64_t g = p->rank; g < groups.first; g += p->ranks) local += espl_plan_group_size(p, g);
    for (int i = 0; i < s->n; i++) {
        block_sum *sum = s->all[i];
        if (is_wanted(s, sum->input) && espl_plan_owner(p, s->pass, layer, sum->input) == p->rank)
            memset(sum->total, 0, (size_t)sum->n * sizeof *sum->total);
    }
    /* A round: one group on each rank, added in the order of the ranks. In the first one, ranks whose group is not
     * among those that are wanted add zeros. */
    for (int64_t first = groups.first / p->ranks * p->ranks; first < groups.last; first += p->ranks) {
        int contributors = (int)espl_min_i64(p->ranks, groups.last - first);
        for (int i = 0; i < s->n; i++)
            if (is_wanted(s, s->all[i]->input))
                memset(s->all[i]->part, 0, (size_t)s->all[i]->n * (s->all[i]->wide ? sizeof(double) : sizeof(float)));
        if (p->rank < contributors && first + p->rank >= groups.first)
            for (int64_t i = 0; i < espl_plan_group_size(p, first + p->rank); i++, local++)
                add_sample(s, states + local * floats, dense ? dense + local * floats : NULL);
        for (int i = 0; i < s->n; i++) {
            block_sum *sum = s->all[i];
            if (!is_wanted(s, sum->input)) continue;
            int owner = espl_plan_owner(p, s->pass, layer, sum->input);
            if (sum->wide)
                ESPL_TRY(espl_comm_add_f64(s->comm, sum->part, sum->n, contributors, owner, sum->total));
            else
                ESPL_TRY(espl_comm_add_f32(s->comm, sum->part, sum->n, contributors, owner, sum->total));
        }
    }
    fill_unreached(s, layer);
    return ESPL_OK;
}

void espl_statistics_norm(const block_statistics *s, int input, bool mean, float *norm) {
    const block_sum *squares = &s->squares[input];
    double samples = mean ? (double)s->plan->o->samples : 1;
    for (int64_t j = 0; j < squares->n; j++) norm[j] = (float)sqrt(squares->total[j] / samples);
}
