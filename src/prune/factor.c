/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The factor that SparseGPT walks along: U upper triangular with U^T U = H^-1.
 *
 * With the order of rows and columns reversed, H = L L^T, and U is L^-1 reversed back. So one Cholesky factorization
 * and one triangular inverse replace the Cholesky, inverse, Cholesky of the published code.
 *
 * The matrix is cut into tiles of fixed size, each computed by one thread. LAPACK's own threaded routines cut by the
 * number of threads, and the last bits of the result would depend on it.
 */
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/prune/sparsegpt.h"
#include "internal.h"

#include <cblas.h>
#include <inttypes.h>
#include <lapacke.h>
#include <string.h>

enum { TILE = 128 }; /* three f64 tiles of 128 KiB stay in L2 during a product */

/* Rows or columns of the tile at i0 of n. */
static int tile_size(int64_t n, int64_t i0) { return (int)espl_min_i64(TILE, n - i0); }

/* a [n, n] = L L^T: its lower triangle becomes L. Right-looking, tile column after tile column. */
static espl_status factor_cholesky(double *a, int64_t n) {
    for (int64_t k0 = 0; k0 < n; k0 += TILE) {
        int kn = tile_size(n, k0), info = 0;
        int64_t rest = k0 + kn, tiles = (n - rest + TILE - 1) / TILE;
        /* Row-major lower is column-major upper. Inside a parallel region OpenBLAS uses a single thread. The _work
         * interface skips LAPACKE's own check for NaN. */
#pragma omp parallel
#pragma omp single
        info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', kn, a + k0 * n + k0, (int)n);
        if (info != 0)
            return ESPL_FAIL(ESPL_FAILED,
                             "the Hessian of %" PRId64 " features is not positive definite: more samples or a larger "
                             "prune.damping may help",
                             n);
            /* Below the diagonal tile: A_ik L_kk^-T. */
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t i0 = rest; i0 < n; i0 += TILE)
            cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, tile_size(n, i0), kn, 1.0,
                        a + k0 * n + k0, (int)n, a + i0 * n + k0, (int)n);
            /* The rest: A_ij -= A_ik A_jk^T. The last tile row is the longest and starts first, for an even load. */
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t t = 0; t < tiles; t++) {
            int64_t i0 = rest + (tiles - 1 - t) * TILE;
            for (int64_t j0 = rest; j0 <= i0; j0 += TILE)
                cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tile_size(n, i0), tile_size(n, j0), kn, -1.0,
                            a + i0 * n + k0, (int)n, a + j0 * n + k0, (int)n, 1.0, a + i0 * n + j0, (int)n);
        }
    }
    return ESPL_OK;
}

/* factor = L^-1 with both orders reversed, TILE columns of L^-1 at a time by forward substitution. The columns at the
 * left are the longest and start first. scratch [threads][n, TILE]. */
static void factor_invert(const double *a, int64_t n, float *factor, double *scratch) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t j0 = 0; j0 < n; j0 += TILE) {
        int jn = tile_size(n, j0);
        double *x = scratch + (int64_t)espl_tensor_thread() * n * TILE; /* rows j0 .. n - 1 of the columns */
        memset(x, 0, (size_t)((n - j0) * jn) * sizeof *x);
        for (int64_t j = 0; j < jn; j++) x[j * jn + j] = 1;
        for (int64_t i0 = j0; i0 < n; i0 += TILE) {
            int rows = tile_size(n, i0);
            double *piece = x + (i0 - j0) * jn;
            if (i0 > j0)
                cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, jn, (int)(i0 - j0), -1.0, a + i0 * n + j0,
                            (int)n, x, jn, 1.0, piece, jn);
            cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, rows, jn, 1.0,
                        a + i0 * n + i0, (int)n, piece, jn);
        }
        for (int64_t i = j0; i < n; i++)
            for (int64_t j = 0; j < jn && j0 + j <= i; j++)
                factor[(n - 1 - i) * n + n - 1 - j0 - j] = (float)x[(i - j0) * jn + j];
    }
}

int64_t espl_prune_factor_bytes(int64_t n) { return espl_tensor_threads() * n * TILE * (int64_t)sizeof(double); }

double espl_prune_factor_flops(int64_t n) { return 2 * (double)n * (double)n * (double)n / 3; }

espl_status espl_prune_factor(double *hessian, int64_t n, double scale, double damping, float *factor, bool *dead) {
    double *a = hessian, *scratch, mean = 0;
    /* Scaling and damping as published. A dead feature's row and column are 0; with 1 on the diagonal it is factored
     * without touching the others. */
    for (int64_t i = 0; i < n; i++) {
        dead[i] = a[i * n + i] == 0;
        for (int64_t j = 0; j <= i; j++) a[i * n + j] *= scale;
        if (dead[i]) a[i * n + i] = 1;
        mean += a[i * n + i];
    }
    for (int64_t i = 0; i < n; i++) a[i * n + i] += damping * mean / (double)n;
    /* Reversed in place: (i, j) of the lower triangle and (n - 1 - j, n - 1 - i) change places. */
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i && i + j < n - 1; j++) {
            double *x = &a[i * n + j], *y = &a[(n - 1 - j) * n + n - 1 - i], keep = *x;
            *x = *y;
            *y = keep;
        }
    ESPL_TRY(factor_cholesky(a, n));
    ESPL_TRY(espl_mem_alloc(&scratch, espl_tensor_threads(), (size_t)(n * TILE) * sizeof *scratch, "inverse columns"));
    factor_invert(a, n, factor, scratch);
    espl_mem_free(&scratch);
    return ESPL_OK;
}
