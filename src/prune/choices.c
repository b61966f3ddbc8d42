/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of scores, updates and patterns.
 */
#include "espalier/prune/choices.h"

#include <string.h>

static const struct {
    const char *name;
    bool activations, gradients, outputs;
} scores[ESPL_SCORE_COUNT] = {
#define X(name, text, activations, gradients, outputs) {text, activations, gradients, outputs},
    ESPL_SCORE_LIST(X)
#undef X
};

static const char *const update_names[ESPL_UPDATE_COUNT] = {
#define X(name, text) text,
    ESPL_UPDATE_LIST(X)
#undef X
};

const char *espl_score_name(espl_score s) { return scores[s].name; }

bool espl_score_parse(const char *name, espl_score *out) {
    for (int i = 0; i < ESPL_SCORE_COUNT; i++)
        if (strcmp(scores[i].name, name) == 0) return *out = (espl_score)i, true;
    return false;
}

bool espl_score_needs_activations(espl_score s) { return scores[s].activations; }

bool espl_score_needs_gradients(espl_score s) { return scores[s].gradients; }

bool espl_score_needs_outputs(espl_score s) { return scores[s].outputs; }

const char *espl_update_name(espl_update u) { return update_names[u]; }

bool espl_update_parse(const char *name, espl_update *out) {
    for (int i = 0; i < ESPL_UPDATE_COUNT; i++)
        if (strcmp(update_names[i], name) == 0) return *out = (espl_update)i, true;
    return false;
}

bool espl_update_holds_out(espl_update u) { return u == ESPL_UPDATE_OBS || u == ESPL_UPDATE_RECONSTRUCT; }

bool espl_prune_pattern_parse(const char *text, espl_score score, espl_update update, espl_pattern *out) {
    /* The group of the released code. Within a row, the curvature's factor of the row would cancel. */
    bool layer = update == ESPL_UPDATE_SPARSEGPT || score == ESPL_SCORE_MAGNITUDE || score == ESPL_SCORE_RIA ||
                 score == ESPL_SCORE_CURVATURE;
    *out = (espl_pattern){0};
    if (strcmp(text, "row") == 0)
        out->group = ESPL_GROUP_ROW;
    else if (strcmp(text, "layer") == 0)
        out->group = ESPL_GROUP_LAYER;
    else if (strcmp(text, "unstructured") == 0)
        out->group = layer ? ESPL_GROUP_LAYER : ESPL_GROUP_ROW;
    else
        return espl_pattern_parse(text, out);
    return true;
}
