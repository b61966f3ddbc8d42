/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear layers: forward, backward, and the head (logits over the vocabulary, which are never held as a whole). Weights
 * stay in their source dtype; kernels widen tiles of them to f32. All functions are Local and use OpenMP inside.
 * Matrices are row-major; [T, C] means T rows (tokens) of C features. dx stands for dL/dx.
 */
#ifndef ESPALIER_TENSOR_LINEAR_H
#define ESPALIER_TENSOR_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/tensor/dtype.h"
#include "espalier/tensor/mask.h"
#include "espalier/tensor/workspace.h"

/* One linear layer: y = x W^T + bias. The mask is what pruning changes: a clear bit reads as weight 0. */
typedef struct espl_linear {
    const void *weight; /* [out, in] of dtype, row-major, any alignment; borrowed */
    espl_dtype dtype;   /* F32, F16 or BF16 */
    int64_t out, in;
    const uint64_t *mask; /* [out, espl_mask_words(in)] or NULL: dense; borrowed */
    const float *bias;    /* [out] or NULL; borrowed */
} espl_linear;

/* Number of weights that the mask leaves. */
static inline int64_t espl_linear_survivors(const espl_linear *l) {
    return l->mask ? espl_mask_count(l->mask, l->out, l->in) : l->out * l->in;
}

/* y[i] = x W_i^T + b_i for n <= 8 linears that share their input x [T, in]; y[i] is [T, out_i]. With `accumulate` the
 * product is added to y[i] (a residual connection). */
void espl_tensor_linear(const espl_linear *linears, int n, const float *x, int64_t T, float *const *y, bool accumulate,
                        espl_workspace *ws);

/* Tokens can be computed in blocks, by different ranks: the bits of a token's results depend on the number of tokens of
 * the whole, T, and on the tokens of its block, not on which blocks are computed together. A block has
 * espl_tensor_block(T) tokens, the last one what is left. The functions ending in _blocks take the `rows` tokens of
 * some of the blocks of T tokens, in their order; all blocks at once are the same as the function without the ending.
 */
int64_t espl_tensor_block(int64_t T);
void espl_tensor_linear_blocks(const espl_linear *linears, int n, const float *x, int64_t rows, int64_t T,
                               float *const *y, bool accumulate, espl_workspace *ws);
void espl_tensor_linear_backward_blocks(const espl_linear *linears, int n, const float *const *dy, int64_t rows,
                                        int64_t T, float *dx, bool accumulate, espl_workspace *ws);

/* dx [T, in] (+)= sum over i of dy[i] W_i for n linears that share their input; dy[i] is [T, out_i]. */
void espl_tensor_linear_backward(const espl_linear *linears, int n, const float *const *dy, int64_t T, float *dx,
                                 bool accumulate, espl_workspace *ws);

/* ------------------------------------------------------ weight gradients
 *
 * dL/dW_i = dy[i]^T x is never held as a whole: a tile of it is formed, reduced to what pruning needs, and dropped. */

/* sums[i] = sum over the surviving weights of |dL/dW_i|, in double, in tile order. x [T, in]; dy[i] [T, out_i]; partial
 * is scratch of espl_gradient_partials(linears, n) doubles. */
void espl_tensor_gradient_sums(const espl_linear *linears, int n, const float *x, const float *const *dy, int64_t T,
                               double *partial, double *sums, espl_workspace *ws);
int64_t espl_gradient_partials(const espl_linear *linears, int n);

/* The same in parts, by different ranks. A block of a linear's weights: `rows` outputs from r0 on, `columns` inputs
 * from c0 on. espl_gradient_part cuts the weights of n linears into nearly equal parts at the borders of tiles, by
 * inputs
 * (`by_columns`) or by outputs; blocks [n]: what part `part` has of each, which may be empty. */
typedef struct espl_weight_block {
    int64_t r0, c0, rows, columns;
} espl_weight_block;
void espl_gradient_part(const espl_linear *linears, int n, bool by_columns, int parts, int part,
                        espl_weight_block *blocks);
/* partial [espl_gradient_partials(linears, n)] = the sums of the tiles that lie in the blocks [n], and 0 for the
 * others. x [T, columns] are the blocks' inputs, the same for all n linears; dy[i] [T, rows] the outputs of block i. */
void espl_tensor_gradient_partials(const espl_linear *linears, int n, const espl_weight_block *blocks, const float *x,
                                   const float *const *dy, int64_t T, double *partial, espl_workspace *ws);
/* sums [n] of partial sums that are complete, in tile order. */
void espl_gradient_add_partials(const espl_linear *linears, int n, const double *partial, double *sums);

/* How long `threads` threads take for these, in multiplications of the one that takes longest, if they take units of
 * work in order: the forward pass and dx of `rows` of T tokens, and the tiles in the blocks [n] of the weights'
 * gradients. What the units are follows from shapes, so this tells how far a kernel can use threads and ranks. */
double espl_linear_elapsed(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads);
double espl_linear_backward_elapsed(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads);
double espl_gradient_elapsed(const espl_linear *linears, int n, const espl_weight_block *blocks, int64_t T,
                             int64_t threads);

/* squares [out, in] += (dy^T x)^2, the square of one sample's dL/dW. Pruned weights count like the others. x [T, in],
 * dy [T, out]. */
void espl_tensor_gradient_squares(const espl_linear *l, const float *x, const float *dy, int64_t T, float *squares,
                                  espl_workspace *ws);

/* gradient [out, in] += dy^T x, the gradient of all weights, pruned ones too. x [T, in], dy [T, out]. */
void espl_tensor_gradient_add(const espl_linear *l, const float *x, const float *dy, int64_t T, float *gradient,
                              espl_workspace *ws);

/* ---------------------------------------------------------------- head */

/* Log-probabilities of the target tokens under softmax(x W^T), in natural log and double:
 * logprob[t] = logit(target[t]) - logsumexp(logits), and 0 where target[t] < 0. x [T, in], target and logprob [T].
 * partial is scratch of espl_head_partial_floats(head, T) floats. */
void espl_tensor_logprob(const espl_linear *head, const float *x, int64_t T, const int32_t *target, double *logprob,
                         float *partial, espl_workspace *ws);
int64_t espl_head_partial_floats(const espl_linear *head, int64_t T);

/* Cross entropy through the head and its gradient: logprob [T] as espl_tensor_logprob (by other tiles: not the same
 * bits), and dx[t] = scale * (softmax(x[t] W^T) - onehot(target[t])) W, 0 where target[t] < 0. x, dx [T, in]. Computes
 * the logits twice, in pieces of the vocabulary; buffer is scratch of espl_head_backward_floats(head, T) floats. The
 * second function takes the `rows` tokens of some of the blocks of T tokens. */
void espl_tensor_head_backward(const espl_linear *head, const float *x, int64_t T, const int32_t *target, float scale,
                               double *logprob, float *dx, float *buffer, espl_workspace *ws);
void espl_tensor_head_backward_blocks(const espl_linear *head, const float *x, int64_t rows, int64_t T,
                                      const int32_t *target, float scale, double *logprob, float *dx, float *buffer,
                                      espl_workspace *ws);
enum { ESPL_HEAD_PIECE = 2048 }; /* rows of the head at a time */
int64_t espl_head_backward_floats(const espl_linear *head, int64_t T);

/* Divergence from a teacher's predictions, and its gradient: with p = softmax(teacher W^T) and q = softmax(x W^T),
 * divergence[t] = KL(p || q) in nats and double, dx[t] = scale * (q - p) W for t < n, and 0 for n <= t < T. x, teacher,
 * dx [T, in]; buffer is scratch of espl_head_distill_floats(head, T) floats. */
void espl_tensor_head_distill(const espl_linear *head, const float *x, const float *teacher, int64_t T, int64_t n,
                              float scale, double *divergence, float *dx, float *buffer, espl_workspace *ws);
int64_t espl_head_distill_floats(const espl_linear *head, int64_t T);

enum { ESPL_CHOICES_MAX = 8 };
/* The same among n <= ESPL_CHOICES_MAX ids alone, as for the letters of a multiple-choice question: logprob[t] =
 * logit(target[t]) - logsumexp over the choices, 0 where target[t] < 0; a target must be one of the choices. dx is as
 * in espl_tensor_head_backward, or NULL: no gradient. A token's bits depend on nothing but the token. */
void espl_tensor_choices(const espl_linear *head, const float *x, int64_t T, const int32_t *target,
                         const int32_t *choices, int64_t n, float scale, double *logprob, float *dx,
                         espl_workspace *ws);

#endif
