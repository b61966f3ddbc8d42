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

/* The x of z_k: the topics' own z-scores, since losses of different questions have different scales. */
static void standardise_mix_topics(espl_profile_row *rows, int64_t n) {
    bool present[ESPL_TOPICS] = {false};
    double weights[ESPL_TOPICS];
    for (int64_t i = 0; i < n; i++)
        for (int t = 0; t < ESPL_TOPICS; t++) present[t] = present[t] || isfinite(rows[i].k[t]);
    espl_topic_weights(present, weights);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0, seen = 0;
        for (int t = 0; t < ESPL_TOPICS; t++) {
            if (weights[t] == 0) continue;
            sum += weights[t] * rows[i].z_topic[t]; /* NAN, where no weight survives, stays NAN */
            seen += weights[t];
        }
        rows[i].z_k = seen > 0 ? sum : NAN;
    }
}

void espl_sensitivity_standardise(espl_profile_row *rows, int64_t n) {
    const size_t k = offsetof(espl_profile_row, k), z_k = offsetof(espl_profile_row, z_k);
    standardise_column(rows, n, offsetof(espl_profile_row, s), offsetof(espl_profile_row, z_s));
    standardise_column(rows, n, offsetof(espl_profile_row, g), offsetof(espl_profile_row, z_g));
    for (size_t t = 0; t < ESPL_TOPICS; t++)
        standardise_column(rows, n, k + t * sizeof(double), offsetof(espl_profile_row, z_topic) + t * sizeof(double));
    standardise_mix_topics(rows, n);
    standardise_column(rows, n, z_k, z_k);
}
