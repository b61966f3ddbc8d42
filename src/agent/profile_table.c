/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that the profile knows, in few tokens. The names are those that a reply must use. Lines of several linears keep a
 * model with thousands of experts, and a language model with a short context, readable.
 */
#include "profile_table.h"

#include "view.h"

#include "espalier/base/integer.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

/* A linear's price is the cost of adding this much sparsity. The system message names the number as well. */
static const double PRICED_STEP = 0.05;
/* Sparsities of a group that differ by less are one: zeros of the source differ everywhere. */
static const double RANGE_MIN = 0.001;

enum {
    EXPERTS_SHOWN = 3, /* of a layer and kind: those with the lowest price */
    LINEARS_SHOWN = 16 /* behind a table of groups */
};

typedef struct profile_table {
    espl_str *s;
    const espl_agent_view *v;
    bool knowledge, prices;
    double total; /* weights of all linears */
} profile_table;

/* Two decimals: more would only cost tokens. */
static void table_put_z(espl_str *s, double z) {
    if (isfinite(z))
        espl_str_printf(s, " %.2f", z);
    else
        espl_str_puts(s, " ?");
}

/* The price of a linear: nats to per cent of perplexity. */
static double table_price(const espl_agent_view *v, int64_t i) {
    double now = espl_row_sparsity(&v->rows[i]);
    return 100 * expm1(espl_view_damage(v, &v->rows[i], now + PRICED_STEP) - espl_view_damage(v, &v->rows[i], now));
}

/* Behind a linear's line, if it is not the general rule: what it may not exceed. */
static void table_put_cap(espl_str *s, const espl_agent_view *v, int64_t i) {
    double cap = espl_view_cap(v, i);
    if (cap == 0)
        espl_str_puts(s, " (not to be pruned)");
    else if (cap != v->budget.cap)
        espl_str_printf(s, " (at most %.6g)", cap);
}

static void table_put_linear(const profile_table *t, int64_t i) {
    char name[ESPL_LINEAR_NAME_MAX], pattern[ESPL_PATTERN_NAME_MAX];
    const espl_agent_view *v = t->v;
    const espl_profile_row *r = &v->rows[i];
    espl_str *s = t->s;
    espl_str_printf(s, "%s %.3g", espl_linear_name(v->layout, i, name), 100 * (double)r->weights / t->total);
    table_put_z(s, r->z_s);
    table_put_z(s, r->z_g);
    if (t->knowledge) table_put_z(s, r->z_k);
    espl_str_printf(s, " %.4g", espl_row_sparsity(r));
    if (t->prices) espl_str_printf(s, " %.3g", table_price(v, i));
    if (espl_pattern_is_n_m(espl_view_pattern(v, i)))
        espl_str_printf(s, " %s", espl_pattern_name(espl_view_pattern(v, i), pattern));
    table_put_cap(s, v, i);
    espl_str_puts(s, "\n");
}

/* --------------------------------------------------------------- groups */

/* Linears that share a line. */
typedef struct table_group {
    int64_t layer; /* -1: all */
    int kind;      /* -1: all */
} table_group;

static bool group_has(const table_group *g, const espl_agent_view *v, int64_t i) {
    return (g->layer < 0 || espl_linear_layer(v->layout, i) == g->layer) &&
           (g->kind < 0 || (int)espl_linear_kind_of(v->layout, i) == g->kind);
}

/* Mean of a z-score over the linears of a group that have it. */
static double group_mean_z(const table_group *g, const espl_agent_view *v, size_t offset) {
    double sum = 0, n = 0, z;
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        memcpy(&z, (const char *)&v->rows[i] + offset, sizeof z);
        if (!group_has(g, v, i) || !isfinite(z)) continue;
        sum += z;
        n++;
    }
    return n > 0 ? sum / n : NAN;
}

/* The linears of a group that are cheapest to prune, in order of the price per weight; the lower number first among
 * equals. Returns how many there are, at most n. */
static int64_t group_find_cheapest(const table_group *g, const espl_agent_view *v, int64_t *cheapest, int64_t n) {
    int64_t found = 0;
    double price[LINEARS_SHOWN];
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        if (!group_has(g, v, i) || espl_view_room(v, i) == 0) continue;
        double mine = table_price(v, i) / (double)v->rows[i].weights;
        int64_t place = found < n ? found++ : n;
        for (; place > 0 && mine < price[place - 1]; place--) {
            if (place >= n) continue;
            cheapest[place] = cheapest[place - 1];
            price[place] = price[place - 1];
        }
        if (place >= n) continue;
        cheapest[place] = i;
        price[place] = mine;
    }
    return found;
}

/* "layers.3.*", "layers.*.mlp.up_proj", "layers.3.mlp.experts.*.up_proj" */
static void group_put_name(const table_group *g, espl_layout l, espl_str *s) {
    espl_str_puts(s, "layers.");
    if (g->layer < 0)
        espl_str_puts(s, "*");
    else
        espl_str_printf(s, "%" PRId64, g->layer);
    espl_str_printf(s, ".%s", g->kind < 0 ? "*" : espl_linear_pattern(l, (espl_linear_kind)g->kind));
}

/* One line: sums of shares and prices, means of the rest, the range of sparsities, and what cannot be pruned. */
static void table_put_group(const profile_table *t, const table_group *g) {
    const espl_agent_view *v = t->v;
    espl_str *s = t->s;
    double weights = 0, pruned = 0, lo = 1, hi = 0, price = 0;
    int64_t closed = 0, patterned = 0, unseen = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        const espl_profile_row *r = &v->rows[i];
        if (!group_has(g, v, i)) continue;
        weights += (double)r->weights;
        pruned += (double)r->pruned;
        lo = fmin(lo, espl_row_sparsity(r));
        hi = fmax(hi, espl_row_sparsity(r));
        if (t->prices) price += table_price(v, i);
        unseen += espl_linear_expert(v->layout, i) >= 0 && r->tokens == 0;
        closed += espl_view_cap(v, i) == 0;
        patterned += espl_pattern_is_n_m(espl_view_pattern(v, i));
    }
    group_put_name(g, v->layout, s);
    espl_str_printf(s, " %.3g", 100 * weights / t->total);
    table_put_z(s, group_mean_z(g, v, offsetof(espl_profile_row, z_s)));
    table_put_z(s, group_mean_z(g, v, offsetof(espl_profile_row, z_g)));
    if (t->knowledge) table_put_z(s, group_mean_z(g, v, offsetof(espl_profile_row, z_k)));
    espl_str_printf(s, " %.4g", pruned / fmax(1, weights));
    if (t->prices) espl_str_printf(s, " %.3g", price);
    if (hi - lo >= RANGE_MIN) espl_str_printf(s, " (%.4g to %.4g)", lo, hi);
    if (patterned > 0) espl_str_printf(s, " (%" PRId64 " N:M)", patterned);
    if (closed > 0) espl_str_printf(s, " (%" PRId64 " not to be pruned)", closed);
    if (unseen > 0) espl_str_printf(s, " (%" PRId64 " saw no token)", unseen);
}

/* The line of a layer's experts of one kind; their numbers follow. */
static void table_put_experts(const profile_table *t, const table_group *g) {
    int64_t cheapest[EXPERTS_SHOWN];
    int64_t n = t->prices ? group_find_cheapest(g, t->v, cheapest, EXPERTS_SHOWN) : 0;
    table_put_group(t, g);
    for (int64_t k = 0; k < n; k++)
        espl_str_printf(t->s, "%s%" PRId64, k ? ", " : "; cheapest ", espl_linear_expert(t->v->layout, cheapest[k]));
    espl_str_puts(t->s, "\n");
}

/* ---------------------------------------------------------------- tables */

/* One line per linear, or per kind of the experts of a layer. */
static void table_put_linears(const profile_table *t) {
    espl_layout l = t->v->layout;
    if (l.experts > 0)
        espl_str_printf(
            t->s,
            "A line with a star is for all experts of a layer: their share%s together, means of the rest, and "
            "in brackets from what sparsity to what%s.\n",
            t->prices ? " and price" : "", t->prices ? "; then the experts whose price is lowest" : "");
    for (int64_t i = 0; i < espl_view_linears(t->v); i++) {
        int64_t expert = espl_linear_expert(l, i);
        if (expert < 0)
            table_put_linear(t, i);
        else if (expert == 0)
            table_put_experts(t, &(table_group){espl_linear_layer(l, i), (int)espl_linear_kind_of(l, i)});
    }
}

/* One line per kind and per layer; then single linears, which show how the others are named. */
static void table_put_groups(const profile_table *t) {
    espl_layout l = t->v->layout;
    int64_t cheapest[LINEARS_SHOWN];
    int64_t n = t->prices ? group_find_cheapest(&(table_group){-1, -1}, t->v, cheapest, LINEARS_SHOWN) : 0;
    espl_str_printf(t->s,
                    "A line with a star is for all linears that match, of which a plan may also name any alone, such "
                    "as \"%s\": their share%s together, means of the rest, and in brackets from what sparsity to "
                    "what.\n",
                    espl_view_example_linear(t->v), t->prices ? " and price" : "");
    for (int64_t k = 0; k < ESPL_LINEAR_KINDS + l.layers; k++) {
        bool kind = k < ESPL_LINEAR_KINDS;
        table_put_group(t, &(table_group){kind ? -1 : k - ESPL_LINEAR_KINDS, kind ? (int)k : -1});
        espl_str_puts(t->s, "\n");
    }
    if (n > 0) espl_str_puts(t->s, "The linears whose price is lowest for their share:\n");
    for (int64_t k = 0; k < n; k++) table_put_linear(t, cheapest[k]);
}

void espl_profile_table_put(espl_str *s, const espl_agent_view *v, bool paper, bool groups) {
    profile_table t = {.s = s,
                       .v = v,
                       .prices = !paper && espl_view_has_damage(v),
                       .knowledge = !paper && espl_view_has_knowledge(v),
                       .total = fmax(1, (double)espl_view_weights(v))};
    espl_str_printf(s, "\nProfiles (name, share of all weights in %%, z_s, z_g%s, sparsity%s%s):\n",
                    t.knowledge ? ", z_k" : "", t.prices ? ", price" : "", v->mixed ? ", pattern if it has one" : "");
    if (groups)
        table_put_groups(&t);
    else
        table_put_linears(&t);
}
