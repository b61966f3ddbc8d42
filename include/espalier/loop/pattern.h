/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparsity patterns: which weights of a linear compete with each other to stay. One type serves the pruning kernels,
 * the agent's decisions and the checkpoint. All functions are Local.
 */
#ifndef ESPALIER_LOOP_PATTERN_H
#define ESPALIER_LOOP_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

typedef enum espl_group {
    ESPL_GROUP_ROW,   /* the weights of an output row; all rows lose the same number */
    ESPL_GROUP_LAYER, /* all weights of a linear */
    ESPL_GROUP_N_M    /* m consecutive inputs of a row, of which n stay */
} espl_group;

/* All members have 8 bytes, so that records with a pattern in them have no padding and can be broadcast and compared as
 * bytes. All zero (ESPL_GROUP_ROW) is the pattern of a linear that is pruned step by step. */
typedef struct espl_pattern {
    int64_t group; /* espl_group */
    int64_t n, m;  /* of ESPL_GROUP_N_M, else 0. The last t < m inputs of a row lose floor(t (m - n) / m) weights */
} espl_pattern;

/* Pattern masks are handled as one 64-bit word per group. */
enum { ESPL_PATTERN_M_MAX = 64 };
/* Buffer for espl_pattern_name: fits any two int64_t. */
enum { ESPL_PATTERN_NAME_MAX = 48 };

/* The patterns that an agent may give a dense linear in one step, in order of preference: more hardware runs the first
 * ones. Each of them prunes ESPL_PATTERN_CHOICE_SPARSITY; the policy's plan relies on that. X(n, m) */
#define ESPL_PATTERN_CHOICE_LIST(X)                                                                                    \
    X(2, 4)                                                                                                            \
    X(4, 8)
enum {
#define X(n, m) ESPL_PATTERN_CHOICE_##n##_##m,
    ESPL_PATTERN_CHOICE_LIST(X)
#undef X
        ESPL_PATTERN_CHOICES
};
#define ESPL_PATTERN_CHOICE_SPARSITY 0.5
extern const espl_pattern espl_pattern_choices[ESPL_PATTERN_CHOICES];

static inline bool espl_pattern_is_n_m(espl_pattern p) { return p.group == ESPL_GROUP_N_M; }
static inline bool espl_pattern_equal(espl_pattern a, espl_pattern b) {
    return a.group == b.group && a.n == b.n && a.m == b.m;
}
/* Fraction of the weights that an N:M pattern prunes in rows of whole groups: (m - n) / m; 0 for other groups, which do
 * not fix the sparsity. */
static inline double espl_pattern_sparsity(espl_pattern p) {
    return espl_pattern_is_n_m(p) ? (double)(p.m - p.n) / (double)p.m : 0;
}
/* "2:4", or "unstructured" for the other groups, into buf [ESPL_PATTERN_NAME_MAX]; returns buf. */
const char *espl_pattern_name(espl_pattern p, char *buf);
/* Reads "N:M" with 1 <= N < M <= ESPL_PATTERN_M_MAX. False for any other text; *out is unchanged then. */
bool espl_pattern_parse(const char *text, espl_pattern *out);
/* Index in espl_pattern_choices, -1 for a pattern that is not in it. */
int64_t espl_pattern_choice(espl_pattern p);

#endif
