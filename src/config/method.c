/* SPDX-License-Identifier: Apache-2.0 */
/* The method that section prune describes. */
#include "espalier/config/config.h"

#include <string.h>

bool espl_config_is_oneshot(const espl_config *o) { return strcmp(o->prune_allocation, "agent") != 0; }

espl_status espl_config_method(const espl_config *o, espl_method_options *p) {
    *p = espl_method_defaults();
    if (!espl_score_parse(o->prune_score, &p->score))
        return ESPL_FAIL(ESPL_CONFIG, "prune.score: \"%s\" is not known", o->prune_score);
    if (!espl_update_parse(o->prune_update, &p->update))
        return ESPL_FAIL(ESPL_CONFIG, "prune.update: \"%s\" is not known", o->prune_update);
    if (espl_config_is_oneshot(o) && !espl_allocation_parse(o->prune_allocation, &p->allocation))
        return ESPL_FAIL(ESPL_CONFIG, "prune.allocation: \"%s\" is not known", o->prune_allocation);
    if (!espl_prune_pattern_parse(o->prune_pattern, p->score, p->update, &p->pattern))
        return ESPL_FAIL(ESPL_CONFIG,
                         "prune.pattern: \"%s\" is none of unstructured, row, layer, N:M with 1 <= N < M <= 64",
                         o->prune_pattern);
    p->target = o->prune_target;
    p->cap = o->prune_cap;
    p->samples = o->calibration_forward;
    p->window = o->calibration_window;
    p->damping = o->prune_damping;
    p->owl_outlier = o->prune_owl_outlier;
    p->owl_lambda = o->prune_owl_lambda;
    p->lsa_beta = o->prune_lsa_beta;
    p->search_evaluations = o->prune_search_evaluations;
    p->search.seed = (uint64_t)o->run_seed;
    return ESPL_OK;
}
