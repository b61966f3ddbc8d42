/* SPDX-License-Identifier: Apache-2.0 */
/* Random plans at the policy's pace: the difference to them is what an agent's choice of linears is worth. */
#include "random.h"

#include "view.h"

#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/rng.h"

#include <math.h>

/* Sets the streams of this file apart from those of other users of the seed. */
static const uint64_t PURPOSE = 0x72616e646f6d;

/* So many weights of a linear, on average, are worth naming it: steps of less than a weight would be no plan. */
static const double WEIGHTS_MIN = 16;

/* Weights to prune now, if steps allow it. */
static double random_amount(const espl_agent_view *v, const espl_policy_options *o) {
    double amount = v->budget.target * (double)espl_view_weights(v) / o->horizon, factor = 1;
    for (int64_t k = v->n_history - 1; k >= 0 && !v->history[k].accepted; k--) factor *= o->backoff;
    return fmin(amount * fmax(factor, o->finest), (double)espl_view_left(v));
}

/* Draws steps of the first n of the linears in `order`; returns the weights that they prune together. */
static double random_draw(espl_rng *r, const espl_agent_view *v, const int64_t *order, int64_t n, double *steps) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        double weights = (double)v->rows[order[k]].weights;
        double most = fmin(v->budget.max_step, (double)espl_view_room(v, order[k]) / weights);
        steps[k] = fmin(fmax((1 - espl_rng_uniform(r)) * most, 1 / weights), most); /* a weight, if there may be one */
        sum += steps[k] * weights;
    }
    return sum;
}

espl_status espl_random_propose(const espl_agent_view *v, const espl_policy_options *o, int64_t run_seed, int64_t seed,
                                espl_str *json) {
    int64_t *order = NULL, n = 0;
    double *steps = NULL;
    char name[ESPL_LINEAR_NAME_MAX];
    espl_rng r;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&order, espl_view_linears(v), sizeof *order, "random plan"));
    ESPL_CHECK(st, done, espl_mem_alloc(&steps, espl_view_linears(v), sizeof *steps, "random plan"));
    for (int64_t i = 0; i < espl_view_linears(v); i++)
        if (espl_view_room(v, i) > 0) order[n++] = i;
    espl_rng_seed(&r, (uint64_t)run_seed, (uint64_t)v->iteration, PURPOSE + (uint64_t)espl_max_i64(seed, 0));
    espl_rng_shuffle(&r, order, n);
    double amount = random_amount(v, o);
    n = espl_min_i64(espl_min_i64(n, v->budget.max_linears), (int64_t)fmax(1, amount / WEIGHTS_MIN));
    double factor = fmin(1, amount / random_draw(&r, v, order, n, steps));
    int64_t weights = 0;
    for (int64_t k = 0; k < n; k++) weights += llround(factor * steps[k] * (double)v->rows[order[k]].weights);
    if (weights == 0) n = 0;

    espl_json_writer w = espl_json_writer_on(json);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_text(&w, "reasoning", n > 0 ? "At random." : "No linear can lose a whole weight any more.");
    espl_json_open_object(&w, "prune", ESPL_JSON_SPACED);
    for (int64_t k = 0; k < n; k++)
        espl_json_put_shortest(&w, espl_linear_name(v->layout, order[k], name), factor * steps[k]);
    espl_json_close(&w);
    espl_json_put_bool(&w, "stop", n == 0);
    espl_json_close(&w);
    st = espl_str_status(json);
done:
    espl_mem_free(&order);
    espl_mem_free(&steps);
    return st;
}
