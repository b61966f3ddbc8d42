/* The factor that the optimal brain surgeon walks along: U upper triangular with U^T U = H^-1.
 *
 * Turned over (both orders of rows and columns reversed), H = L L^T and U is the turned-over L^-1: one Cholesky and one
 * triangular inverse instead of Cholesky, inverse, Cholesky. Tiles of fixed size, each by one thread: LAPACK's own
 * threads would cut by their number, and the last bits with it. */
#include "internal.h"

#include <cblas.h>
#include <string.h>

/* LAPACK, column-major; OpenBLAS has it without a header of its own. */
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);

enum { TILE = 128 };

/* a [n, n], its lower triangle: (i, j) and (n - 1 - j, n - 1 - i) change places. */
static void turn_over(double *a, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i && i + j < n - 1; j++) {
            double *x = &a[i * n + j], *y = &a[(n - 1 - j) * n + n - 1 - i], keep = *x;
            *x = *y;
            *y = keep;
        }
}

/* Scales, revives dead features, adds the damping. */
static void condition(double *a, int64_t n, double scale, double damping, bool *dead) {
    double mean = 0;
    for (int64_t i = 0; i < n; i++) {
        dead[i] = a[i * n + i] == 0;
        for (int64_t j = 0; j <= i; j++) a[i * n + j] *= scale;
        if (dead[i]) a[i * n + i] = 1;
        mean += a[i * n + i];
    }
    for (int64_t i = 0; i < n; i++) a[i * n + i] += damping * mean / (double)n;
}

/* The diagonal tile at k0. In a parallel region, where OpenBLAS stays single-threaded. */
static int factor_diagonal(double *a, int64_t n, int64_t k0, int64_t kn) {
    int info = 0, size = (int)kn, lda = (int)n;
#pragma omp parallel
#pragma omp single
    dpotrf_("U", &size, a + k0 * n + k0, &lda, &info, 1); /* row-major lower is column-major upper */
    return info;
}

/* Rows below the diagonal tile: A_ik L_kk^-T. */
static void solve_below(double *a, int64_t n, int64_t k0, int64_t kn) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i0 = k0 + kn; i0 < n; i0 += TILE)
        cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (int)espl_min_i64(TILE, n - i0),
                    (int)kn, 1.0, a + k0 * n + k0, (int)n, a + i0 * n + k0, (int)n);
}

/* The rest: A_ij -= A_ik A_jk^T. Tile rows i from the last on, which are the longest. */
static void update_rest(double *a, int64_t n, int64_t k0, int64_t kn) {
    int64_t first = k0 + kn, tiles = (n - first + TILE - 1) / TILE;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t t = 0; t < tiles; t++) {
        int64_t i0 = first + (tiles - 1 - t) * TILE, rows = espl_min_i64(TILE, n - i0);
        for (int64_t j0 = first; j0 <= i0; j0 += TILE)
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)espl_min_i64(TILE, n - j0), (int)kn,
                        -1.0, a + i0 * n + k0, (int)n, a + j0 * n + k0, (int)n, 1.0, a + i0 * n + j0, (int)n);
    }
}

static espl_status cholesky(double *a, int64_t n) {
    for (int64_t k0 = 0; k0 < n; k0 += TILE) {
        int64_t kn = espl_min_i64(TILE, n - k0);
        if (factor_diagonal(a, n, k0, kn) != 0)
            return ESPL_FAIL(ESPL_FAILED,
                             "the Hessian of %lld features is not positive definite: more samples or a "
                             "larger prune.damping may help",
                             (long long)n);
        solve_below(a, n, k0, kn);
        update_rest(a, n, k0, kn);
    }
    return ESPL_OK;
}

/* Columns j0 .. j0 + jn of L^-1 by forward substitution into x [n - j0, jn]. */
static void invert_columns(const double *a, int64_t n, int64_t j0, int64_t jn, double *x) {
    memset(x, 0, (size_t)((n - j0) * jn) * sizeof *x);
    for (int64_t j = 0; j < jn; j++) x[j * jn + j] = 1;
    for (int64_t i0 = j0; i0 < n; i0 += TILE) {
        int64_t rows = espl_min_i64(TILE, n - i0);
        double *piece = x + (i0 - j0) * jn;
        if (i0 > j0)
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)jn, (int)(i0 - j0), -1.0,
                        a + i0 * n + j0, (int)n, x, (int)jn, 1.0, piece, (int)jn);
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)rows, (int)jn, 1.0,
                    a + i0 * n + i0, (int)n, piece, (int)jn);
    }
}

/* scratch [threads][n, TILE]; the long columns, at the left, go first. */
static void invert(const double *a, int64_t n, float *factor, double *scratch) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t j0 = 0; j0 < n; j0 += TILE) {
        int64_t jn = espl_min_i64(TILE, n - j0);
        double *x = scratch + (int64_t)espl_tensor_thread() * n * TILE;
        invert_columns(a, n, j0, jn, x);
        for (int64_t i = j0; i < n; i++)
            for (int64_t j = 0; j < jn && j0 + j <= i; j++)
                factor[(n - 1 - i) * n + n - 1 - j0 - j] = (float)x[(i - j0) * jn + j];
    }
}

espl_status espl_prune_factor(double *hessian, int64_t n, double scale, double damping, float *factor, bool *dead) {
    double *scratch;
    condition(hessian, n, scale, damping, dead);
    turn_over(hessian, n);
    ESPL_TRY(cholesky(hessian, n));
    ESPL_TRY(espl_mem_alloc(&scratch, espl_tensor_threads(), (size_t)(n * TILE) * sizeof *scratch, "inverse columns"));
    invert(hessian, n, factor, scratch);
    espl_mem_free(&scratch);
    return ESPL_OK;
}
