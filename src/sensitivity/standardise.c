/* SPDX-License-Identifier: Apache-2.0 */
/*
 * z-scores of the profile's columns. Sums run in row order in double, so that they do not depend on who holds the rows.
 */
#include <math.h>
#include <stddef.h>

#include "espalier/sensitivity.h"

/* A double of a row, by its offset. */
static double *column_of(espl_profile_row *row, size_t offset) { return (double *)(void *)((char *)row + offset); }

/* z = (x - mean) / (deviation + 1e-12) over the rows with a finite x; NAN in the others. x, z: offsets in a row. */
static void standardise_column(espl_profile_row *rows, int64_t n, size_t x, size_t z) {
    static const double TINY = 1e-12; /* all x equal: z = 0, not 0 / 0 */
    double sum = 0, squares = 0, count = 0;
    for (int64_t i = 0; i < n; i++) {
        double value = *column_of(&rows[i], x);
        if (!isfinite(value)) continue;
        sum += value;
        count++;
    }
    double mean = count > 0 ? sum / count : 0;
    for (int64_t i = 0; i < n; i++) {
        double value = *column_of(&rows[i], x);
        if (isfinite(value)) squares += (value - mean) * (value - mean);
    }
    double deviation = count > 0 ? sqrt(squares / count) : 0;
    for (int64_t i = 0; i < n; i++) {
        double value = *column_of(&rows[i], x);
        *column_of(&rows[i], z) = isfinite(value) ? (value - mean) / (deviation + TINY) : NAN;
    }
}

void espl_sensitivity_standardise(espl_profile_row *rows, int64_t n) {
    standardise_column(rows, n, offsetof(espl_profile_row, s), offsetof(espl_profile_row, z_s));
    standardise_column(rows, n, offsetof(espl_profile_row, g), offsetof(espl_profile_row, z_g));
}
