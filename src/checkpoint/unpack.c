/* The tables of a file, value by value, as hostile input; then as the run's data. */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Where a value stands, for messages. */
typedef struct place {
    const char *path, *table;
    int64_t row; /* -1: the only one */
} place;

static espl_status wrong_integer(const place *p, const char *column, int64_t found, const char *expected) {
    if (p->row < 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": %s is %" PRId64 ", expected %s", p->path, p->table, column,
                         found, expected);
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 ": %s is %" PRId64 ", expected %s", p->path,
                     p->table, p->row, column, found, expected);
}

static espl_status wrong_number(const place *p, const char *column, double found, const char *expected) {
    if (p->row < 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": %s is %g, expected %s", p->path, p->table, column, found,
                         expected);
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 ": %s is %g, expected %s", p->path, p->table,
                     p->row, column, found, expected);
}

static espl_status in_range(const place *p, const char *column, int64_t v, int64_t lo, int64_t hi) {
    char expected[64];
    if (v >= lo && v <= hi) return ESPL_OK;
    snprintf(expected, sizeof expected, "%" PRId64 " to %" PRId64, lo, hi);
    return wrong_integer(p, column, v, expected);
}

/* NaN stands for "not known". */
static espl_status not_negative(const place *p, const char *column, double v) {
    return isnan(v) || v >= 0 ? ESPL_OK : wrong_number(p, column, v, "0 or more, or NaN");
}

static espl_status fraction(const place *p, const char *column, double v) {
    return v >= 0 && v <= 1 ? ESPL_OK : wrong_number(p, column, v, "0 to 1");
}

/* -------------------------------------------------------------- profile */

static espl_status check_profile_row(const place *p, const profile_record *x, const espl_checkpoint_shape *shape) {
    char name[NAME_BYTES] = {0};
    int64_t kind = p->row % ESPL_LINEAR_KINDS, weights = shape->out[kind] * shape->in[kind];
    espl_linear_name(p->row, name);
    if (x->layer != espl_linear_layer(p->row) || memcmp(name, x->name, NAME_BYTES) != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 " is of another linear, expected %s", p->path,
                         p->table, p->row, name);
    if (x->weights != weights) /* the checksum was right */
        return ESPL_FAIL(ESPL_CONFIG, "%s is of another model: its %s has %" PRId64 " weights, and this one's %" PRId64,
                         p->path, name, x->weights, weights);
    ESPL_TRY(in_range(p, "pruned", x->pruned, 0, weights));
    ESPL_TRY(not_negative(p, "s", x->s));
    return not_negative(p, "g", x->g);
}

static espl_status unpack_profile(const records *r, const espl_checkpoint_shape *shape, const char *path,
                                  espl_checkpoint *k) {
    place p = {path, "profile", -1};
    if (r->n_profile == 0) return ESPL_OK;
    if (r->n_profile != shape->layers * ESPL_LINEAR_KINDS)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"profile\" has %" PRId64 " rows, expected %" PRId64 " or none",
                         path, r->n_profile, shape->layers * ESPL_LINEAR_KINDS);
    ESPL_TRY(espl_mem_alloc(&k->rows, r->n_profile, sizeof *k->rows, "profile"));
    for (p.row = 0; p.row < r->n_profile; p.row++) {
        const profile_record *x = &r->profile[p.row];
        ESPL_TRY(check_profile_row(&p, x, shape));
        k->rows[p.row] = (espl_profile_row){x->weights, x->pruned, x->s, x->g, x->z_s, x->z_g, {0}};
        for (int q = 0; q < ESPL_DAMAGE_LEVELS; q++) k->rows[p.row].damage[q] = NAN; /* not kept: measured anew */
    }
    return ESPL_OK;
}

/* --------------------------------------------------------------- probes */

static espl_status unpack_probe(const place *p, const probe_record *x, espl_probe *out) {
    ESPL_TRY(not_negative(p, "perplexity", x->perplexity));
    ESPL_TRY(not_negative(p, "nll", x->nll));
    ESPL_TRY(not_negative(p, "nll_stderr", x->nll_stderr));
    ESPL_TRY(in_range(p, "freebaseqa_total", x->freebaseqa_total, 0, INT64_MAX));
    ESPL_TRY(in_range(p, "freebaseqa_right", x->freebaseqa_right, 0, x->freebaseqa_total));
    ESPL_TRY(in_range(p, "mmlu_total", x->mmlu_total, 0, INT64_MAX));
    ESPL_TRY(in_range(p, "mmlu_right", x->mmlu_right, 0, x->mmlu_total));
    *out = (espl_probe){x->perplexity,       x->nll,        x->nll_stderr, x->freebaseqa_right,
                        x->freebaseqa_total, x->mmlu_right, x->mmlu_total};
    return ESPL_OK;
}

/* -------------------------------------------------------------- history */

/* A piece of the pool as an owned C string. */
static espl_status take_text(const place *p, const espl_str *pool, int64_t at, int64_t bytes, const char *column,
                             char **out) {
    if (at < 0 || bytes < 0 || at > pool->len || bytes > pool->len - at)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: dataset \"%s\": row %" PRId64 ": %s is bytes %" PRId64 " + %" PRId64
                         ", expected to lie in the %" PRId64 " of \"history_text\"",
                         p->path, p->table, p->row, column, at, bytes, pool->len);
    if (bytes > 0 && memchr(pool->data + at, '\0', (size_t)bytes))
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 ": %s holds a NUL, expected text", p->path,
                         p->table, p->row, column);
    ESPL_TRY(espl_mem_resize(out, bytes + 1, 1, "text of a decision"));
    if (bytes > 0) memcpy(*out, pool->data + at, (size_t)bytes);
    (*out)[bytes] = '\0';
    return ESPL_OK;
}

static espl_status take_pattern(const place *p, const item_record *x, espl_pattern *out) {
    espl_pattern pattern = {0};
    if (x->n != 0 || x->m != 0) pattern = (espl_pattern){ESPL_GROUP_N_M, x->n, x->m};
    if (espl_pattern_is_n_m(pattern) && espl_pattern_choice(pattern) < 0)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: dataset \"%s\": row %" PRId64 ": n of m is %" PRId64 " of %" PRId64
                         ", expected 0 of 0, 2 of 4 or 4 of 8",
                         p->path, p->table, p->row, x->n, x->m);
    if (espl_pattern_is_n_m(pattern) && x->step != espl_pattern_sparsity(pattern))
        return wrong_number(p, "step", x->step, "0.5, as n of m says");
    *out = pattern;
    return ESPL_OK;
}

/* The decision's items[0 .. n), the first of them in row `first` of /history_items. */
static espl_status take_items(const records *r, int64_t first, int64_t layers, int64_t iteration, const char *path,
                              espl_decision *d, int64_t n) {
    place p = {path, "history_items", first};
    for (int64_t last = -1; d->n < n; d->n++, p.row++) {
        const item_record *x = &r->items[p.row];
        ESPL_TRY(in_range(&p, "iteration", x->iteration, iteration, iteration));
        ESPL_TRY(in_range(&p, "linear", x->linear, last + 1, layers * ESPL_LINEAR_KINDS - 1));
        if (!(x->step > 0 && x->step <= 1)) return wrong_number(&p, "step", x->step, "more than 0, at most 1");
        d->items[d->n] = (espl_decision_item){.linear = x->linear, .step = x->step};
        ESPL_TRY(take_pattern(&p, x, &d->items[d->n].pattern));
        last = x->linear;
    }
    return ESPL_OK;
}

static espl_status take_decision(const place *p, const records *r, const espl_checkpoint_shape *shape, int64_t first,
                                 espl_decision *d) {
    const outcome_record *x = &r->history[p->row];
    int64_t most = shape->layers * ESPL_LINEAR_KINDS;
    ESPL_TRY(in_range(p, "items", x->items, 0, most < r->n_items - first ? most : r->n_items - first));
    ESPL_TRY(in_range(p, "stop", x->stop, 0, 1));
    ESPL_TRY(espl_decision_init(d, x->items));
    d->stop = x->stop != 0;
    ESPL_TRY(take_items(r, first, shape->layers, x->iteration, p->path, d, x->items));
    ESPL_TRY(take_text(p, &r->history_text, x->reason_at, x->reason_bytes, "reason", &d->reason));
    return take_text(p, &r->history_text, x->reflection_at, x->reflection_bytes, "reflection", &d->reflection);
}

static espl_status take_outcome(const place *p, const records *r, const espl_checkpoint_shape *shape, int64_t first,
                                espl_outcome *o) {
    const outcome_record *x = &r->history[p->row];
    probe_record before, after;
    memcpy(&before, &x->before_perplexity, sizeof before);
    memcpy(&after, &x->after_perplexity, sizeof after);
    ESPL_TRY(
        in_range(p, "iteration", x->iteration, p->row > 0 ? r->history[p->row - 1].iteration + 1 : 1, INT64_MAX / 2));
    ESPL_TRY(in_range(p, "accepted", x->accepted, 0, 1));
    ESPL_TRY(fraction(p, "sparsity_before", x->sparsity_before));
    ESPL_TRY(fraction(p, "sparsity_after", x->sparsity_after));
    o->iteration = x->iteration;
    o->accepted = x->accepted != 0;
    o->sparsity_before = x->sparsity_before;
    o->sparsity_after = x->sparsity_after;
    ESPL_TRY(unpack_probe(p, &before, &o->before));
    ESPL_TRY(unpack_probe(p, &after, &o->after));
    return take_decision(p, r, shape, first, &o->decision);
}

static espl_status unpack_history(const records *r, const espl_checkpoint_shape *shape, int64_t iteration,
                                  const char *path, espl_checkpoint *k) {
    place p = {path, "history", 0};
    int64_t taken = 0;
    ESPL_TRY(espl_mem_alloc(&k->history, r->n_history, sizeof *k->history, "history"));
    for (; p.row < r->n_history; p.row++) {
        k->n_history++; /* first, so that freeing sees this one, too */
        ESPL_TRY(take_outcome(&p, r, shape, taken, &k->history[p.row]));
        taken += r->history[p.row].items;
    }
    if (taken != r->n_items)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"history_items\" has %" PRId64 " rows, expected %" PRId64, path,
                         r->n_items, taken);
    int64_t newest = r->n_history > 0 ? r->history[r->n_history - 1].iteration : iteration;
    if (newest == iteration) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"history\" ends with iteration %" PRId64 ", expected %" PRId64, path,
                     newest, iteration);
}

/* ---------------------------------------------------------------- whole */

static espl_status take_str(const espl_str *from, espl_str *to) {
    espl_str_put(to, from->data ? from->data : "", from->len);
    return espl_str_status(to);
}

espl_status espl_records_unpack(const records *r, const espl_checkpoint_shape *shape, int64_t iteration,
                                const char *path, espl_checkpoint *k) {
    place dense = {path, "probes/dense", -1}, last = {path, "probes/last", -1};
    ESPL_TRY(unpack_profile(r, shape, path, k));
    ESPL_TRY(unpack_history(r, shape, iteration, path, k));
    ESPL_TRY(unpack_probe(&dense, &r->dense, &k->dense));
    ESPL_TRY(unpack_probe(&last, &r->last, &k->last));
    ESPL_TRY(take_str(&r->agent, &k->agent));
    ESPL_TRY(take_str(&r->config, &k->config));
    return take_str(&r->identity, &k->identity);
}

void espl_checkpoint_free(espl_checkpoint *k) {
    for (int64_t i = 0; k->history && i < k->n_history; i++) espl_decision_free(&k->history[i].decision);
    espl_mem_free(&k->history);
    k->n_history = 0;
    espl_mem_free(&k->rows);
    espl_str_free(&k->agent);
    espl_str_free(&k->config);
    espl_str_free(&k->identity);
}
