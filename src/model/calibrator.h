/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: a calibration under way, its buffers, and one decoder layer forward and backward. */
#ifndef ESPL_MODEL_CALIBRATOR_H
#define ESPL_MODEL_CALIBRATOR_H

#include "espalier/model/calibration.h"
#include "state.h"
#include "team.h"

/* Offsets of a linear of this rank in espl_calibration.squares and output_squares. */
int64_t espl_calibration_at(const espl_calibration *c, int64_t index);
int64_t espl_calibration_output_at(const espl_calibration *c, int64_t index);
/* Gives experts that no token reached the statistics of one token (espl_calibration_reached). Once all passes are done.
 */
void espl_calibration_finish_experts(const espl_model *m, espl_calibration *c);

/* The size table of a calibration on one rank, like ACTIVATION_LIST: X(name, element type, elements). d.T tokens of a
 * window, d.n of them on this rank (team.h), d.C hidden, d.Q query and d.KV key/value features, d.F ffn, d.H heads; d.E
 * experts, d.K of them for a token, d.P tokens of all MLPs of a layer: n, or n K. stream and grad: the residual stream
 * and its gradient, on their way from and to other ranks. saved: inputs of this slice's layers, for each sample between
 * its forward and its backward pass. part_*: statistics of one window, before they are added to the result, in the
 * order of windows; block_squares: of a layer's inputs, for each block of tokens; round: where those of other ranks
 * arrive. part_weights and round_weights: the same for the gradients of one linear's weights. whole*: what a team
 * gathers, and pack, columns, counts: for that. The others serve one layer at a time; attention_raw and mlp_raw: what a
 * layer adds to the residual stream before its norm and scale, branch: after, and its gradient. */
#define CALIBRATION_LIST(X)                                                                                            \
    X(stream0, float, d.n *d.C)                                                                                        \
    X(stream1, float, d.several ? d.n *d.C : 0)                                                                        \
    X(stream2, float, d.several ? d.n *d.C : 0)                                                                        \
    X(grad0, float, d.back ? d.n *d.C : 0)                                                                             \
    X(grad1, float, d.back &&d.several ? d.n *d.C : 0)                                                                 \
    X(grad2, float, d.back &&d.several ? d.n *d.C : 0)                                                                 \
    X(saved, float, d.in_flight *d.layers *d.n *d.C)                                                                   \
    X(normed, float, d.n *d.C)                                                                                         \
    X(q_raw, float, d.back &&d.qk_norm ? d.n *d.Q : 0)                                                                 \
    X(k_raw, float, d.back &&d.qk_norm ? d.n *d.KV : 0)                                                                \
    X(q, float, d.n *d.Q)                                                                                              \
    X(k, float, d.n *d.KV)                                                                                             \
    X(v, float, d.n *d.KV)                                                                                             \
    X(k_heads, float, d.T *d.KV)                                                                                       \
    X(v_heads, float, d.T *d.KV)                                                                                       \
    X(sequences, espl_attention, d.blocks)                                                                             \
    X(attended, float, d.n *d.Q)                                                                                       \
    X(lse, float, d.n *d.H)                                                                                            \
    X(attention_raw, float, d.branches ? d.n *d.C : 0)                                                                 \
    X(mlp_raw, float, d.branches || d.E ? d.n * d.C : 0)                                                               \
    X(branch, float, d.branches ? d.n *d.C : 0)                                                                        \
    X(middle, float, d.back ? d.n *d.C : 0)                                                                            \
    X(middle_normed, float, d.n *d.C)                                                                                  \
    X(gate, float, d.P *d.F)                                                                                           \
    X(up, float, d.P *d.F)                                                                                             \
    X(product, float, d.P *d.F)                                                                                        \
    X(expert_in, float, d.E ? d.P *d.C : 0)                                                                            \
    X(expert_out, float, d.E ? d.n *d.C : 0)                                                                           \
    X(route_probs, float, d.n *d.E)                                                                                    \
    X(route_chosen, int32_t, d.n *d.K)                                                                                 \
    X(route_weights, float, d.n *d.K)                                                                                  \
    X(route_slots, int64_t, d.n *d.K)                                                                                  \
    X(route_first, int64_t, d.E ? d.E + 1 : 0)                                                                         \
    X(d_route, float, d.back ? d.n *d.E : 0)                                                                           \
    X(d_weights, float, d.back ? d.n *d.K : 0)                                                                         \
    X(d_normed, float, d.back ? d.n *d.C : 0)                                                                          \
    X(d_attended, float, d.back ? d.n *d.Q : 0)                                                                        \
    X(d_q, float, d.back ? d.n *d.Q : 0)                                                                               \
    X(delta, float, d.back ? d.n *d.H : 0)                                                                             \
    X(partial, double, d.back ? d.partial : 0)                                                                         \
    X(head, float, d.back ? d.head : 0)                                                                                \
    X(logprob, double, d.back &&d.last ? d.T : 0)                                                                      \
    X(part_squares, double, d.layers *d.stride)                                                                        \
    X(part_outputs, double, d.layers *d.output_stride)                                                                 \
    X(part_gradients, double, d.layers *d.linears)                                                                     \
    X(block_squares, double, d.blocks *d.block_stride)                                                                 \
    X(block_losses, double, d.back &&d.last ? d.blocks : 0)                                                            \
    X(round, double, d.replicas > 1 ? d.layers * (d.stride + d.output_stride + d.linears) + d.replicas : 0)            \
    X(part_weights, float, d.weights)                                                                                  \
    X(round_weights, float, d.weights > 0 ? d.weights + d.replicas : 0)                                                \
    X(whole_k, float, d.parts > 1 ? d.T * d.KV : 0)                                                                    \
    X(whole_v, float, d.parts > 1 ? d.T * d.KV : 0)                                                                    \
    X(whole0, float, d.parts > 1 && d.back ? d.T * d.wide : 0)                                                         \
    X(whole1, float, d.parts > 1 && d.back ? d.T * d.cut : 0)                                                          \
    X(whole_dq, float, d.parts > 1 && d.back ? d.T * d.Q : 0)                                                          \
    X(whole_lse, float, d.parts > 1 && d.back ? d.T * d.H : 0)                                                         \
    X(whole_delta, float, d.parts > 1 && d.back ? d.T * d.H : 0)                                                       \
    X(pack, float, d.parts > 1 && d.back ? d.n * d.pack : 0)                                                           \
    X(columns, espl_range, d.parts)                                                                                    \
    X(counts, int64_t, 4 * d.parts)                                                                                    \
    X(targets, int32_t, d.T)                                                                                           \
    X(positions, int64_t, d.n)

typedef struct calibration_dims {
    int64_t T, n, C, Q, KV, F, H, E, K, P;
    int64_t layers, in_flight;              /* of the slice; samples between forward and backward */
    int64_t partial, head;                  /* scratch of the gradient sums and of the head */
    bool back, several, last;               /* there is a backward pass; several ranks; this rank holds the head */
    int64_t stride, output_stride, linears; /* of a layer's statistics */
    int64_t block_stride;                   /* of those of them that are sums over blocks of tokens */
    int64_t replicas;                       /* that share the windows */
    int64_t parts, blocks;                  /* ranks that share one window; blocks of it on this rank */
    int64_t wide, cut, pack; /* features of what a team gathers, of some columns, and on their way there */
    int64_t weights;         /* of the largest linear, if replicas share their gradients */
    bool qk_norm, branches;  /* queries and keys are normed; layers do not add plainly (layer.h) */
} calibration_dims;

typedef struct calibration_buffers {
#define X(name, type, n) type *name;
    CALIBRATION_LIST(X)
#undef X
} calibration_buffers;

typedef struct calibrator {
    espl_model *m;
    const espl_calibration_options *o;
    const int32_t *ids;    /* [windows, T] */
    const espl_grid *grid; /* replicas share the windows; NULL: of a block, whose caller sums */
    window_team team;      /* with whom this rank shares a window; the buffers hold its rows of it */
    int contributors;      /* of the pass under way */
    calibration_dims d;
    calibration_buffers b;
    espl_arena *arena;
    espl_calibration *out;
    float *const *gradient_squares;                        /* [slice linears], or NULL: sums of |dL/dW| go to out */
    espl_transfer sends[2][STREAMS], receives[2][STREAMS]; /* [0] forward, [1] backward */
} calibrator;

/* ---------------------------------------------------------------- buffers */

/* Local. How many ranks of this grid share a window: those of a team, if the calibration can be shared so. Not where
 * the gradient of each weight is wanted, of which every replica forms all, nor for a teacher's states or experts. */
int espl_calibration_parts(const espl_model_config *c, const espl_calibration_options *o, const espl_grid *g);
/* Local. Of the rank at g->stage. */
calibration_dims espl_calibration_dims_of(const espl_model_config *c, const espl_calibration_options *o,
                                          espl_range slice, const espl_grid *g);
int64_t espl_calibration_arena_bytes(const calibration_dims *d);
/* Local. Creates the arena of these dims and carves `b` out of it; positions are those of the team's rows on this rank.
 * ESPL_NOMEM. Free the arena. */
espl_status espl_calibration_buffers_create(const calibration_dims *d, const window_team *team, espl_arena **arena,
                                            calibration_buffers *b);
/* Local. ESPL_UNSUPPORTED if the kernels have no backward pass for the model's heads. */
espl_status espl_calibration_check_backward(const espl_model *m);

/* ------------------------------------------------- one layer
 *
 * Collective over the team, and Local where it is one rank. x, dy: the rows of this rank. */

/* Runs x [rows, hidden] through a layer, in place; `count`: adds the squares of every linear's input to the result. */
void espl_calibrate_layer_forward(calibrator *c, int64_t local_layer, float *x, bool count);
/* The same up to the input of down_proj: x becomes the residual stream between attention and MLP, and the inputs of all
 * linears are in the buffers normed and attended and in those of espl_calibrate_mlp. */
void espl_calibrate_trace(calibrator *c, int64_t local_layer, float *x);
/* Its parts. x [T, hidden] is the stream before attention: fills normed and, unless input_only, attended. */
void espl_calibrate_attention(calibrator *c, int64_t local_layer, const float *x, bool input_only);
/* x += what o_proj makes of attended. */
void espl_calibrate_add_attention(calibrator *c, int64_t local_layer, float *x);
/* x is the stream between attention and MLP: fills the inputs of gate_proj and up_proj and, unless input_only, those of
 * down_proj. */
void espl_calibrate_feed(calibrator *c, int64_t local_layer, const float *x, bool input_only);
/* x += what the MLP, or the experts, make of them. */
void espl_calibrate_add_feed(calibrator *c, int64_t local_layer, float *x);
/* What an MLP of the layer that was traced last has seen and made: all tokens, or those of an expert; in [n, hidden],
 * the others [n, ffn]. */
typedef struct mlp_rows {
    int64_t n;
    float *in, *gate, *up, *product;
} mlp_rows;
mlp_rows espl_calibrate_mlp(const calibrator *c, int64_t mlp);
/* x: the layer's input. dy [rows, hidden], the gradient of its output, becomes that of its input. Adds to the sums of
 * |dL/dW|, or of its squares. */
void espl_calibrate_layer_backward(calibrator *c, int64_t local_layer, const float *x, float *dy);
/* What espl_calibrate_layer_backward exchanges with other replicas, of a replica that has no window in the round. */
void espl_calibrate_layer_absent(calibrator *c, int64_t local_layer);
/* Last rank: the final norm's output of forward window i, whose last layer's output is x, into o->final_states. */
void espl_calibrate_final_states(calibrator *c, int64_t i, const float *x);
/* Final norm, head and loss of sample i: dx [rows, hidden] = gradient of the last layer's output x. */
void espl_calibrate_head(calibrator *c, int64_t i, const float *x, float *dx);

#endif
