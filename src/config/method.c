/* SPDX-License-Identifier: Apache-2.0 */
/* Translates section "prune" into the options of the methods room. */
#include "espalier/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/base/memory.h"
#include "espalier/base/typo.h"

bool espl_config_is_oneshot(const espl_config *o) { return o->prune_allocation != ESPL_ALLOCATION_AGENT; }

bool espl_config_updates_masked(const espl_config *o) {
    return o->prune_update != ESPL_UPDATE_NONE &&
           !(espl_config_is_oneshot(o) && o->prune_update == ESPL_UPDATE_SPARSEGPT);
}

bool espl_config_distills(const espl_config *o) { return o->distill_passes > 0 || o->distill_steps > 0; }

const char *espl_config_refuses_milestones(const espl_config *o) {
    if (espl_config_is_oneshot(o)) return "a one-shot method prunes once, so that each target is a run of its own";
    if (o->prune_mixed) return "prune.mixed makes linears N:M for good, as many as suit one target";
    if (o->distill_passes > 0)
        return "distill.passes trains the model once the target is reached, which a model on the way lacks";
    if (o->prune_update != ESPL_UPDATE_NONE && o->prune_update_when == ESPL_UPDATE_WHEN_END)
        return "prune.update_when \"end\" updates weights once the target is reached, which a model on the way lacks";
    return NULL;
}

espl_status espl_config_milestones(const espl_config *o, double **out, int64_t *n) {
    const char *text = o->prune_milestones;
    *out = NULL;
    *n = 0;
    while (*text) {
        char *end;
        ESPL_TRY(espl_mem_resize(out, *n + 1, sizeof **out, "milestones"));
        (*out)[(*n)++] = strtod(text, &end); /* the text is one that option_take_numbers has written */
        text = end + strspn(end, ", ");
    }
    return ESPL_OK;
}

/* Magnitude and RIA compare whole linears in one shot, as published; in steps, rows keep their shares. */
espl_pattern espl_config_step_pattern(const espl_config *o) {
    espl_pattern p = {.group = o->prune_score == ESPL_SCORE_CURVATURE ? ESPL_GROUP_LAYER : ESPL_GROUP_ROW};
    if (strcmp(o->prune_pattern, "row") == 0) p.group = ESPL_GROUP_ROW;
    if (strcmp(o->prune_pattern, "layer") == 0) p.group = ESPL_GROUP_LAYER;
    return p;
}

espl_status espl_config_method(const espl_config *o, espl_method_options *p) {
    *p = espl_method_defaults();
    p->score = o->prune_score;
    p->update = o->prune_update;
    p->shift = o->prune_update_shift;
    p->allocation = o->prune_allocation;
    if (!espl_prune_pattern_parse(o->prune_pattern, p->score, p->update, &p->pattern)) {
        static const char *const names[] = {"unstructured", "row", "layer", "2:4"};
        const char *nearest = NULL;
        for (int i = 0, best = ESPL_TYPO_NONE; i < 4; i++)
            if (espl_typo_nearer(o->prune_pattern, names[i], &best)) nearest = names[i];
        return ESPL_FAIL(
            ESPL_CONFIG,
            "prune.pattern is \"%s\", expected unstructured, row, layer, or N:M with 1 <= N < M <= 64%s%s%s",
            o->prune_pattern, nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    }
#define X(type, key, value, lo, hi, meaning) p->key = o->prune_##key;
    ESPL_METHOD_OPTION_LIST(X)
#undef X
    p->samples = o->calibration_forward;
    p->gradient_samples = o->calibration_backward;
    p->curvature_power = o->prune_curvature_power;
    p->knowledge_share = o->knowledge_share;
    p->window = o->calibration_window;
    p->search.seed = (uint64_t)o->run_seed;
    return ESPL_OK;
}
