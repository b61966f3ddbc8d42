/* SPDX-License-Identifier: Apache-2.0 */
/* The distance between a name and what was typed for it. */
#include "espalier/base/typo.h"

#include <ctype.h>
#include <string.h>

static bool typo_same_letter(char a, char b) { return tolower((unsigned char)a) == tolower((unsigned char)b); }

static int typo_min(int a, int b) { return a < b ? a : b; }

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b ("optimal string alignment", Damerau
 * 1964), three rows of the table at a time. b has at most ESPL_TYPO_BYTES_MAX bytes. */
static int typo_distance(const char *a, const char *b) {
    int rows[3][ESPL_TYPO_BYTES_MAX + 1], n = (int)strlen(b);
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (int j = 0; j <= n; j++) above[j] = before[j] = j;
    for (int i = 0; a[i]; i++) {
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int cost = above[j] + !typo_same_letter(a[i], b[j]);
            cost = typo_min(cost, typo_min(row[j], above[j + 1]) + 1);
            if (i > 0 && j > 0 && typo_same_letter(a[i], b[j - 1]) && typo_same_letter(a[i - 1], b[j]))
                cost = typo_min(cost, before[j - 1] + 1);
            row[j + 1] = cost;
        }
        int *free_row = before;
        before = above;
        above = row;
        row = free_row;
    }
    return above[n];
}

int espl_typo_cost(const char *typed, const char *name) {
    size_t length = strlen(name);
    if (!*typed || strlen(typed) > ESPL_TYPO_BYTES_MAX || length > ESPL_TYPO_BYTES_MAX) return ESPL_TYPO_NONE;
    int distance = typo_distance(typed, name);
    return distance <= 1 + (int)length / 4 ? 2 * distance + !typo_same_letter(*typed, *name) : ESPL_TYPO_NONE;
}

bool espl_typo_nearer(const char *typed, const char *name, int *best) {
    int cost = espl_typo_cost(typed, name);
    if (cost >= *best) return false;
    *best = cost;
    return true;
}
