/* The damage curves of a profile. */
#include "internal.h"

#include <math.h>

/* Can the curves of all linears be used? They are in nats, the power law is not: one or the other. */
bool espl_view_has_damage(const espl_agent_view *v) {
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        const double *d = v->rows[i].damage;
        double last = 0;
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) {
            if (!(d[k] >= last && d[k] < INFINITY)) return false;
            last = d[k];
        }
        if (last <= 0) return false;
    }
    return true;
}

/* Between its levels a curve is a power of the sparsity, below the first as between the first two. */
double espl_row_damage(const espl_profile_row *r, double sparsity) {
    const double *d = r->damage;
    double x = fmin(sparsity, 1) * ESPL_DAMAGE_LEVELS;
    int k = (int)x;
    if (x <= 0) return 0;
    if (k >= ESPL_DAMAGE_LEVELS) return d[ESPL_DAMAGE_LEVELS - 1];
    if (k == 0) return d[0] > 0 ? d[0] * pow(x, log2(d[1] / d[0])) : 0;
    if (d[k - 1] <= 0) return d[k] * (x - k);
    return d[k - 1] * pow(x / k, log(d[k] / d[k - 1]) / log((k + 1.0) / k));
}
