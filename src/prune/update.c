/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New weights for a mask that is given (update.h). Rows are independent of each other: a thread takes a tile of rows
 * through all of it, so that almost all time goes into products of the tile with A or D.
 */
#include "espalier/prune/update.h"

#include <cblas.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "internal.h"

enum { TILE_ROWS = 64, TILE_ARRAYS = 4 };

/* A tile of rows: what a thread works on. Arrays are [rows, in]. */
typedef struct row_tile {
    const espl_linear *l;
    const espl_moments *of;
    int64_t first, rows, in;
    float *w;         /* the source's weights */
    float *a, *b, *c; /* free */
} row_tile;

int64_t espl_update_bytes(int64_t in) {
    return espl_tensor_threads() * TILE_ARRAYS * TILE_ROWS * in * (int64_t)sizeof(float);
}

static espl_status tiles_take(int64_t in, float **arrays) {
    return espl_mem_alloc(arrays, espl_tensor_threads(), (size_t)(TILE_ARRAYS * TILE_ROWS * in) * sizeof **arrays,
                          "rows of weights");
}

/* The tile that begins with row `first`, in the calling thread's arrays. */
static row_tile tile_of(const espl_linear *l, const espl_moments *of, int64_t first, float *arrays) {
    int64_t floats = TILE_ROWS * l->in;
    float *mine = arrays + espl_tensor_thread() * TILE_ARRAYS * floats;
    row_tile t = {.l = l, .of = of, .first = first, .rows = espl_min_i64(TILE_ROWS, l->out - first), .in = l->in};
    t.w = mine;
    t.a = mine + floats;
    t.b = mine + 2 * floats;
    t.c = mine + 3 * floats;
    espl_prune_widen(l, first, 0, t.rows * t.in, t.w);
    return t;
}

/* to = scale * x matrix + keep * to, for x and to [rows, in] and matrix [in, in]. */
static void tile_multiply(const row_tile *t, float scale, const float *x, const float *matrix, float keep, float *to) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)t->rows, (int)t->in, (int)t->in, scale, x, (int)t->in,
                matrix, (int)t->in, keep, to, (int)t->in);
}

/* x = 0 where the mask prunes. */
static void tile_mask(const row_tile *t, float *x) {
    int64_t words = espl_mask_words(t->in);
    for (int64_t r = 0; t->l->mask && r < t->rows; r++) {
        const uint64_t *row = t->l->mask + (t->first + r) * words;
        for (int64_t c = 0; c < t->in; c++)
            if (!espl_mask_row_get(row, c)) x[r * t->in + c] = 0;
    }
}

/* ------------------------------------------------------------------- shift */

espl_status espl_update_shift(const espl_linear *l, const espl_moments *of, const float *factor, float *weight) {
    float *arrays;
    ESPL_TRY(tiles_take(l->in, &arrays));
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t first = 0; first < l->out; first += TILE_ROWS) {
        row_tile t = tile_of(l, of, first, arrays);
        float *v = weight + first * t.in;
        if (of->drift) {
            tile_multiply(&t, 1, t.w, of->drift, 0, v);
            cblas_strmm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, (int)t.rows, (int)t.in, 1.0f,
                        factor, (int)t.in, v, (int)t.in);
            cblas_strmm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, (int)t.rows, (int)t.in, 1.0f,
                        factor, (int)t.in, v, (int)t.in);
            for (int64_t i = 0; i < t.rows * t.in; i++) v[i] += t.w[i];
        } else {
            memcpy(v, t.w, (size_t)(t.rows * t.in) * sizeof *v);
        }
    }
    espl_mem_free(&arrays);
    return ESPL_OK;
}

double espl_update_shift_flops(int64_t out, int64_t in) { return 4 * (double)out * (double)in * (double)in; }

/* ------------------------------------------------------------- reconstruct */

/* One row of conjugate gradients: arrays of [in]. The preconditioner is the diagonal of A + damping I. */
typedef struct row_search {
    const float *gram; /* A */
    float damping;
    int64_t in;
    float *v, *residual, *direction;
    const float *product; /* the direction's with A + damping I, 0 where the mask prunes */
} row_search;

/* Begins with direction = the preconditioned residual. Returns the squared norm of the residual: that of the
 * preconditioner's inverse. */
static double row_begin(const row_search *s) {
    double norm = 0;
    for (int64_t c = 0; c < s->in; c++) {
        s->direction[c] = s->residual[c] / (s->gram[c * s->in + c] + s->damping);
        norm += (double)s->residual[c] * (double)s->direction[c];
    }
    return norm;
}

/* A step along the direction, and the next one. Returns the norm, or 0 if no step lowers the error any more. */
static double row_step(const row_search *s, double norm) {
    double curvature = 0, next = 0;
    for (int64_t c = 0; c < s->in; c++) curvature += (double)s->direction[c] * (double)s->product[c];
    if (!(curvature > 0)) return 0;
    float length = (float)(norm / curvature);
    for (int64_t c = 0; c < s->in; c++) {
        s->v[c] += length * s->direction[c];
        s->residual[c] -= length * s->product[c];
        next += (double)s->residual[c] * (double)s->residual[c] / (double)(s->gram[c * s->in + c] + s->damping);
    }
    float keep = (float)(next / norm);
    for (int64_t c = 0; c < s->in; c++)
        s->direction[c] = s->residual[c] / (s->gram[c * s->in + c] + s->damping) + keep * s->direction[c];
    return next;
}

/* v [rows, in] of the tile = the minimum near the prior's weights. */
static void tile_reconstruct(const row_tile *t, const espl_linear *prior, float damping, double least, float *v) {
    double norm[TILE_ROWS], first[TILE_ROWS];
    int64_t in = t->in, n = t->rows * in, open = t->rows;
    float *residual = t->a, *direction = t->b, *product = t->c;
    row_search s = {.gram = t->of->gram, .damping = damping, .in = in};
    espl_prune_widen(prior, t->first, 0, n, v);
    tile_mask(t, v);
    for (int64_t i = 0; i < n; i++) direction[i] = t->w[i] - v[i];
    tile_multiply(t, 1, direction, t->of->gram, 0, residual);
    if (t->of->drift) tile_multiply(t, 1, t->w, t->of->drift, 1, residual);
    tile_mask(t, residual);
    for (int64_t step = 0; step <= ESPL_UPDATE_STEPS && open > 0; step++) {
        if (step > 0) { /* also for rows that have ended: their products are not used */
            for (int64_t i = 0; i < n; i++) product[i] = damping * direction[i];
            tile_multiply(t, 1, direction, t->of->gram, 1, product);
            tile_mask(t, product);
        }
        open = 0;
        for (int64_t r = 0; r < t->rows; r++) {
            s.v = v + r * in, s.residual = residual + r * in, s.direction = direction + r * in;
            s.product = product + r * in;
            if (step == 0)
                first[r] = norm[r] = row_begin(&s);
            else if (norm[r] > 0)
                norm[r] = row_step(&s, norm[r]);
            if (norm[r] <= least * least * first[r]) norm[r] = 0;
            open += norm[r] > 0;
        }
    }
}

espl_status espl_update_reconstruct(const espl_linear *l, const espl_linear *prior, const espl_moments *of,
                                    double damping, double residual, float *weight) {
    float *arrays;
    ESPL_TRY(tiles_take(l->in, &arrays));
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t first = 0; first < l->out; first += TILE_ROWS) {
        row_tile t = tile_of(l, of, first, arrays);
        tile_reconstruct(&t, prior, (float)damping, residual, weight + first * t.in);
    }
    espl_mem_free(&arrays);
    return ESPL_OK;
}

double espl_update_reconstruct_flops(int64_t out, int64_t in, int64_t steps, bool drift) {
    return 2 * (double)out * (double)in * (double)in * (double)(steps + 1 + drift);
}

/* ------------------------------------------------------------------- error */

espl_status espl_update_error(const espl_linear *l, const float *weight, const espl_moments *of, double *rows,
                              double *error) {
    float *arrays;
    ESPL_TRY(tiles_take(l->in, &arrays));
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t first = 0; first < l->out; first += TILE_ROWS) {
        row_tile t = tile_of(l, of, first, arrays);
        int64_t n = t.rows * t.in;
        memcpy(t.a, weight + first * t.in, (size_t)n * sizeof *t.a);
        tile_mask(&t, t.a);
        for (int64_t i = 0; i < n; i++) t.a[i] = t.w[i] - t.a[i];
        tile_multiply(&t, 1, t.a, of->gram, 0, t.b);
        if (of->drift) tile_multiply(&t, 2, t.w, of->drift, 1, t.b);
        for (int64_t r = 0; r < t.rows; r++) {
            double sum = 0;
            for (int64_t c = r * t.in; c < (r + 1) * t.in; c++) sum += (double)t.a[c] * (double)t.b[c];
            rows[first + r] = sum;
        }
    }
    *error = 0;
    for (int64_t r = 0; r < l->out; r++) *error += rows[r]; /* in row order, for any number of threads */
    espl_mem_free(&arrays);
    return ESPL_OK;
}

double espl_update_error_flops(int64_t out, int64_t in, bool drift) {
    return 2 * (double)out * (double)in * (double)in * (1 + drift);
}
