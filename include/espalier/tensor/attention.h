/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Causal attention with grouped heads, over cached keys and values, and its backward pass. All functions are Local and
 * use OpenMP inside. [T, C] means T rows (tokens) of C features; query head h reads kv head h / (heads / kv_heads).
 */
#ifndef ESPALIER_TENSOR_ATTENTION_H
#define ESPALIER_TENSOR_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/tensor/workspace.h"

typedef struct espl_attention_shape {
    int64_t heads, kv_heads, head_dim;
    int64_t window; /* query i sees keys j with i - window < j <= i; 0: all j <= i */
    float scale;    /* of scores; 0: 1 / sqrt(head_dim) */
} espl_attention_shape;

/* One sequence's new tokens attending to its cached keys and values. */
typedef struct espl_attention {
    const float *q; /* [T, heads * head_dim], after RoPE */
    float *out;     /* [T, heads * head_dim] */
    const float *k; /* [kv_heads, capacity, head_dim]: row i holds position prefix + i; filled up to pos + T - 1 */
    const float *v; /* like k */
    int64_t T, pos; /* new tokens; position of the first */
    int64_t capacity;
    const float *prefix_k, *prefix_v; /* like k and v: row i holds position i < prefix. Not read when prefix is 0 */
    int64_t prefix;                   /* positions 0 .. prefix - 1 are shared with other sequences; 0: none */
    float *lse; /* [T, heads] or NULL: written with log sum exp of the scaled scores, for the backward pass */
} espl_attention;

/* What multiplies q k^T. */
float espl_attention_scale(const espl_attention_shape *s);

/* out = softmax(scale q k^T, causal and windowed) v for n sequences. Blocked, with an online softmax
 * (Milakov & Gimelshein 2018; Dao et al. 2022). */
void espl_tensor_attention(const espl_attention_shape *s, const espl_attention *seqs, int64_t n, espl_workspace *ws);

/* Copies keys or values x [T, heads * head_dim] of new tokens into a cache [heads, capacity, head_dim]; cache points at
 * the first new position of head 0. */
void espl_tensor_cache_store(const float *x, int64_t T, int64_t heads, int64_t head_dim, float *cache,
                             int64_t capacity);

/* ------------------------------------------------------------- backward */

/* delta [T, heads] = the sum of dout * out over each head: what the gradients of scores are measured from. out, dout
 * [T, heads * head_dim]. */
void espl_tensor_attention_delta(const espl_attention_shape *s, const float *out, const float *dout, int64_t T,
                                 float *delta);

enum { ESPL_ATTENTION_SPAN = 256 }; /* most tokens of a block */
/* One whole sequence: positions 0 .. T - 1, all of them new. dq, dk, dv are written. Ranks can share it in blocks: with
 * parts > 1 block i is that of part i % parts, and of dq, dk and dv only the tokens of the part's blocks are wanted;
 * the others are undefined. Their bits do not depend on the number of parts. */
typedef struct espl_attention_gradient {
    const float *q, *dout; /* [T, heads * head_dim]: queries after RoPE, the gradient of the attention's output */
    const float *k, *v;    /* [kv_heads, capacity, head_dim] */
    const float *lse;      /* [T, heads], of the forward pass */
    const float *delta;    /* [T, heads], of espl_tensor_attention_delta */
    float *dq;             /* [T, heads * head_dim] */
    float *dk, *dv;        /* [T, kv_heads * head_dim] */
    int64_t T, capacity;
    int64_t block; /* tokens of a block, at most ESPL_ATTENTION_SPAN; 0: that */
    int part, parts;
} espl_attention_gradient;

/* Blocked, with recomputed probabilities (Dao et al. 2022, algorithm 4); the heads of a group add to their kv head in a
 * fixed order. The shape must pass espl_attention_backward_fits. */
void espl_tensor_attention_backward(const espl_attention_shape *s, const espl_attention_gradient *a,
                                    espl_workspace *ws);
/* Whether a block of one query with all heads of its group fits a thread's scratch. */
bool espl_attention_backward_fits(const espl_attention_shape *s);

#endif
