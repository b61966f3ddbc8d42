#include "espalier/loop/loop.h"

#include <stdlib.h>
#include <string.h>

static const char *const linear_paths[ESPL_LINEAR_KINDS] = {
#define X(name, path) path,
    ESPL_LINEAR_LIST(X)
#undef X
};

const char *espl_linear_path(espl_linear_kind kind) { return linear_paths[kind]; }

const char *espl_linear_name(int64_t index, char *buf) {
    snprintf(buf, 64, "layers.%lld.%s", (long long)espl_linear_layer(index),
             espl_linear_path(espl_linear_kind_of(index)));
    return buf;
}

int64_t espl_linear_parse(const char *name, int64_t layers) {
    if (strncmp(name, "model.", 6) == 0) name += 6;
    if (strncmp(name, "layers.", 7) != 0 || name[7] < '0' || name[7] > '9') return -1;
    char *end;
    long long layer = strtoll(name + 7, &end, 10);
    if (*end != '.' || layer < 0 || layer >= layers) return -1;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        if (strcmp(end + 1, linear_paths[k]) == 0) return espl_linear_index(layer, (espl_linear_kind)k);
    return -1;
}

typedef struct n_m {
    const char *text;
    int64_t stay, group;
} n_m;
static const n_m n_m_patterns[ESPL_N_M_COUNT] = {{"unstructured", 0, 0},
#define X(name, text, n, m) {text, n, m},
                                                 ESPL_N_M_LIST(X)
#undef X
};

const char *espl_n_m_name(espl_n_m p) { return n_m_patterns[p].text; }
int64_t espl_n_m_stay(espl_n_m p) { return n_m_patterns[p].stay; }
int64_t espl_n_m_group(espl_n_m p) { return n_m_patterns[p].group; }

bool espl_n_m_parse(const char *text, espl_n_m *out) {
    for (int p = ESPL_N_M_NONE + 1; p < ESPL_N_M_COUNT; p++)
        if (strcmp(text, n_m_patterns[p].text) == 0) return *out = (espl_n_m)p, true;
    return false;
}

bool espl_n_m_of(int64_t n, int64_t m, espl_n_m *out) {
    for (int p = 0; p < ESPL_N_M_COUNT; p++)
        if (n_m_patterns[p].stay == n && n_m_patterns[p].group == m) return *out = (espl_n_m)p, true;
    return false;
}

void espl_outcome_patterns(const espl_outcome *history, int64_t n, int64_t *patterns, int64_t linears) {
    memset(patterns, 0, (size_t)linears * sizeof *patterns);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; history[k].accepted && i < history[k].decision.n; i++) {
            const espl_decision_item *item = &history[k].decision.items[i];
            if (item->pattern && item->linear >= 0 && item->linear < linears) patterns[item->linear] = item->pattern;
        }
}

espl_status espl_decision_init(espl_decision *d, int64_t capacity) {
    *d = (espl_decision){0};
    espl_status st = espl_mem_alloc(&d->items, capacity, sizeof *d->items, "decision");
    if (st == ESPL_OK) st = espl_mem_alloc(&d->reason, 1, 1, "decision");
    if (st == ESPL_OK) st = espl_mem_alloc(&d->reflection, 1, 1, "decision");
    if (st != ESPL_OK) espl_decision_free(d);
    return st;
}

void espl_decision_free(espl_decision *d) {
    espl_mem_free(&d->items);
    espl_mem_free(&d->reason);
    espl_mem_free(&d->reflection);
    d->n = 0;
}
