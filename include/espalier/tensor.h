/*
 * tensor: dtypes, matrix views and the numeric kernels. f32 compute over weights that stay in their source dtype.
 * All functions are Local; OpenMP inside. Matrices are row-major; [T, C] means T rows (tokens) of C features.
 *
 * Determinism: work is cut into tiles by shape alone, never by the number of threads, and every sum runs in a fixed
 * order inside one tile. The same call gives the same bits on any number of threads.
 */
#ifndef ESPALIER_TENSOR_H
#define ESPALIER_TENSOR_H

#include "espalier/base.h"
#include "espalier/tensor/mask.h"

/* X(name, bytes per element, name in safetensors headers) */
#define ESPL_DTYPE_LIST(X)                                                                                             \
    X(F32, 4, "F32")                                                                                                   \
    X(F16, 2, "F16")                                                                                                   \
    X(BF16, 2, "BF16")                                                                                                 \
    X(I32, 4, "I32")                                                                                                   \
    X(I64, 8, "I64")                                                                                                   \
    X(U8, 1, "U8")

typedef enum espl_dtype {
#define X(name, size, label) ESPL_DTYPE_##name,
    ESPL_DTYPE_LIST(X)
#undef X
        ESPL_DTYPE_COUNT
} espl_dtype;

size_t espl_dtype_size(espl_dtype d);      /* bytes per element */
const char *espl_dtype_name(espl_dtype d); /* "BF16" */
bool espl_dtype_parse(const char *name, espl_dtype *out);
bool espl_dtype_is_float(espl_dtype d);

/* n elements of dtype d (a float dtype) at src, widened to f32. src may be unaligned. */
void espl_tensor_widen(const void *src, espl_dtype d, int64_t n, float *dst);
/* n f32 elements rounded to nearest even into dtype d (a float dtype) at dst. dst may be unaligned. */
void espl_tensor_narrow(const float *src, int64_t n, espl_dtype d, void *dst);

/* ------------------------------------------------------------- threads */

/* Scratch memory of the kernels, one piece per OpenMP thread. Not shared between two concurrent calls. */
typedef struct espl_workspace espl_workspace;
espl_status espl_workspace_create(espl_workspace **out);
/* Bytes that espl_workspace_create takes for this many threads. */
int64_t espl_workspace_bytes(int threads);
void espl_workspace_destroy(espl_workspace **w);
/* The calling OpenMP thread's scratch for work outside the kernels, ESPL_WORKSPACE_SCRATCH bytes, 64-byte aligned, its
 * content undefined. Kernels called with the same workspace overwrite it. Borrowed. */
enum { ESPL_WORKSPACE_SCRATCH = 1 << 20 };
void *espl_workspace_scratch(espl_workspace *ws);

int espl_tensor_threads(void); /* OpenMP threads a kernel will use */
int espl_tensor_thread(void);  /* the calling one of them, from 0 */
/* "Cooperlake, OpenMP": the OpenBLAS core and flavour in use. Borrowed. Also makes a pthread flavour single-threaded,
 * since our own tiles carry the parallelism: call it once at start. */
const char *espl_tensor_blas_init(void);

/* -------------------------------------------------------------- linear */

/* One linear layer: y = x W^T + bias. The mask is the pruned model: 1 bit per weight, a row padded to whole 64-bit
 * words, weight (r, c) at bit c % 64 of word r * espl_mask_words(in) + c / 64; a clear bit reads as weight 0. */
typedef struct espl_linear {
    const void *weight; /* [out, in] of dtype, row-major, any alignment; borrowed */
    espl_dtype dtype;   /* F32, F16 or BF16 */
    int64_t out, in;
    const uint64_t *mask; /* [out, espl_mask_words(in)] or NULL: dense; borrowed */
    const float *bias;    /* [out] or NULL; borrowed */
} espl_linear;

/* y[i] = x W_i^T + b_i for n linears that share their input x [T, in]; y[i] is [T, out_i]. With `accumulate` the
 * product is added to what y[i] holds (a residual connection). */
void espl_tensor_linear(const espl_linear *linears, int n, const float *x, int64_t T, float *const *y, bool accumulate,
                        espl_workspace *ws);

/* Log-probabilities of the target tokens under softmax(x W^T), never holding [T, vocab]:
 * logprob[t] = logit(target[t]) - logsumexp(logits); rows with target[t] < 0 get 0. x [T, in], target [T],
 * logprob [T] (natural log, double). partial is scratch of espl_head_partial_floats(head, T) floats. */
void espl_tensor_logprob(const espl_linear *head, const float *x, int64_t T, const int32_t *target, double *logprob,
                         float *partial, espl_workspace *ws);
int64_t espl_head_partial_floats(const espl_linear *head, int64_t T);

/* ----------------------------------------------------------- attention */

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

typedef struct espl_attention_shape {
    int64_t heads, kv_heads, head_dim;
    int64_t window; /* query i sees keys j with i - window < j <= i; 0: all j <= i */
} espl_attention_shape;

/* out = softmax(q k^T / sqrt(head_dim), causal and windowed) v for n sequences. Blocked, online softmax
 * (Milakov & Gimelshein 2018; Dao et al. 2022); query head h reads kv head h / (heads / kv_heads). */
void espl_tensor_attention(const espl_attention_shape *s, const espl_attention *seqs, int64_t n, espl_workspace *ws);

/* Keys or values x [T, heads * head_dim] of new tokens into a cache [heads, capacity, head_dim]; cache points at the
 * first new position of head 0. */
void espl_tensor_cache_store(const float *x, int64_t T, int64_t heads, int64_t head_dim, float *cache,
                             int64_t capacity);

/* -------------------------------------------------------- element-wise */

/* y[t] = x[t] * rsqrt(mean(x[t]^2) + eps) * weight (Zhang & Sennrich 2019; HF LlamaRMSNorm). x, y [T, C], y may be x.
 */
void espl_tensor_rmsnorm(const float *x, const float *weight, int64_t T, int64_t C, float eps, float *y);

/* Rotary embedding tables. */
typedef struct espl_rope {
    float *cos, *sin; /* [positions, head_dim / 2] */
    int64_t head_dim;
} espl_rope;

/* In place on x [T, ld], the first heads * head_dim columns of each row: optional RMSNorm of each head with
 * norm [head_dim] (Qwen3's QK-norm, before RoPE; NULL for none), then RoPE in HF's half-split pairing
 * (j, j + head_dim/2) at position pos[t]. */
void espl_tensor_norm_rope(float *x, int64_t T, int64_t ld, int64_t heads, const float *norm, float eps,
                           const espl_rope *rope, const int64_t *pos);

/* gate = silu(gate) * up, both n floats. */
void espl_tensor_swiglu(float *gate, const float *up, int64_t n);

/* x[t] = the table's row ids[t], widened; table [rows, C] of dtype d. ids in range. */
void espl_tensor_embed(const void *table, espl_dtype d, int64_t C, const int32_t *ids, int64_t T, float *x);

/* ------------------------------------------------------------- backward
 *
 * dx stands for dL/dx. No gradient of a weight is ever held; only what the pruning needs of it is computed. */

/* dx [T, in] (+)= sum over i of dy[i] W_i for n linears that share their input; dy[i] is [T, out_i]. */
void espl_tensor_linear_backward(const espl_linear *linears, int n, const float *const *dy, int64_t T, float *dx,
                                 bool accumulate, espl_workspace *ws);

/* sums[i] = sum over the surviving weights of |dL/dW_i|, dL/dW_i = dy[i]^T x, formed tile by tile and summed in double
 * in tile order. x [T, in]; partial is scratch of espl_gradient_partials(linears, n) doubles. */
void espl_tensor_gradient_sums(const espl_linear *linears, int n, const float *x, const float *const *dy, int64_t T,
                               double *partial, double *sums, espl_workspace *ws);
int64_t espl_gradient_partials(const espl_linear *linears, int n);

/* squares [out, in] += (dy^T x)^2, the square of one sample's dL/dW; a weight that is masked away counts like the
 * others. x [T, in], dy [T, out]. */
void espl_tensor_gradient_squares(const espl_linear *l, const float *x, const float *dy, int64_t T, float *squares,
                                  espl_workspace *ws);

/* One whole sequence: positions 0 .. T - 1, all of them new. */
typedef struct espl_attention_gradient {
    const float *q, *out, *dout; /* [T, heads * head_dim]: queries after RoPE, the attention's output, its gradient */
    const float *k, *v;          /* [kv_heads, capacity, head_dim] */
    const float *lse;            /* [T, heads], of the forward pass */
    float *delta;                /* [T, heads], scratch */
    float *dq;                   /* [T, heads * head_dim] */
    float *dk, *dv;              /* [T, kv_heads * head_dim] */
    int64_t T, capacity;
} espl_attention_gradient;

/* Blocked, with recomputed probabilities (Dao et al. 2022, algorithm 4); the heads of a group add to their kv head in a
 * fixed order. */
void espl_tensor_attention_backward(const espl_attention_shape *s, const espl_attention_gradient *a,
                                    espl_workspace *ws);
/* Does a block of one query with all heads of its group fit the scratch? */
bool espl_attention_backward_fits(const espl_attention_shape *s);

/* Cross entropy through the head: logprob [T] as espl_tensor_logprob, and
 * dx[t] = scale * (softmax(x[t] W^T) - onehot(target[t])) W, 0 where target[t] < 0. x, dx [T, in]. The vocabulary
 * passes twice, in pieces; buffer is scratch of espl_head_backward_floats(head, T) floats. */
void espl_tensor_head_backward(const espl_linear *head, const float *x, int64_t T, const int32_t *target, float scale,
                               double *logprob, float *dx, float *buffer, espl_workspace *ws);
int64_t espl_head_backward_floats(const espl_linear *head, int64_t T);

/* dx += the gradient of espl_tensor_rmsnorm's x, given its input x [T, C] and dy [T, C]. */
void espl_tensor_rmsnorm_backward(const float *x, const float *weight, const float *dy, int64_t T, int64_t C, float eps,
                                  float *dx);

/* In place on dx [T, heads * head_dim]: back through espl_tensor_norm_rope. x: its input, read only with `norm`. */
void espl_tensor_norm_rope_backward(const float *x, float *dx, int64_t T, int64_t heads, const float *norm, float eps,
                                    const espl_rope *rope, const int64_t *pos);

/* out = silu(gate) * up, keeping both. n floats each. */
void espl_tensor_swiglu_to(const float *gate, const float *up, int64_t n, float *out);
/* gate and up become their gradients, given dy of silu(gate) * up. */
void espl_tensor_swiglu_backward(float *gate, float *up, const float *dy, int64_t n);

/* ----------------------------------------------------------- statistics */

/* sums[c] += sum over t of x[t][c]^2, token after token in double. x [T, C], sums [C]. */
void espl_tensor_square_sums(const float *x, int64_t T, int64_t C, double *sums);

/* gram [C, C] += x^T x, the lower triangle (columns up to the row's number) only. x [T, C]. */
void espl_tensor_gram(const float *x, int64_t T, int64_t C, float *gram);

/* Weights whose mask bit is set. */
int64_t espl_tensor_surviving(const espl_linear *l);

/* The k-th smallest (from 0), k = floor(fraction * (n - 1)), of the scores |W| * norm (float) over the n surviving
 * weights; NAN if none survives. Exact, and without a copy of the scores. norm [in], >= 0; fraction in [0, 1]. */
espl_status espl_tensor_score_quantile(const espl_linear *l, const float *norm, double fraction, double *out,
                                       espl_workspace *ws);

/* curve[k] = sum over rows r of importance[r] * (sum of the (k + 1) in / levels smallest (W_rc norm_c)^2 of row r), of
 * the dense weights whatever the mask: what pruning every row to sparsity (k + 1) / levels by |W| * norm takes away.
 * Of more than 128 rows, 128 evenly spaced ones speak for all. norm [in], importance [out], >= 0; curve [levels].
 * ESPL_UNSUPPORTED: more than 131072 inputs. */
espl_status espl_tensor_removal_curve(const espl_linear *l, const float *norm, const double *importance, int64_t levels,
                                      double *curve, espl_workspace *ws);

#endif
