/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and defaults of the one-shot methods.
 */
#include "espalier/methods/options.h"

#include <string.h>

static const char *const allocation_names[ESPL_ALLOCATION_COUNT] = {
#define X(name, text) text,
    ESPL_ALLOCATION_LIST(X)
#undef X
};

const char *espl_allocation_name(espl_allocation a) { return allocation_names[a]; }

bool espl_allocation_parse(const char *name, espl_allocation *out) {
    for (int i = 0; i < ESPL_ALLOCATION_COUNT; i++)
        if (strcmp(allocation_names[i], name) == 0) return *out = (espl_allocation)i, true;
    return false;
}

espl_method_options espl_method_defaults(void) {
    return (espl_method_options){.score = ESPL_SCORE_WANDA,
                                 .pattern = {.group = ESPL_GROUP_ROW},
                                 .samples =
                                     128, /* windows and tokens of the calibration set of SparseGPT, Wanda and OWL */
                                 .window = 2048,
                                 .block = 128, /* SparseGPT's */
#define X(type, key, value, lowest, highest, meaning) .key = value,
                                 ESPL_METHOD_OPTION_LIST(X)
#undef X
                                     /* EvoPress with a smaller budget (docs/methods.md). A level of a quarter of the
                                      * smallest linear crosses the range of sparsities within a few generations. */
                                     .search = {.offspring = 16, .stages = 2, .survivors = {4, 1, 1}, .step = 0.25}};
}

int64_t espl_method_search_windows(const espl_method_options *o, int64_t stage) {
    int64_t windows = o->samples;
    for (int64_t s = stage + 1; s < o->search.stages && windows >= 4; s++) windows /= 4;
    return windows;
}
