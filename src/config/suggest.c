/* SPDX-License-Identifier: Apache-2.0 */
/* Suggests the nearest option for an unknown name, and the nearest value for an unknown choice. */
#include "espalier/config/table.h"

#include <string.h>

#include "espalier/base/typo.h"

enum { WRONG_SECTION_COST = 4 /* as much as two typing errors in the key */ };

static const espl_option *nearest_option(const char *section, const char *key) {
    int best = ESPL_TYPO_NONE;
    const espl_option *found = NULL;
    for (const espl_option *row = espl_option_table; row < espl_option_table + ESPL_OPTIONS; row++) {
        int cost = espl_typo_cost(key, row->key) + (strcmp(row->section, section) == 0 ? 0 : WRONG_SECTION_COST);
        if (cost >= best) continue;
        best = cost;
        found = row;
    }
    return found;
}

static const char *nearest_section(const char *name) {
    int best = ESPL_TYPO_NONE;
    const char *found = NULL;
    for (int i = 0; i < ESPL_SECTIONS; i++) {
        if (espl_typo_nearer(name, espl_section_table[i].name, &best)) found = espl_section_table[i].name;
    }
    return found;
}

void espl_option_put_suggestion(espl_str *s, const char *section, const char *key) {
    bool known = espl_section_find(section) != NULL;
    const char *other = known ? NULL : nearest_section(section);
    const espl_option *row = *key ? nearest_option(other ? other : section, key) : NULL;
    if (!*key && !other) row = nearest_option("", section); /* an option that stands outside its section */
    if (row) {
        espl_str_printf(s, "did you mean %s.%s?", row->section, row->key);
    } else if (other) {
        espl_str_printf(s, "did you mean %s?", other);
    } else if (known) {
        const char *comma = "";
        espl_str_printf(s, "%s has: ", section);
        for (int i = 0; i < ESPL_OPTIONS; i++) {
            if (strcmp(espl_option_table[i].section, section) != 0) continue;
            espl_str_printf(s, "%s%s", comma, espl_option_table[i].key);
            comma = ", ";
        }
    } else {
        espl_str_puts(s, "sections are: ");
        for (int i = 0; i < ESPL_SECTIONS; i++) espl_str_printf(s, "%s%s", i ? ", " : "", espl_section_table[i].name);
    }
}

/* Names that the literature uses for what has another name here. */
static const struct {
    const char *section, *key, *published, *ours;
} published_names[] = {
    {"prune", "score", "wanda++", "rgs"},     {"prune", "score", "wanda-pp", "rgs"},
    {"prune", "score", "wandapp", "rgs"},     {"prune", "score", "hessian", "curvature"},
    {"prune", "score", "obd", "curvature"},   {"prune", "score", "gblm-pruner", "gblm"},
    {"prune", "score", "l1", "magnitude"},    {"prune", "update", "obs", "sparsegpt"},
    {"prune", "update", "false", "none"},     {"prune", "allocation", "layerwise", "uniform"},
    {"agent", "backend", "vllm", "openai"},   {"agent", "backend", "llm", "openai"},
    {"agent", "backend", "ollama", "openai"},
};

void espl_option_put_choice_suggestion(espl_str *s, const espl_option *row, const char *typed) {
    const char *nearest = NULL;
    if (row->type != ESPL_OPTION_CHOICE) return;
    for (size_t i = 0; i < sizeof published_names / sizeof *published_names; i++)
        if (strcmp(row->section, published_names[i].section) == 0 && strcmp(row->key, published_names[i].key) == 0 &&
            espl_typo_cost(typed, published_names[i].published) == 0)
            nearest = published_names[i].ours;
    int best = ESPL_TYPO_NONE;
    if (!nearest)
        for (const espl_choice *c = row->choices; c->name; c++)
            if (espl_typo_nearer(typed, c->name, &best)) nearest = c->name;
    if (nearest) espl_str_printf(s, "; did you mean \"%s\"?", nearest);
}
