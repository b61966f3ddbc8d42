/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs in tests/mpi share: set-up, checks, output and exit code.
 *
 * A check that fails is counted and printed, and the program goes on: a rank that left early would leave the others
 * waiting in the next collective call. For the same reason a branch that leads to a collective call may depend only on
 * values that are equal on all ranks (a status after espl_comm_agree, the number of ranks, the arguments).
 *
 * Standard output must be the same on any number of ranks (compare_np.sh): ranks add to h->lines, and rank 0 prints all
 * lines at the end, in the order of ranks. mpirun itself would mix the output of several ranks, inside lines too. */
#ifndef ESPL_TEST_MPI_HARNESS_H
#define ESPL_TEST_MPI_HARNESS_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "espalier/comm.h"

typedef struct harness {
    espl_comm *c;
    const char *name,
        *part; /* what is tested at the moment, in every message: a model or directory, a part of the test */
    int failures;
    double worst; /* largest difference seen on this rank */
    espl_str lines;
} harness;

/* Collective. False: MPI did not start, or there are too few arguments; the program returns 2. */
static inline bool harness_begin(harness *h, int *argc, char ***argv, int min_arguments, espl_log_level level) {
    *h = (harness){.name = "", .part = ""};
    if (espl_comm_create(argc, argv, &h->c) != ESPL_OK || *argc <= min_arguments) return false;
    espl_log_init(level, espl_comm_rank(h->c));
    return true;
}

__attribute__((format(printf, 2, 3))) static inline void harness_fail(harness *h, const char *format, ...) {
    va_list list;
    char text[2048];
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    h->failures++;
    fprintf(stderr, "rank %d: %s: %s%s\n", espl_comm_rank(h->c), h->name, h->part, text);
}

/* check(r, ok, what): r is a program's own struct, with a member h. */
#define check(r, ok, what) harness_check((r)->h, ok, what)
static inline void harness_check(harness *h, bool ok, const char *what) {
    if (!ok) harness_fail(h, "%s (%s)", what, espl_base_error_text());
}

/* max |got - want| <= tolerance * max |want|, and no NaN. */
static inline void harness_compare(harness *h, const char *what, const float *got, const float *want, int64_t n,
                                   double tolerance) {
    double diff = 0, size = 1e-12;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= diff)) diff = d;
        size = fmax(size, fabs((double)want[i]));
    }
    h->worst = fmax(h->worst, diff / size);
    if (!(diff <= tolerance * size)) harness_fail(h, "%s differs by %.3g of %.3g", what, diff, size);
}

static inline bool harness_is_last_rank(const harness *h) { return espl_comm_rank(h->c) == espl_comm_size(h->c) - 1; }

/* The last part of a path. */
static inline const char *harness_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Collective: prints the lines and gives up the communicator. The program's exit code: 0 when no rank counted a failure
 * and this rank's memory is all freed. */
static inline int harness_end(harness *h) {
    espl_status st = espl_comm_agree(h->c, espl_str_status(&h->lines));
    for (int root = 0; st == ESPL_OK && root < espl_comm_size(h->c); root++) {
        espl_str s = {0};
        if (espl_comm_rank(h->c) == root) espl_str_put(&s, h->lines.data ? h->lines.data : "", h->lines.len);
        st = espl_comm_broadcast_str(h->c, &s, root);
        if (st == ESPL_OK && espl_comm_rank(h->c) == 0 && s.len) fputs(s.data, stdout);
        espl_str_free(&s);
    }
    espl_str_free(&h->lines);
    if (st == ESPL_OK && h->failures) st = ESPL_FAIL(ESPL_FAILED, "%d failures", h->failures);
    st = espl_comm_agree(h->c, st);
    espl_comm_destroy(&h->c);
    return st == ESPL_OK && espl_mem_balance() == 0 ? 0 : 1;
}

#endif
