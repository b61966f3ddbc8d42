/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of a file as the run's data. The file is hostile input: a checksum protects against damage, not against a
 * file that was made to harm. Every value is checked against its range, and every index against what it indexes, before
 * it is used; the message names file, dataset, row, column, found and expected.
 */
#include "records.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Where a value was read, for messages. */
typedef struct record_place {
    const char *path, *table;
    int64_t row; /* -1: the table has a single row */
} record_place;

static espl_status record_mismatch(const record_place *p, const char *column, const char *found, const char *expected) {
    if (p->row < 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": %s is %s, expected %s", p->path, p->table, column, found,
                         expected);
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 ": %s is %s, expected %s", p->path, p->table,
                     p->row, column, found, expected);
}

static espl_status record_check_range(const record_place *p, const char *column, int64_t v, int64_t lo, int64_t hi) {
    char found[32], expected[64];
    if (v >= lo && v <= hi) return ESPL_OK;
    snprintf(found, sizeof found, "%" PRId64, v);
    snprintf(expected, sizeof expected, "%" PRId64 " to %" PRId64, lo, hi);
    return record_mismatch(p, column, found, expected);
}

static espl_status record_bad_number(const record_place *p, const char *column, double v, const char *expected) {
    char found[32];
    snprintf(found, sizeof found, "%g", v);
    return record_mismatch(p, column, found, expected);
}

/* NaN stands for "not measured". */
static espl_status record_check_measure(const record_place *p, const char *column, double v) {
    return isnan(v) || v >= 0 ? ESPL_OK : record_bad_number(p, column, v, "0 or more, or NaN");
}

/* NaN stands for "not known". */
static espl_status record_check_estimate(const record_place *p, const char *column, double v) {
    return isnan(v) || isfinite(v) ? ESPL_OK : record_bad_number(p, column, v, "a number or NaN");
}

static espl_status record_check_fraction(const record_place *p, const char *column, double v) {
    return v >= 0 && v <= 1 ? ESPL_OK : record_bad_number(p, column, v, "0 to 1");
}

/* -------------------------------------------------------------- tables */

/* The rows must be those of this model's linears, in their order. The widths are known here for the first time: a file
 * of another model is told from a damaged one. */
static espl_status unpack_profile(const checkpoint_records *r, const espl_checkpoint_shape *shape, const char *path,
                                  espl_checkpoint *k) {
    record_place p = {path, "profile", -1};
    if (r->n_profile == 0) return ESPL_OK;
    espl_layout layout = espl_checkpoint_layout(shape);
    if (r->n_profile != espl_layout_linears(layout))
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"profile\" has %" PRId64 " rows, expected %" PRId64 " or none",
                         path, r->n_profile, espl_layout_linears(layout));
    ESPL_TRY(espl_mem_alloc(&k->rows, r->n_profile, sizeof *k->rows, "profile"));
    for (p.row = 0; p.row < r->n_profile; p.row++) {
        const profile_record *x = &r->profile[p.row];
        char name[RECORD_NAME_BYTES] = {0};
        int64_t kind = espl_linear_kind_of(layout, p.row), weights = shape->out[kind] * shape->in[kind];
        espl_linear_name(layout, p.row, name);
        if (x->layer != espl_linear_layer(layout, p.row) || memcmp(name, x->name, RECORD_NAME_BYTES) != 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 " is of another linear, expected %s", path,
                             p.table, p.row, name);
        if (x->weights != weights) /* the checksum held: the file is valid, but of a model of other widths */
            return ESPL_FAIL(ESPL_CONFIG, "%s is of another model: its %s has %" PRId64 " weights, expected %" PRId64,
                             path, name, x->weights, weights);
        ESPL_TRY(record_check_range(&p, "pruned", x->pruned, 0, weights));
        ESPL_TRY(record_check_measure(&p, "s", x->s));
        ESPL_TRY(record_check_measure(&p, "g", x->g));
        k->rows[p.row] = (espl_profile_row){.weights = x->weights,
                                            .pruned = x->pruned,
                                            .s = x->s,
                                            .g = x->g,
                                            .z_s = x->z_s,
                                            .z_g = x->z_g,
                                            .z_k = x->z_k};
        /* Not stored: measured again. */
        for (int q = 0; q < ESPL_DAMAGE_LEVELS; q++) k->rows[p.row].damage[q] = k->rows[p.row].damage_k[q] = NAN;
        for (int t = 0; t < ESPL_TOPICS; t++) k->rows[p.row].k[t] = k->rows[p.row].z_topic[t] = NAN;
    }
    return ESPL_OK;
}

/* Counts are limited by their totals, so that fractions computed from them stay in 0 to 1. */
static espl_status unpack_probe(const record_place *p, const probe_record *x, espl_quality *out) {
    ESPL_TRY(record_check_measure(p, "perplexity", x->perplexity));
    ESPL_TRY(record_check_measure(p, "nll", x->nll));
    ESPL_TRY(record_check_measure(p, "nll_stderr", x->nll_stderr));
    ESPL_TRY(record_check_measure(p, "answers", x->answers));
    ESPL_TRY(record_check_measure(p, "answers_stderr", x->answers_stderr));
    ESPL_TRY(record_check_range(p, "freebaseqa_total", x->freebaseqa_total, 0, INT64_MAX));
    ESPL_TRY(record_check_range(p, "freebaseqa_right", x->freebaseqa_right, 0, x->freebaseqa_total));
    ESPL_TRY(record_check_range(p, "mmlu_total", x->mmlu_total, 0, INT64_MAX));
    ESPL_TRY(record_check_range(p, "mmlu_right", x->mmlu_right, 0, x->mmlu_total));
    *out = (espl_quality){.perplexity = x->perplexity,
                          .nll = x->nll,
                          .nll_stderr = x->nll_stderr,
                          .answers = x->answers,
                          .answers_stderr = x->answers_stderr,
                          .freebaseqa_right = x->freebaseqa_right,
                          .freebaseqa_total = x->freebaseqa_total,
                          .mmlu_right = x->mmlu_right,
                          .mmlu_total = x->mmlu_total};
#define UNPACK_CATEGORY(column, topic)                                                                                 \
    ESPL_TRY(record_check_range(p, #column "_total", x->column##_total, 0, x->mmlu_total));                            \
    ESPL_TRY(record_check_range(p, #column "_right", x->column##_right, 0, x->column##_total));                        \
    out->mmlu_category_right[ESPL_TOPIC_##topic - ESPL_TOPIC_STEM] = x->column##_right;                                \
    out->mmlu_category_total[ESPL_TOPIC_##topic - ESPL_TOPIC_STEM] = x->column##_total;
    PROBE_CATEGORIES(UNPACK_CATEGORY)
#undef UNPACK_CATEGORY
    return ESPL_OK;
}

/* Replaces *out by bytes at .. at + bytes - 1 of history_text, as a C string. */
static espl_status unpack_text(const record_place *p, const espl_str *texts, int64_t at, int64_t bytes,
                               const char *column, char **out) {
    if (at < 0 || bytes < 0 || at > texts->len || bytes > texts->len - at)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: dataset \"%s\": row %" PRId64 ": %s is bytes %" PRId64 " + %" PRId64
                         ", expected to lie in the %" PRId64 " of \"history_text\"",
                         p->path, p->table, p->row, column, at, bytes, texts->len);
    const char *text = bytes > 0 ? texts->data + at : "";
    if (memchr(text, '\0', (size_t)bytes))
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\": row %" PRId64 ": %s holds a NUL, expected text", p->path,
                         p->table, p->row, column);
    espl_mem_free(out);
    return espl_str_ndup(out, text, bytes, "text of a decision");
}

/* Fills d->items with the n rows of /history_items from row `first` on, which the caller has checked to exist. */
static espl_status unpack_items(const checkpoint_records *r, int64_t first, int64_t n, int64_t linears,
                                int64_t iteration, const char *path, espl_decision *d) {
    record_place p = {path, "history_items", first};
    for (int64_t previous = -1; d->n < n; d->n++, p.row++) {
        const item_record *x = &r->items[p.row];
        espl_pattern pattern = {0};
        ESPL_TRY(record_check_range(&p, "iteration", x->iteration, iteration, iteration));
        ESPL_TRY(record_check_range(&p, "linear", x->linear, previous + 1, linears - 1)); /* ascending: each once */
        if (!(x->step > 0 && x->step <= 1)) return record_bad_number(&p, "step", x->step, "more than 0, at most 1");
        if (x->n != 0 || x->m != 0) {
            pattern = (espl_pattern){.group = ESPL_GROUP_N_M, .n = x->n, .m = x->m};
            if (espl_pattern_choice(pattern) < 0)
                return ESPL_FAIL(ESPL_FORMAT,
                                 "%s: dataset \"%s\": row %" PRId64 ": n of m is %" PRId64 " of %" PRId64
                                 ", expected 0 of 0, 2 of 4 or 4 of 8",
                                 path, p.table, p.row, x->n, x->m);
            if (x->step != espl_pattern_sparsity(pattern))
                return record_bad_number(&p, "step", x->step, "0.5, the sparsity of the pattern n:m");
        }
        d->items[d->n] = (espl_decision_item){.linear = x->linear, .step = x->step, .pattern = pattern};
        previous = x->linear;
    }
    return ESPL_OK;
}

/* Row p->row of /history, whose items start at row `first` of /history_items. */
static espl_status unpack_outcome(const record_place *p, const checkpoint_records *r, int64_t linears, int64_t first,
                                  espl_outcome *o) {
    const outcome_record *x = &r->history[p->row];
    espl_decision *d = &o->decision;
    int64_t after_previous = p->row > 0 ? r->history[p->row - 1].iteration + 1 : 1;
    ESPL_TRY(record_check_range(p, "iteration", x->iteration, after_previous, INT64_MAX / 2));
    ESPL_TRY(record_check_range(p, "accepted", x->accepted, 0, 1));
    ESPL_TRY(record_check_range(p, "stop", x->stop, 0, 1));
    ESPL_TRY(record_check_fraction(p, "sparsity_before", x->sparsity_before));
    ESPL_TRY(record_check_fraction(p, "sparsity_after", x->sparsity_after));
    if (!isnan(x->power)) ESPL_TRY(record_check_fraction(p, "power", x->power));
    ESPL_TRY(record_check_estimate(p, "expected_text", x->expected_text));
    ESPL_TRY(record_check_estimate(p, "expected_answers", x->expected_answers));
    o->iteration = x->iteration;
    o->accepted = x->accepted != 0;
    o->sparsity_before = x->sparsity_before;
    o->sparsity_after = x->sparsity_after;
    probe_record before, after;
#define UNPACK_COLUMN(member, kind) before.member = x->before_##member, after.member = x->after_##member;
    PROBE_FIELDS(UNPACK_COLUMN)
#undef UNPACK_COLUMN
    ESPL_TRY(unpack_probe(p, &before, &o->before));
    ESPL_TRY(unpack_probe(p, &after, &o->after));
    /* A decision names each linear at most once, and its items must exist: `first` rows are taken already. */
    ESPL_TRY(record_check_range(p, "items", x->items, 0, espl_min_i64(linears, r->n_items - first)));
    ESPL_TRY(espl_decision_init(d, x->items));
    d->stop = x->stop != 0;
    d->power = x->power;
    d->expected_text = x->expected_text;
    d->expected_answers = x->expected_answers;
    ESPL_TRY(unpack_items(r, first, x->items, linears, x->iteration, p->path, d));
    ESPL_TRY(unpack_text(p, &r->history_text, x->reason_at, x->reason_bytes, "reason", &d->reason));
    return unpack_text(p, &r->history_text, x->reflection_at, x->reflection_bytes, "reflection", &d->reflection);
}

/* Iterations ascend and end with the checkpoint's own, and all items belong to a row. */
static espl_status unpack_history(const checkpoint_records *r, int64_t linears, int64_t iteration, const char *path,
                                  espl_checkpoint *k) {
    record_place p = {path, "history", 0};
    int64_t items = 0, newest = iteration;
    ESPL_TRY(espl_mem_alloc(&k->history, r->n_history, sizeof *k->history, "history"));
    for (; p.row < r->n_history; p.row++) {
        k->n_history++; /* before the row is complete: espl_checkpoint_free must see what it already owns */
        ESPL_TRY(unpack_outcome(&p, r, linears, items, &k->history[p.row]));
        items += r->history[p.row].items;
        newest = r->history[p.row].iteration;
    }
    if (items != r->n_items)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"history_items\" has %" PRId64 " rows, expected %" PRId64, path,
                         r->n_items, items);
    if (newest != iteration)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"history\" ends with iteration %" PRId64 ", expected %" PRId64,
                         path, newest, iteration);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- whole */

espl_status espl_records_unpack(const checkpoint_records *r, const espl_checkpoint_shape *shape, int64_t iteration,
                                const char *path, espl_checkpoint *k) {
    record_place dense = {path, "probes/dense", -1}, last = {path, "probes/last", -1};
    ESPL_TRY(unpack_profile(r, shape, path, k));
    ESPL_TRY(unpack_history(r, espl_layout_linears(espl_checkpoint_layout(shape)), iteration, path, k));
    ESPL_TRY(unpack_probe(&dense, &r->dense, &k->dense));
    ESPL_TRY(unpack_probe(&last, &r->last, &k->last));
    espl_str_put(&k->agent, r->agent.data, r->agent.len);
    espl_str_put(&k->config, r->config.data, r->config.len);
    espl_str_put(&k->identity, r->identity.data, r->identity.len);
    ESPL_TRY(espl_str_status(&k->agent));
    ESPL_TRY(espl_str_status(&k->config));
    ESPL_TRY(espl_str_status(&k->identity));
    espl_str_put(&k->milestones, r->milestones.data, r->milestones.len);
    return espl_str_status(&k->milestones);
}

void espl_checkpoint_free(espl_checkpoint *k) {
    for (int64_t i = 0; k->history && i < k->n_history; i++) espl_decision_free(&k->history[i].decision);
    espl_mem_free(&k->history);
    k->n_history = 0;
    espl_mem_free(&k->rows);
    espl_str_free(&k->agent);
    espl_str_free(&k->config);
    espl_str_free(&k->identity);
    espl_str_free(&k->milestones);
}
