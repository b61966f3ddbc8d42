/* SPDX-License-Identifier: Apache-2.0 */
/* Suggests the nearest option for an unknown name. */
#include "espalier/config/table.h"

#include <string.h>

enum {
    NAME_BYTES_MAX = 48, /* longer than any name of ours, with room for typing errors */
    NOT_A_TYPO = NAME_BYTES_MAX,
    WRONG_SECTION_COST = 4 /* as much as two typing errors in the key */
};

/* Insertions, deletions and replacements that turn a into b (Levenshtein 1966), one row of the table at a time. b has
 * at most NAME_BYTES_MAX bytes. */
static int edit_distance(const char *a, const char *b) {
    int row[NAME_BYTES_MAX + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            int shifted = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            row[j + 1] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[n];
}

/* Cost of taking `typed` for `name`: twice the edit distance, one more if the first letters differ, because people
 * seldom mistype those. More than one error in four letters is another word: NOT_A_TYPO. */
static int typo_cost(const char *typed, const char *name) {
    if (!*typed || strlen(typed) > NAME_BYTES_MAX) return NOT_A_TYPO;
    int distance = edit_distance(typed, name);
    return distance <= 1 + (int)strlen(name) / 4 ? 2 * distance + (*typed != *name) : NOT_A_TYPO;
}

static const espl_option *nearest_option(const char *section, const char *key) {
    int best = NOT_A_TYPO;
    const espl_option *found = NULL;
    for (const espl_option *row = espl_option_table; row < espl_option_table + ESPL_OPTIONS; row++) {
        int cost = typo_cost(key, row->key) + (strcmp(row->section, section) == 0 ? 0 : WRONG_SECTION_COST);
        if (cost >= best) continue;
        best = cost;
        found = row;
    }
    return found;
}

static const char *nearest_section(const char *name) {
    int best = NOT_A_TYPO;
    const char *found = NULL;
    for (int i = 0; i < ESPL_SECTIONS; i++) {
        int cost = typo_cost(name, espl_section_table[i].name);
        if (cost >= best) continue;
        best = cost;
        found = espl_section_table[i].name;
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
