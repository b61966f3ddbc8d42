/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, defaults and checks of the options of one-shot methods.
 */
#include "espalier/methods/options.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/prune/sparsegpt.h"

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
    o.shift = true;
    o.block = 128; /* as in the released SparseGPT */
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

espl_status espl_method_check(const espl_method_options *o) {
    bool n_m = espl_pattern_is_n_m(o->pattern);
    if (o->samples < 1)
        return ESPL_FAIL(ESPL_CONFIG, "a one-shot method with %" PRId64 " calibration windows, expected 1 or more",
                         o->samples);
    if (!(o->target >= 0 && o->target < 1) || !(o->cap > 0 && o->cap <= 1))
        return ESPL_FAIL(
            ESPL_CONFIG,
            "a one-shot method with target %g and cap %g, expected a target of 0 to below 1 and a cap above "
            "0 to 1",
            o->target, o->cap);
    if (n_m && o->allocation != ESPL_ALLOCATION_UNIFORM)
        return ESPL_FAIL(ESPL_CONFIG,
                         "allocation \"%s\" with pattern %" PRId64 ":%" PRId64
                         ", which fixes the sparsity: expected \"uniform\"",
                         espl_allocation_name(o->allocation), o->pattern.n, o->pattern.m);
    if (espl_score_needs_outputs(o->score) && o->gradient_samples < 1)
        return ESPL_FAIL(ESPL_CONFIG, "score \"%s\" with %" PRId64 " gradient samples, expected 1 or more",
                         espl_score_name(o->score), o->gradient_samples);
    if (o->allocation == ESPL_ALLOCATION_GLOBAL &&
        (!espl_score_needs_outputs(o->score) || o->pattern.group != ESPL_GROUP_LAYER))
        return ESPL_FAIL(ESPL_CONFIG,
                         "allocation \"global\" with score \"%s\": it compares the weights of all linears, which needs "
                         "score \"curvature\" and no pattern of rows",
                         espl_score_name(o->score));
    if (o->allocation == ESPL_ALLOCATION_SEARCH && o->score == ESPL_SCORE_RGS)
        return ESPL_FAIL(ESPL_CONFIG, "allocation \"search\" with score \"rgs\": regional gradients are not kept");
    if (espl_update_holds_out(o->update) && o->samples < 2)
        return ESPL_FAIL(ESPL_CONFIG,
                         "update \"%s\" with %" PRId64 " calibration windows, expected 2 or more: it chooses its "
                         "strength on windows that it does not learn from",
                         espl_update_name(o->update), o->samples);
    if (espl_update_holds_out(o->update) && !(o->damping > 0))
        return ESPL_FAIL(ESPL_CONFIG, "update \"%s\" with damping %g, expected a number above 0",
                         espl_update_name(o->update), o->damping);
    if (o->update == ESPL_UPDATE_NONE) return ESPL_OK;
    if (!(o->damping >= 0) || o->block < 1 || o->block > ESPL_SPARSEGPT_BLOCK_MAX)
        return ESPL_FAIL(ESPL_CONFIG,
                         "SparseGPT with damping %g (expected 0 or more) and blocks of %" PRId64 " columns (1 to %d)",
                         o->damping, o->block, ESPL_SPARSEGPT_BLOCK_MAX);
    if (n_m && o->update == ESPL_UPDATE_SPARSEGPT && o->block % o->pattern.m != 0)
        return ESPL_FAIL(ESPL_CONFIG,
                         "SparseGPT with blocks of %" PRId64 " columns cannot keep groups of %" PRId64 " together",
                         o->block, o->pattern.m);
    return ESPL_OK;
}
