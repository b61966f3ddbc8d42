/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the model room: which tokens go to which expert of a layer, and their rows on the way there and back.
 *
 * A pair is a token with one of its experts. Pairs are ordered by expert, then by token, so that the rows of an expert
 * are neighbours and every sum over them has one order.
 */
#ifndef ESPL_MODEL_EXPERTS_H
#define ESPL_MODEL_EXPERTS_H

#include "state.h"

/* Of T tokens; borrowed buffers. */
typedef struct expert_routing {
    float *probs;    /* [T, experts] the router's softmax */
    int32_t *chosen; /* [T, per token] experts */
    float *weights;  /* [T, per token] of the chosen experts' outputs */
    int64_t *slots;  /* [T * per token] the slot of each pair: token * per token + rank among the token's experts */
    int64_t *first;  /* [experts + 1] pairs of expert e: first[e] .. first[e + 1] - 1 */
} expert_routing;

/* Local. How the router of a model chooses. */
espl_route_shape espl_experts_shape(const espl_model_config *c);
/* Local. Routes x [T, hidden], the input of the MLP of a layer. */
void espl_experts_route(const espl_model *m, int64_t local_layer, const float *x, int64_t T, const expert_routing *r);
/* Local. Pairs of an expert. */
static inline int64_t espl_experts_count(const expert_routing *r, int64_t expert) {
    return r->first[expert + 1] - r->first[expert];
}
/* Local. rows [pairs of the expert, hidden] = the rows of x of its tokens; with `weighted` times their weights. */
void espl_experts_gather(const espl_model *m, const expert_routing *r, int64_t expert, bool weighted, const float *x,
                         float *rows);
/* Local. The other way: adds the rows to those of x. */
void espl_experts_scatter(const espl_model *m, const expert_routing *r, int64_t expert, bool weighted,
                          const float *rows, float *x);
/* Local. d_weights of the expert's pairs, by slot: the products of the rows of dy [T, hidden] and of what the expert
 * made, rows [pairs, hidden]. */
void espl_experts_weigh(const espl_model *m, const expert_routing *r, int64_t expert, const float *dy,
                        const float *rows, float *d_weights);

#endif
