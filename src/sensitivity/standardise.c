#include "espalier/sensitivity.h"

#include <math.h>

/* Mean and population standard deviation of the finite values of one column, in order. */
static void moments(const espl_profile_row *rows, int64_t n, bool gradient, double *mean, double *deviation) {
    double sum = 0, square = 0, count = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = gradient ? rows[i].g : rows[i].s;
        if (!isfinite(x)) continue;
        sum += x;
        count++;
    }
    *mean = count > 0 ? sum / count : 0;
    for (int64_t i = 0; i < n; i++) {
        double x = gradient ? rows[i].g : rows[i].s;
        if (isfinite(x)) square += (x - *mean) * (x - *mean);
    }
    *deviation = count > 0 ? sqrt(square / count) : 0;
}

static double z_score(double x, double mean, double deviation) {
    return isfinite(x) ? (x - mean) / (deviation + 1e-12) : NAN;
}

void espl_sensitivity_standardise(espl_profile_row *rows, int64_t n) {
    double mean_s, deviation_s, mean_g, deviation_g;
    moments(rows, n, false, &mean_s, &deviation_s);
    moments(rows, n, true, &mean_g, &deviation_g);
    for (int64_t i = 0; i < n; i++) {
        rows[i].z_s = z_score(rows[i].s, mean_s, deviation_s);
        rows[i].z_g = z_score(rows[i].g, mean_g, deviation_g);
    }
}
