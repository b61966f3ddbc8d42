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
    s->gradients = espl_pool_take(buffers, plan->places, sizeof *s->gradients, "gradients");
    s->all = espl_pool_take(buffers, 2 * plan->inputs + plan->places, sizeof *s->all, "statistics");
    s->seen = espl_pool_take(buffers, plan->places, sizeof *s->seen, "statistics");
    s->parts = espl_pool_take(buffers, plan->places, sizeof *s->parts, "statistics");
    for (int i = 0; i < plan->inputs; i++) {
        int64_t in = espl_input_size(plan->config, i);
        if (pass->squares) take_sum(s, s->squares, i, i, in, 1, true, buffers, "sums of squares");
        if (pass->grams) take_sum(s, s->grams, i, i, in, in, false, buffers, "Hessian");
    }
    if (!pass->gradients) return;
    for (int k = 0; k < plan->places; k++) {
        int64_t out, in;
        espl_plan_shape(plan->config, k, &out, &in);
        take_sum(s, s->gradients, k, espl_input_of(k), out, in, false, buffers, "gradients");
    }
    s->output = espl_pool_take(buffers, plan->o->window, (size_t)plan->config->hidden * sizeof(float), "block output");
}

/* Adds the sample with block input x [window, hidden] to the parts. */
static void add_sample(block_statistics *s, const float *x) {
    int64_t window = s->plan->o->window, floats = window * s->plan->config->hidden;
    if (s->pass->squares || s->pass->grams) espl_block_inputs(s->block, x, s->seen);
    for (int i = 0; i < s->plan->inputs; i++) {
        const espl_block_input *seen = &s->seen[espl_input_first(i)];
        int64_t in = espl_input_size(s->plan->config, i);
        if (s->pass->squares) espl_tensor_square_sums(seen->x, seen->rows, in, s->squares[i].part);
        if (s->pass->grams && seen->rows > 0) espl_tensor_gram(seen->x, seen->rows, in, s->grams[i].part);
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
        if (!total || espl_plan_owner(s->plan, s->pass, layer, i) != s->plan->rank) continue;
        for (int64_t j = 0; j < in; j++) seen += total[j * stride] != 0;
        for (int64_t j = 0; j < in && seen == 0; j++) total[j * stride] = 1;
    }
}

espl_status espl_statistics_collect(block_statistics *s, int64_t layer, const float *states) {
    const method_plan *p = s->plan;
    int64_t floats = p->o->window * p->config->hidden, local = 0;
    for (int i = 0; i < s->n; i++) {
        block_sum *sum = s->all[i];
        if (espl_plan_owner(p, s->pass, layer, sum->input) == p->rank)
            memset(sum->total, 0, (size_t)sum->n * sizeof *sum->total);
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
