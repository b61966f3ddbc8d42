/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pruning one linear by a score, under any pattern.
 */
#include "internal.h"

#include <inttypes.h>
#include <string.h>

static const char *const update_names[ESPL_UPDATE_COUNT] = {
#define X(name, text) text,
    ESPL_UPDATE_LIST(X)
#undef X
};

const char *espl_update_name(espl_update u) { return update_names[u]; }

bool espl_update_parse(const char *name, espl_update *out) {
    for (int i = 0; i < ESPL_UPDATE_COUNT; i++)
        if (strcmp(update_names[i], name) == 0) return *out = (espl_update)i, true;
    return false;
}

bool espl_prune_pattern_parse(const char *text, espl_score score, espl_update update, espl_pattern *out) {
    bool layer = update == ESPL_UPDATE_SPARSEGPT || score == ESPL_SCORE_MAGNITUDE || score == ESPL_SCORE_RIA;
    *out = (espl_pattern){.group = ESPL_GROUP_ROW};
    if (strcmp(text, "row") == 0) return true;
    if (strcmp(text, "unstructured") == 0 && !layer) return true;
    out->group = ESPL_GROUP_LAYER;
    if (strcmp(text, "layer") == 0 || strcmp(text, "unstructured") == 0) return true;
    return espl_pattern_parse(text, out);
}

int64_t espl_prune_pattern_count(const espl_pattern *p, int64_t out, int64_t in) {
    return out * (in / p->m * espl_mask_n_m_pruned(p->n, p->m, p->m) + espl_mask_n_m_pruned(p->n, p->m, in % p->m));
}

static const int32_t *scorer_row(const void *context, int64_t r, int32_t *keys) {
    espl_scorer_keys(context, r, keys);
    return keys;
}

/* Layer: two passes over the rows, whose keys are computed each time rather than stored. */
static espl_status prune_layer(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws) {
    int64_t out = s->l->out, in = s->l->in, survivors = espl_mask_count(mask, out, in), *equal, below;
    if (count < 0 || count > survivors)
        return ESPL_FAIL(ESPL_USAGE, "cannot prune %" PRId64 " of %" PRId64 " surviving weights", count, survivors);
    if (count == 0) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&equal, out, sizeof *equal, "ties"));
    espl_select_matrix keys_of_all = {.rows = out, .columns = in, .row = scorer_row, .context = s};
    int32_t key = espl_select_rank(&keys_of_all, count - 1, &below, ws);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        espl_scorer_keys(s, r, keys);
        for (int64_t c = 0; c < in; c++) equal[r] += keys[c] == key;
        espl_select_below(keys, in, key, mask + r * s->words);
    }
    for (int64_t r = 0, ties = count - below; r < out; r++) {
        equal[r] = espl_min_i64(equal[r], ties);
        ties -= equal[r];
    }
    /* What the first pass cleared has the key of a pruned weight now and is not equal. */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        if (equal[r] == 0) continue;
        espl_scorer_keys(s, r, keys);
        espl_select_equal(keys, in, key, equal[r], mask + r * s->words);
    }
    espl_mem_free(&equal);
    return ESPL_OK;
}

espl_status espl_prune_linear(const espl_linear *l, const espl_scoring *by, const espl_pattern *p, int64_t count,
                              uint64_t *mask, espl_workspace *ws) {
    scorer s;
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_scorer_create(l, by, mask, &s));
    if (p->group == ESPL_GROUP_ROW) {
        st = espl_prune_rows(&s, count, mask, ws);
    } else if (p->group == ESPL_GROUP_LAYER) {
        st = prune_layer(&s, count, mask, ws);
    } else {
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < l->out; r++) {
            int32_t *keys = espl_workspace_scratch(ws);
            espl_scorer_keys(&s, r, keys);
            espl_select_n_m(keys, l->in, p->n, p->m, mask + r * s.words);
        }
    }
    espl_scorer_destroy(&s);
    return st;
}

int64_t espl_prune_linear_bytes(espl_score score, const espl_pattern *p, int64_t out, int64_t in) {
    int64_t bytes = espl_scorer_bytes(score, out, in), row = out * (int64_t)sizeof(int64_t);
    return espl_pattern_is_n_m(*p) ? bytes : bytes + row;
}
