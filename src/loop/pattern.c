/* SPDX-License-Identifier: Apache-2.0 */
/* Names of sparsity patterns, and the patterns that an agent may choose. */
#include "espalier/loop/pattern.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const espl_pattern espl_pattern_choices[ESPL_PATTERN_CHOICES] = {
#define X(n, m) {ESPL_GROUP_N_M, n, m},
    ESPL_PATTERN_CHOICE_LIST(X)
#undef X
};

const char *espl_pattern_name(espl_pattern p, char *buf) {
    if (espl_pattern_is_n_m(p))
        snprintf(buf, ESPL_PATTERN_NAME_MAX, "%" PRId64 ":%" PRId64, p.n, p.m);
    else
        snprintf(buf, ESPL_PATTERN_NAME_MAX, "unstructured");
    return buf;
}

bool espl_pattern_parse(const char *text, espl_pattern *out) {
    char *colon, name[ESPL_PATTERN_NAME_MAX];
    int64_t n = strtoll(text, &colon, 10);
    int64_t m = *colon == ':' ? strtoll(colon + 1, NULL, 10) : 0;
    espl_pattern p = {ESPL_GROUP_N_M, n, m};
    if (n < 1 || n >= m || m > ESPL_PATTERN_M_MAX) return false;
    /* strtoll also reads "+2", " 2" and "02": one pattern has one spelling, because runs are compared by it. */
    if (strcmp(text, espl_pattern_name(p, name)) != 0) return false;
    *out = p;
    return true;
}

int64_t espl_pattern_choice(espl_pattern p) {
    for (int64_t k = 0; k < ESPL_PATTERN_CHOICES; k++)
        if (espl_pattern_equal(p, espl_pattern_choices[k])) return k;
    return -1;
}
