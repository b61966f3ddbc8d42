/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of experts for each token, from a router's logits, and its backward pass. All functions are Local and use
 * OpenMP inside. Matrices are row-major; [T, E] means T tokens and E experts.
 */
#ifndef ESPALIER_TENSOR_ROUTE_H
#define ESPALIER_TENSOR_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

/* How a router chooses. */
typedef struct espl_route_shape {
    int64_t experts, per_token; /* per_token: 1 .. experts */
    bool normed;                /* the weights of the chosen experts are scaled to add up to 1 */
} espl_route_shape;

/* probs [T, E] are logits and become their softmax. chosen [T, per_token]: the experts with the largest ones, the
 * largest first, of equals the lower number first. weights [T, per_token]: theirs. */
void espl_tensor_route(const espl_route_shape *s, float *probs, int64_t T, int32_t *chosen, float *weights);
/* d_logits [T, E] from d_weights [T, per_token], given what espl_tensor_route made of the logits. The choice itself has
 * no gradient. */
void espl_tensor_route_backward(const espl_route_shape *s, const float *probs, const int32_t *chosen,
                                const float *d_weights, int64_t T, float *d_logits);

#endif
