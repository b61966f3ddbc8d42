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

/* Every rank has a part, since every rank may have samples; a total only where the rank can be its owner. */
static void take_sum(block_statistics *s, block_sum *sum, int input, int64_t rows, int64_t columns, bool wide,
                     pool *buffers, const char *what) {
    *sum = (block_sum){.n = rows * columns, .input = input, .wide = wide};
    sum->part = espl_pool_take(buffers, rows, (size_t)columns * (wide ? sizeof(double) : sizeof(float)), what);
    if (espl_plan_may_own(s->plan, s->pass, input))
        sum->total = espl_pool_take(buffers, rows, (size_t)columns * sizeof(double), what);
    s->all[s->n++] = sum;
}

void espl_statistics_take(block_statistics *s, const method_plan *plan, const pass_plan *pass, espl_comm *comm,
                          espl_block *block, pool *buffers) {
    *s = (block_statistics){.plan = plan, .pass = pass, .comm = comm, .block = block};
    for (int i = 0; i < BLOCK_INPUTS; i++) {
        int64_t in = espl_input_size(plan->config, i);
        if (pass->squares) take_sum(s, &s->squares[i], i, in, 1, true, buffers, "sums of squares");
        if (pass->grams) take_sum(s, &s->grams[i], i, in, in, false, buffers, "Hessian");
    }
    if (!pass->gradients) return;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in;
        espl_model_linear_shape(plan->config, (espl_linear_kind)k, &out, &in);
        take_sum(s, &s->gradients[k], espl_input_of((espl_linear_kind)k), out, in, false, buffers, "gradients");
    }
    s->output = espl_pool_take(buffers, plan->o->window, (size_t)plan->config->hidden * sizeof(float), "block output");
}

/* Adds the sample with block input x [window, hidden] to the parts. */
static void add_sample(block_statistics *s, const float *x) {
    const float *inputs[ESPL_LINEAR_KINDS];
    int64_t window = s->plan->o->window, floats = window * s->plan->config->hidden;
    if (s->pass->squares || s->pass->grams) espl_block_inputs(s->block, x, inputs);
    for (int i = 0; i < BLOCK_INPUTS; i++) {
        int64_t in = espl_input_size(s->plan->config, i);
        if (s->pass->squares) espl_tensor_square_sums(inputs[espl_input_first(i)], window, in, s->squares[i].part);
        if (s->pass->grams) espl_tensor_gram(inputs[espl_input_first(i)], window, in, s->grams[i].part);
    }
    if (s->pass->gradients) {
        /* Wanda++'s regional gradient: of the norm of the block's output y, whose gradient is y / ||y||. */
        float *parts[ESPL_LINEAR_KINDS], *y = s->output;
        double sum = 0;
        for (int k = 0; k < ESPL_LINEAR_KINDS; k++) parts[k] = s->gradients[k].part;
        memcpy(y, x, (size_t)floats * sizeof *y);
        espl_block_forward(s->block, y);
        for (int64_t i = 0; i < floats; i++) sum += (double)y[i] * (double)y[i];
        if (sum > 0) {
            float scale = (float)(1 / sqrt(sum));
            for (int64_t i = 0; i < floats; i++) y[i] *= scale;
            espl_block_backward(s->block, x, y, parts);
        }
    }
    espl_comm_progress(s->comm);
}

espl_status espl_statistics_collect(block_statistics *s, int64_t layer, const float *states) {
    const method_plan *p = s->plan;
    int64_t floats = p->o->window * p->config->hidden, local = 0;
    int owners[BLOCK_INPUTS];
    for (int i = 0; i < BLOCK_INPUTS; i++) owners[i] = espl_plan_owner(p, s->pass, layer, i);
    for (int i = 0; i < s->n; i++) {
        block_sum *sum = s->all[i];
        if (owners[sum->input] == p->rank) memset(sum->total, 0, (size_t)sum->n * sizeof *sum->total);
    }
    /* A round: one group on each rank, added in the order of the ranks. */
    for (int64_t first = 0; first < p->groups; first += p->ranks) {
        int contributors = (int)espl_min_i64(p->ranks, p->groups - first);
        for (int i = 0; i < s->n; i++)
            memset(s->all[i]->part, 0, (size_t)s->all[i]->n * (s->all[i]->wide ? sizeof(double) : sizeof(float)));
        if (p->rank < contributors)
            for (int64_t i = 0; i < espl_plan_group_size(p, first + p->rank); i++)
                add_sample(s, states + local++ * floats);
        for (int i = 0; i < s->n; i++) {
            block_sum *sum = s->all[i];
            int owner = owners[sum->input];
            if (sum->wide)
                ESPL_TRY(espl_comm_add_f64(s->comm, sum->part, sum->n, contributors, owner, sum->total));
            else
                ESPL_TRY(espl_comm_add_f32(s->comm, sum->part, sum->n, contributors, owner, sum->total));
        }
    }
    return ESPL_OK;
}

void espl_statistics_norm(const block_statistics *s, int input, bool mean, float *norm) {
    const block_sum *squares = &s->squares[input];
    double samples = mean ? (double)s->plan->o->samples : 1;
    for (int64_t j = 0; j < squares->n; j++) norm[j] = (float)sqrt(squares->total[j] / samples);
}
