/* The size table of a calibration. */
#include "calibrate.h"

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Scratch of the gradient sums: the largest group of linears that share an input. */
static int64_t partials(const espl_model_config *c) {
    espl_linear l[ESPL_LINEAR_KINDS] = {0};
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) espl_model_linear_shape(c, (espl_linear_kind)k, &l[k].out, &l[k].in);
    int64_t n = most(espl_gradient_partials(&l[ESPL_Q_PROJ], 3), espl_gradient_partials(&l[ESPL_O_PROJ], 1));
    n = most(n, espl_gradient_partials(&l[ESPL_GATE_PROJ], 2));
    return most(n, espl_gradient_partials(&l[ESPL_DOWN_PROJ], 1));
}

calibration_dims espl_calibration_dims_of(const espl_model_config *c, const espl_calibration_options *o,
                                          espl_range slice, int rank, int ranks) {
    calibration_dims d = {.T = o->window,
                          .C = c->hidden,
                          .Q = c->heads * c->head_dim,
                          .KV = c->kv_heads * c->head_dim,
                          .F = c->ffn,
                          .H = c->heads,
                          .layers = espl_range_count(slice),
                          .in_flight = o->backward < ranks - rank ? o->backward : ranks - rank,
                          .partial = partials(c),
                          .back = o->backward > 0,
                          .several = ranks > 1,
                          .last = rank == ranks - 1,
                          .qk_norm = c->qk_norm};
    espl_linear head = {.out = c->vocab, .in = c->hidden};
    d.head = d.last ? espl_head_backward_floats(&head, d.T) : 0;
    return d;
}

int64_t espl_calibration_arena_bytes(const calibration_dims *dp) {
    calibration_dims d = *dp;
    size_t sum = 0;
#define X(name, type, n) sum += espl_arena_piece((size_t)(n) * sizeof(type));
    CALIBRATION_LIST(X)
#undef X
    return (int64_t)sum;
}

bool espl_calibration_carve(espl_arena *a, const calibration_dims *dp, calibration_buffers *b) {
    calibration_dims d = *dp;
#define X(name, type, n)                                                                                               \
    b->name = espl_arena_take(a, (size_t)(n) * sizeof(type));                                                          \
    if (!b->name) return false;
    CALIBRATION_LIST(X)
#undef X
    return true;
}

int64_t espl_model_calibration_bytes(const espl_model_config *c, const espl_calibration_options *o, espl_range slice,
                                     int rank, int ranks) {
    calibration_dims d = espl_calibration_dims_of(c, o, slice, rank, ranks);
    return espl_calibration_arena_bytes(&d);
}
