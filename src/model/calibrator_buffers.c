/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a calibration.
 */
#include <inttypes.h>

#include "calibrator.h"
#include "espalier/base/integer.h"
#include "espalier/model/shape.h"
#include "espalier/schedule/pipeline.h"
#include "layer.h"

int espl_calibration_parts(const espl_model_config *c, const espl_calibration_options *o, const espl_grid *g) {
    bool whole = o->gradient_squares || o->gradient_sums || o->teacher || o->final_states || c->experts > 0;
    return whole ? 1 : g->members;
}

/* Sizes of what a team of d->parts gathers: linears share an input in these groups. */
static void calibration_size_team(calibration_dims *d, const espl_linear *l, const int *first, const int *n,
                                  int groups) {
    d->wide = espl_max_i64(espl_max_i64(d->C, d->Q), d->KV);
    d->cut = espl_max_i64(d->C, d->Q); /* of the head, and of attention */
    d->pack = espl_max_i64(espl_max_i64(d->Q, d->F), d->C);
    for (int g = 0; g < groups; g++) {
        bool by_columns = espl_calibration_cuts_inputs(&l[first[g]], n[g]);
        for (int part = 0; part < d->parts; part++) {
            espl_weight_block b[ESPL_LINEAR_KINDS] = {0};
            int64_t sum = 0;
            espl_gradient_part(&l[first[g]], n[g], by_columns, (int)d->parts, part, b);
            for (int i = 0; i < n[g]; i++) sum += by_columns ? b[i].columns : b[i].rows;
            d->cut = espl_max_i64(d->cut, sum);
        }
    }
}

calibration_dims espl_calibration_dims_of(const espl_model_config *c, const espl_calibration_options *o,
                                          espl_range slice, const espl_grid *grid) {
    /* Scratch of the gradient sums: for the largest group of linears that share an input. */
    enum { GROUPS = 4 };
    static const int first[GROUPS] = {ESPL_Q_PROJ, ESPL_O_PROJ, ESPL_GATE_PROJ, ESPL_DOWN_PROJ}, n[] = {3, 1, 2, 1};
    int replicas = grid->replicas, stages = grid->stages, parts = espl_calibration_parts(c, o, grid);
    espl_linear l[ESPL_LINEAR_KINDS] = {0}, head = {.out = c->vocab, .in = c->hidden};
    espl_layout layout = espl_model_layout(c);
    bool sums = o->backward > 0 && !o->gradient_squares && !o->gradient_sums;
    int64_t partial = 0, outputs = 0, weights = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_model_linear_shape(c, (espl_linear_kind)k, &l[k].out, &l[k].in);
        outputs += espl_layout_kind_linears(layout, (espl_linear_kind)k) * l[k].out;
        if (!sums && replicas > 1) weights = espl_max_i64(weights, l[k].out * l[k].in);
    }
    for (int g = 0; g < GROUPS; g++) partial = espl_max_i64(partial, espl_gradient_partials(&l[first[g]], n[g]));
    bool last = grid->stage == stages - 1;
    window_team most = espl_team_of(NULL, 0, parts, o->window); /* the first part has the most blocks */
    int64_t teams = replicas / parts, rounds = (o->backward + teams - 1) / teams; /* samples of a team */
    calibration_dims d = {.T = o->window,
                          .n = most.rows,
                          .parts = parts,
                          .blocks = most.blocks,
                          .C = c->hidden,
                          .Q = c->heads * c->head_dim,
                          .KV = c->kv_heads * c->head_dim,
                          .F = c->ffn,
                          .H = c->heads,
                          .E = c->experts,
                          .K = c->experts_per_token,
                          .P = most.rows * espl_max_i64(c->experts_per_token, 1),
                          .layers = espl_range_count(slice),
                          .in_flight = rounds > 0 ? espl_pass_ahead(rounds, grid->stage, stages) + 1 : 0,
                          .partial = partial,
                          .head = !last        ? 0
                                  : o->teacher ? espl_head_distill_floats(&head, o->window)
                                               : espl_head_backward_floats(&head, o->window),
                          .back = o->backward > 0,
                          .several = stages > 1,
                          .last = last,
                          .stride =
                              c->hidden + c->heads * c->head_dim + espl_layout_mlps(layout) * (c->hidden + c->ffn),
                          .output_stride = sums ? outputs : 0,
                          .linears = sums ? espl_layout_layer_linears(layout) : 0,
                          .replicas = replicas,
                          .weights = o->backward > 0 ? weights : 0,
                          .qk_norm = c->family->qk_norm != ESPL_QK_NORM_NONE,
                          .branches = !espl_layer_adds_plainly(c)};
    d.block_stride = c->experts > 0 ? d.C + d.Q : d.stride;
    calibration_size_team(&d, l, first, n, GROUPS);
    return d;
}

int64_t espl_calibration_arena_bytes(const calibration_dims *dims) {
    calibration_dims d = *dims;
    size_t sum = 0;
#define X(name, type, n) sum += espl_arena_piece((size_t)(n) * sizeof(type));
    CALIBRATION_LIST(X)
#undef X
    return (int64_t)sum;
}

int64_t espl_model_calibration_bytes(const espl_model_config *c, const espl_calibration_options *o, espl_range slice,
                                     const espl_grid *g) {
    calibration_dims d = espl_calibration_dims_of(c, o, slice, g);
    return espl_calibration_arena_bytes(&d);
}

espl_status espl_calibration_buffers_create(const calibration_dims *dims, const window_team *team, espl_arena **arena,
                                            calibration_buffers *b) {
    calibration_dims d = *dims;
    bool good = true;
    ESPL_TRY(espl_arena_create(arena, (size_t)espl_calibration_arena_bytes(&d), "calibration buffers"));
#define X(name, type, n) good = (b->name = espl_arena_take(*arena, (size_t)(n) * sizeof(type))) && good;
    CALIBRATION_LIST(X)
#undef X
    if (!good) return ESPL_FAIL(ESPL_INTERNAL, "calibration buffers sized wrongly");
    for (int64_t k = 0; k < team->blocks; k++)
        for (int64_t t = 0; t < espl_team_block_rows(team, k); t++)
            b->positions[k * team->block + t] = espl_team_block_first(team, k) + t;
    return ESPL_OK;
}

espl_status espl_calibration_check_backward(const espl_model *m) {
    espl_attention_shape shape = espl_model_attention_shape(m, 0);
    if (espl_attention_backward_fits(&shape)) return ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "no backward pass for %" PRId64 " query heads per key head of size %" PRId64,
                     shape.heads / shape.kv_heads, shape.head_dim);
}
