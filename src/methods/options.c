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
    espl_method_options o = {.score = ESPL_SCORE_WANDA, .pattern = {.group = ESPL_GROUP_ROW}};
#define X(type, key, value, lowest, highest, meaning) o.key = value;
    ESPL_METHOD_OPTION_LIST(X)
#undef X
    o.curvature_power = 1; /* the full Gauss-Newton factor */
    o.block = 128;         /* as in the released SparseGPT */
    /* EvoPress with a smaller budget (docs/methods.md). Levels of a quarter of the smallest linear cross the range of
     * sparsities within a few generations. */
    o.search = (espl_search_options){.offspring = 16, .stages = 2, .survivors = {4, 1, 1}, .step = 0.25};
    return o;
}

int64_t espl_method_search_windows(const espl_method_options *o, int64_t stage) {
    enum { STAGE_FACTOR = 4 }; /* windows from stage to stage */
    int64_t windows = o->samples;
    for (int64_t s = stage + 1; s < o->search.stages && windows >= STAGE_FACTOR; s++) windows /= STAGE_FACTOR;
    return windows;
}
