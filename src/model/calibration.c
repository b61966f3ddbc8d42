/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The result of a calibration: where it has the numbers of a linear, and what it says of experts that no token reached.
 */
#include "espalier/model/calibration.h"

#include <math.h>

#include "calibrator.h"
#include "espalier/model/shape.h"

void espl_calibration_free(espl_calibration *c) {
    espl_mem_free(&c->loss);
    espl_mem_free(&c->gradient);
    espl_mem_free(&c->squares);
    espl_mem_free(&c->output_squares);
    espl_mem_free(&c->reached);
    espl_mem_free(&c->reached_backward);
    espl_mem_free(&c->knowledge);
    espl_mem_free(&c->topic_gradients);
    *c = (espl_calibration){0};
}

/* The layer of a linear, counted from this rank's first; -1 if another rank has it. */
static int64_t calibration_layer(const espl_calibration *c, int64_t index) {
    if (index < c->linears.first || index >= c->linears.last) return -1;
    return espl_linear_layer(c->layout, index - c->linears.first);
}

/* Linears of MLPs: how many experts lie before. */
static int64_t calibration_expert(const espl_calibration *c, int64_t index) {
    int64_t expert = espl_linear_expert(c->layout, index);
    return expert < 0 ? 0 : expert;
}

int64_t espl_calibration_at(const espl_calibration *c, int64_t index) {
    return calibration_layer(c, index) * c->stride + c->at[espl_linear_kind_of(c->layout, index)] +
           calibration_expert(c, index) * c->expert_stride;
}

int64_t espl_calibration_output_at(const espl_calibration *c, int64_t index) {
    return calibration_layer(c, index) * c->output_stride + c->output_at[espl_linear_kind_of(c->layout, index)] +
           calibration_expert(c, index) * c->output_expert_stride;
}

const double *espl_calibration_squares(const espl_calibration *c, int64_t index) {
    return calibration_layer(c, index) < 0 ? NULL : c->squares + espl_calibration_at(c, index);
}

const double *espl_calibration_output_squares(const espl_calibration *c, int64_t index) {
    return calibration_layer(c, index) < 0 ? NULL : c->output_squares + espl_calibration_output_at(c, index);
}

int64_t espl_calibration_reached(const espl_calibration *c, int64_t index) {
    return calibration_layer(c, index) < 0 ? 0 : c->reached[index - c->linears.first];
}

double espl_calibration_output_unit(const espl_calibration *c) {
    return c->samples > 0 ? c->predictions * c->predictions / ((double)c->samples * c->tokens) : 0;
}

void espl_calibration_norms(const espl_calibration *c, int64_t index, int64_t in, float *norm) {
    const double *squares = espl_calibration_squares(c, index);
    for (int64_t j = 0; j < in; j++) norm[j] = (float)sqrt(squares[j]);
}

double espl_calibration_gradient(const espl_calibration *c, int64_t index) {
    return calibration_layer(c, index) < 0 ? NAN : c->gradient[index - c->linears.first];
}

/* ------------------------------------------------------------ unreached experts */

static bool calibration_is_zero(const double *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (v[i] != 0) return false;
    return true;
}

/* Gives the experts of a kind that no token of a layer reached the statistics of one token: all features 1, and the
 * mean square gradient of the experts that were. Every token reaches as many experts. */
static void calibration_fill_unreached(const espl_model *m, espl_calibration *c, int64_t layer, espl_linear_kind kind) {
    int64_t out, in, first = espl_linear_index(c->layout, layer, 0), experts = c->layout.experts;
    double sum = 0, pairs = (double)(c->samples * c->window * m->config.experts_per_token);
    espl_model_linear_shape(&m->config, kind, &out, &in);
    for (int64_t e = 0; e < experts; e++) {
        const double *squares = espl_calibration_output_squares(c, first + espl_linear_at(kind, e));
        for (int64_t o = 0; o < out; o++) sum += squares[o];
    }
    for (int64_t e = 0; e < experts; e++) {
        int64_t index = first + espl_linear_at(kind, e), i = index - c->linears.first;
        double *x = c->squares + espl_calibration_at(c, index);
        double *g = c->output_squares + espl_calibration_output_at(c, index);
        for (int64_t j = 0; c->forward_tokens > 0 && c->reached[i] == 0 && j < in; j++) x[j] = 1;
        if (c->samples == 0 || !calibration_is_zero(g, out)) continue;
        for (int64_t o = 0; o < out; o++) g[o] = sum / (pairs * (double)out);
    }
}

void espl_calibration_finish_experts(const espl_model *m, espl_calibration *c) {
    if (c->layout.experts == 0) return;
    for (int64_t layer = m->slice.first; layer < m->slice.last; layer++)
        for (int k = ESPL_GATE_PROJ; k < ESPL_LINEAR_KINDS; k++)
            calibration_fill_unreached(m, c, layer, (espl_linear_kind)k);
}
