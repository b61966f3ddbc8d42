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

void espl_outcome_patterns(const espl_outcome *history, int64_t n, espl_pattern *patterns, int64_t linears) {
    memset(patterns, 0, (size_t)linears * sizeof *patterns);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; history[k].accepted && i < history[k].decision.n; i++) {
            const espl_decision_item *item = &history[k].decision.items[i];
            if (espl_pattern_is_n_m(item->pattern) && item->linear >= 0 && item->linear < linears)
                patterns[item->linear] = item->pattern;
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
