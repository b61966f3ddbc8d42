/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the name that a mistyped one was meant to be. All functions are Local.
 *
 *     for (int i = 0, best = ESPL_TYPO_NONE; i < n; i++)
 *         if (espl_typo_nearer(typed, names[i], &best)) nearest = names[i];
 */
#ifndef ESPALIER_BASE_TYPO_H
#define ESPALIER_BASE_TYPO_H

#include <stdbool.h>

enum {
    ESPL_TYPO_BYTES_MAX = 48,                    /* longer than any name of ours, with room for typing errors */
    ESPL_TYPO_NONE = 2 * ESPL_TYPO_BYTES_MAX + 2 /* above the cost of any typing error */
};

/* The cost of taking `typed` for `name`: twice the number of letters inserted, deleted, replaced or swapped with their
 * neighbour, one more if the first letters differ, because people seldom mistype those. Upper and lower case count as
 * equal. More than one error in four letters is another word: ESPL_TYPO_NONE. */
int espl_typo_cost(const char *typed, const char *name);
/* True if `name` is nearer to `typed` than the names before it: its cost is below *best, which becomes that cost. */
bool espl_typo_nearer(const char *typed, const char *name, int *best);

#endif
