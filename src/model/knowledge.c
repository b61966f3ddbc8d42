/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Knowledge in a calibration: what the loss of answers to probe questions says of each linear, and how it is mixed with
 * what the text says.
 */
#include <math.h>
#include <string.h>

#include "calibrator.h"
#include "espalier/model/shape.h"

const double *espl_calibration_knowledge(const espl_calibration *c, int64_t index) {
    bool mine = index >= c->linears.first && index < c->linears.last;
    return c->knowledge && mine ? c->knowledge + espl_calibration_output_at(c, index) : NULL;
}

double espl_calibration_topic_gradient(const espl_calibration *c, int64_t index, espl_topic topic) {
    if (!c->topic_gradients || index < c->linears.first || index >= c->linears.last) return NAN;
    return c->topic_gradients[topic * espl_range_count(c->linears) + index - c->linears.first];
}

void espl_calibration_importance(const espl_calibration *c, int64_t index, int64_t out, double *importance) {
    const double *text = espl_calibration_output_squares(c, index), *answers = espl_calibration_knowledge(c, index);
    double unit = espl_calibration_output_unit(c), share = answers ? c->knowledge_share : 0;
    double reached = (double)c->reached_backward[index - c->linears.first], all = (double)(c->samples * c->window);
    for (int64_t i = 0; i < out; i++) {
        importance[i] = unit * text[i];
        if (share > 0) importance[i] = (1 - share) * importance[i] + share * c->knowledge_scale * answers[i];
        /* Means over all tokens so far. */
        if (reached < all) importance[i] *= all / (reached > 0 ? reached : 1);
    }
}

/* Sums of G and G_k over the outputs of a linear. */
typedef struct knowledge_sums {
    double text, answers;
} knowledge_sums;

/* Collective. Sets knowledge_scale. Sums are gathered by linear and added in their order, so that the scale has the
 * same bits on any number of ranks. */
static espl_status knowledge_set_scale(const espl_model *m, espl_calibration *c) {
    int64_t n = espl_range_count(c->linears), linears = espl_model_linears_of(&m->config);
    knowledge_sums *own = NULL, *all = NULL, total = {0};
    double unit = espl_calibration_output_unit(c);
    espl_status st = espl_mem_alloc(&own, n, sizeof *own, "sums of importance");
    if (st == ESPL_OK) st = espl_mem_alloc(&all, linears, sizeof *all, "sums of importance");
    ESPL_CHECK(st, done, espl_comm_agree(m->comm, st));
    if (!own || !all) goto done; /* never: the ranks agreed that all memory is there */
    for (int64_t i = 0; i < n; i++) {
        int64_t index = c->linears.first + i;
        const double *text = espl_calibration_output_squares(c, index), *answers = espl_calibration_knowledge(c, index);
        for (int64_t o = 0; o < espl_model_linear(m, index)->out; o++) {
            own[i].text += unit * text[o];
            own[i].answers += answers[o];
        }
    }
    st = espl_comm_gather_records(m->grid->pipeline, own, n, sizeof *own, linears, all);
    ESPL_CHECK(st, done, espl_comm_agree(m->comm, st));
    for (int64_t i = 0; i < linears; i++) {
        total.text += all[i].text;
        total.answers += all[i].answers;
    }
    c->knowledge_scale = total.answers > 0 ? total.text / total.answers : 0;
    espl_comm_broadcast(m->grid->pipeline, &c->knowledge_scale, sizeof c->knowledge_scale, 0);
done:
    espl_mem_free(&own);
    espl_mem_free(&all);
    return st;
}

espl_status espl_model_calibrate_knowledge(espl_model *m, const espl_topic_samples *topics, int64_t window,
                                           double share, espl_calibration *c) {
    int64_t n = espl_range_count(c->linears), outputs = espl_range_count(m->slice) * c->output_stride;
    bool present[ESPL_TOPICS], any = false;
    double weights[ESPL_TOPICS];
    for (int t = 0; t < ESPL_TOPICS; t++) any = (present[t] = topics[t].windows > 0) || any;
    if (!any) return ESPL_OK;
    espl_topic_weights(present, weights);
    espl_mem_free(&c->knowledge);
    espl_mem_free(&c->topic_gradients);
    espl_status st = espl_mem_alloc(&c->knowledge, outputs, sizeof *c->knowledge, "knowledge statistics");
    if (st == ESPL_OK)
        st = espl_mem_alloc(&c->topic_gradients, ESPL_TOPICS * n, sizeof *c->topic_gradients, "knowledge statistics");
    ESPL_TRY(espl_comm_agree(m->comm, st));
    for (int64_t i = 0; i < ESPL_TOPICS * n; i++) c->topic_gradients[i] = NAN;
    for (int t = 0; t < ESPL_TOPICS; t++) {
        const espl_topic_samples *s = &topics[t];
        espl_calibration_options o = {.window = window, .backward = s->windows, .targets = s->targets};
        espl_calibration answers;
        if (!present[t]) continue;
        o.choices = s->choices;
        o.n_choices = s->n_choices;
        ESPL_TRY(espl_model_calibrate(m, &o, s->ids, NULL, NULL, &answers));
        double unit = weights[t] * espl_calibration_output_unit(&answers);
        for (int64_t i = 0; i < outputs; i++) c->knowledge[i] += unit * answers.output_squares[i];
        memcpy(c->topic_gradients + t * n, answers.gradient, (size_t)n * sizeof *answers.gradient);
        espl_calibration_free(&answers);
    }
    c->knowledge_share = share;
    return knowledge_set_scale(m, c);
}
