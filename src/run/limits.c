/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of patterns of linears: "*.down_proj,layers.0.*", with caps "*.down_proj=0.5,layers.0.*=0.3". */
#include "limits.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *limits_trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    return text;
}

/* The cap behind "=", NAN if it is none. */
static double limits_number(char *text) {
    char *end, *digits = text ? limits_trim(text) : NULL;
    double cap = digits ? strtod(digits, &end) : NAN;
    return digits && *digits && !*end && cap >= 0 && cap <= 1 ? cap : NAN;
}

/* Sets caps of the linears that each pattern of a list matches, to `cap`, or if that is NAN to the number behind "=".
 */
static espl_status limits_apply(const char *key, const char *list, espl_layout layout, double cap, double *caps) {
    char *copy;
    espl_status st = ESPL_OK;
    if (!*list) return ESPL_OK;
    ESPL_TRY(espl_str_dup(&copy, list, key));
    for (char *item, *rest = copy; st == ESPL_OK && (item = strsep(&rest, ","));) {
        char *value = item;
        int64_t matches = 0;
        if (isnan(cap)) strsep(&value, "=");
        double set = isnan(cap) ? limits_number(value) : cap;
        const char *pattern = limits_trim(item);
        for (int64_t i = 0; i < espl_layout_linears(layout); i++) {
            if (!espl_linear_matches(layout, i, pattern)) continue;
            caps[i] = set;
            matches++;
        }
        if (isnan(set))
            st = ESPL_FAIL(ESPL_CONFIG, "%s: \"%s\" has no cap from 0 to 1, expected such as *.down_proj=0.5", key,
                           pattern);
        else if (matches == 0)
            st = ESPL_FAIL(ESPL_CONFIG,
                           "%s: \"%s\" matches no linear of the model, expected such as *.down_proj or layers.0.*", key,
                           pattern);
    }
    espl_mem_free(&copy);
    return st;
}

bool espl_limits_are_set(const espl_config *o) { return *o->prune_targets || *o->prune_ignore || *o->prune_caps; }

espl_status espl_limits_read(const espl_config *o, espl_layout layout, double *caps) {
    int64_t linears = espl_layout_linears(layout), open = 0;
    double *chosen;
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&chosen, linears, sizeof *chosen, "linears to prune"));
    for (int64_t i = 0; i < linears; i++) {
        caps[i] = o->prune_cap;
        chosen[i] = *o->prune_targets ? 0 : 1;
    }
    ESPL_CHECK(st, done, limits_apply("prune.caps", o->prune_caps, layout, NAN, caps));
    ESPL_CHECK(st, done, limits_apply("prune.targets", o->prune_targets, layout, 1, chosen));
    ESPL_CHECK(st, done, limits_apply("prune.ignore", o->prune_ignore, layout, 0, chosen));
    for (int64_t i = 0; i < linears; i++) {
        if (chosen[i] == 0) caps[i] = 0;
        open += caps[i] > 0;
    }
    if (open == 0)
        st = ESPL_FAIL(ESPL_CONFIG, "prune.targets, prune.ignore and prune.caps leave no linear that may be pruned");
done:
    espl_mem_free(&chosen);
    return st;
}
