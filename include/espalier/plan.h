/*
 * plan: plain data that rooms and ranks share. No behaviour beyond naming and counting. All functions are Local.
 */
#ifndef ESPALIER_PLAN_H
#define ESPALIER_PLAN_H

#include "espalier/base.h"

/* Decoder layers first .. last - 1. */
typedef struct espl_range {
    int64_t first, last;
} espl_range;

static inline int64_t espl_range_count(espl_range r) { return r.last - r.first; }

/* The linear layers of a decoder layer, in the order of Hugging Face's modules. X(name, path inside the layer) */
#define ESPL_LINEAR_LIST(X)                                                                                            \
    X(Q_PROJ, "self_attn.q_proj")                                                                                      \
    X(K_PROJ, "self_attn.k_proj")                                                                                      \
    X(V_PROJ, "self_attn.v_proj")                                                                                      \
    X(O_PROJ, "self_attn.o_proj")                                                                                      \
    X(GATE_PROJ, "mlp.gate_proj")                                                                                      \
    X(UP_PROJ, "mlp.up_proj")                                                                                          \
    X(DOWN_PROJ, "mlp.down_proj")

typedef enum espl_linear_kind {
#define X(name, path) ESPL_##name,
    ESPL_LINEAR_LIST(X)
#undef X
        ESPL_LINEAR_KINDS
} espl_linear_kind;

/* "self_attn.q_proj". Static storage. */
const char *espl_linear_path(espl_linear_kind kind);

/* Cuts n layers of the given costs (any unit, > 0) into `ranks` consecutive, non-empty slices whose largest cost is
 * smallest; the last slice also carries tail_cost (the head). Among equally good cuts the earliest boundaries win, so
 * the answer is the same everywhere. slices [ranks]. ESPL_CONFIG if there are more ranks than layers. */
espl_status espl_plan_partition(const double *cost, int64_t n, double tail_cost, int ranks, espl_range *slices);

#endif
