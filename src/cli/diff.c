/* SPDX-License-Identifier: Apache-2.0 */
/*
 * espalier diff: what two runs, or two checkpoints, made of the same model: measures, the sparsity of each linear, and
 * how far the masks agree. It reads checkpoints and summaries, and needs no model. Each rank compares the masks of a
 * part of the layers.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/checkpoint.h"
#include "espalier/config/config.h"
#include "espalier/run/job.h"
#include "espalier/run/model_identity.h"
#include "espalier/tensor/mask.h"
#include "options.h"

enum { SIDES = 2, OPTIONS_SHOWN = 64 };
static const char SIDE_NAMES[SIDES][2] = {"A", "B"};

typedef struct diff_options {
    cli_shared shared;
} diff_options;

static error_t diff_parse(int key, char *value, struct argp_state *state) {
    diff_options *o = state->input;
    (void)value;
    return key == ARGP_KEY_INIT ? cli_share(state, &o->shared) : ARGP_ERR_UNKNOWN;
}

static const struct argp_option diff_argp_options[] = {{0}};
static const struct argp_child diff_children[] = {
    {&cli_argp_json, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0}, {0}};
const struct argp cli_diff_argp = {
    .options = diff_argp_options,
    .parser = diff_parse,
    .args_doc = "A B",
    .doc = "Compares two runs, or two checkpoints: measures, sparsity of each linear, and how far the masks agree.\vA "
           "and B "
           "are run directories, of which the newest checkpoint is taken, or checkpoint files. The overlap is the "
           "number of "
           "weights that both prune, divided by the number that either prunes; beside it stands what masks without any "
           "relation would have.",
    .children = diff_children};

/* ------------------------------------------------------------------ sides */

/* Pruned weights of one linear. */
typedef struct diff_counts {
    int64_t weights, pruned[SIDES], both;
} diff_counts;

/* One of the two. Numbers are rank 0's. */
typedef struct diff_side {
    const char *operand; /* borrowed */
    espl_str path;       /* of the checkpoint, on every rank */
    espl_checkpoint content;
    espl_config config;
    espl_run_measures measures;
} diff_side;

typedef struct diff {
    diff_side sides[SIDES];
    espl_checkpoint_shape shape;
    uint64_t **masks[SIDES]; /* [slice linears] */
    uint64_t *bits[SIDES];   /* what they point into */
    diff_counts *counts;     /* [linears] on rank 0, [slice linears] elsewhere */
    espl_str options;        /* those that differ; rank 0 */
} diff;

static void diff_free(diff *d) {
    for (int s = 0; s < SIDES; s++) {
        espl_str_free(&d->sides[s].path);
        espl_checkpoint_free(&d->sides[s].content);
        espl_config_free(&d->sides[s].config);
        espl_mem_free(&d->masks[s]);
        espl_mem_free(&d->bits[s]);
    }
    espl_mem_free(&d->counts);
    espl_str_free(&d->options);
}

/* Collective. A run directory stands for its newest checkpoint that can be read. */
static espl_status side_find(espl_comm *c, diff_side *s) {
    struct stat info;
    espl_str checkpoints = {0};
    int64_t before = INT64_MAX;
    int directory = stat(s->operand, &info) == 0 && S_ISDIR(info.st_mode);
    espl_comm_broadcast(c, &directory, sizeof directory, 0);
    if (!directory) {
        espl_str_puts(&s->path, s->operand);
        return espl_comm_agree(c, espl_str_status(&s->path));
    }
    espl_str_printf(&checkpoints, "%s/checkpoints", s->operand);
    espl_status st = espl_comm_agree(c, espl_str_status(&checkpoints));
    if (st == ESPL_OK) st = espl_checkpoint_newest(c, checkpoints.data, &before, &s->path);
    if (st == ESPL_OK && s->path.len == 0) st = ESPL_FAIL(ESPL_IO, "%s: holds no checkpoint", s->operand);
    espl_str_free(&checkpoints);
    return st;
}

/* Rank 0 only. */
static espl_status side_read_records(diff_side *s) {
    const espl_str *text = &s->content.config;
    ESPL_TRY(espl_config_init(&s->config));
    ESPL_TRY(espl_config_parse(text->data ? text->data : "", text->len, s->path.data, &s->config));
    s->measures = espl_run_measures_of(s->path.data);
    return ESPL_OK;
}

/* ------------------------------------------------------------------ masks */

/* This rank's layers: an even part, since all layers are alike here. */
static espl_range diff_slice(const espl_comm *c, int64_t layers) {
    int64_t rank = espl_comm_rank(c), ranks = espl_comm_size(c);
    return (espl_range){layers * rank / ranks, layers * (rank + 1) / ranks};
}

/* Linears of this rank, and of the model. */
static int64_t diff_linears(const diff *d) {
    return espl_linear_index(espl_checkpoint_layout(&d->shape), espl_range_count(d->shape.slice), 0);
}
static int64_t diff_all_linears(const diff *d) { return espl_layout_linears(espl_checkpoint_layout(&d->shape)); }

/* Local. Room for the masks of both sides, and for the counts. */
static espl_status diff_make_room(diff *d, bool root) {
    int64_t n = diff_linears(d), words = 0, all = diff_all_linears(d);
    for (int64_t i = 0; i < n; i++) {
        int k = (int)espl_linear_kind_of(espl_checkpoint_layout(&d->shape), i);
        words += d->shape.out[k] * espl_mask_words(d->shape.in[k]);
    }
    ESPL_TRY(espl_mem_alloc(&d->counts, root ? all : n, sizeof *d->counts, "counts"));
    for (int s = 0; s < SIDES; s++) {
        ESPL_TRY(espl_mem_alloc(&d->masks[s], n, sizeof *d->masks[s], "masks"));
        ESPL_TRY(espl_mem_alloc(&d->bits[s], words, sizeof *d->bits[s], "masks"));
        uint64_t *at = d->bits[s];
        for (int64_t i = 0; i < n; i++) {
            int k = (int)espl_linear_kind_of(espl_checkpoint_layout(&d->shape), i);
            d->masks[s][i] = at;
            at += d->shape.out[k] * espl_mask_words(d->shape.in[k]);
        }
    }
    return ESPL_OK;
}

static void diff_count_linear(const diff *d, int64_t i, diff_counts *out) {
    int k = (int)espl_linear_kind_of(espl_checkpoint_layout(&d->shape), i);
    int64_t rows = d->shape.out[k], in = d->shape.in[k], words = rows * espl_mask_words(in), either = 0;
    const uint64_t *a = d->masks[0][i], *b = d->masks[1][i];
    for (int64_t w = 0; w < words; w++) either += __builtin_popcountll(a[w] | b[w]); /* kept by either */
    *out = (diff_counts){.weights = rows * in, .both = rows * in - either};
    out->pruned[0] = rows * in - espl_mask_count(a, rows, in);
    out->pruned[1] = rows * in - espl_mask_count(b, rows, in);
}

/* Collective. Leaves the counts of all linears on rank 0. */
static espl_status diff_count(espl_comm *c, diff *d) {
    int64_t n = diff_linears(d);
    diff_counts *mine = NULL;
    bool root = espl_comm_rank(c) == 0;
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&mine, n, sizeof *mine, "counts")));
    for (int64_t i = 0; i < n; i++) diff_count_linear(d, i, &mine[i]);
    espl_status st = espl_comm_gather_records(c, mine, n, sizeof *mine, diff_all_linears(d), root ? d->counts : NULL);
    espl_mem_free(&mine);
    return st;
}

/* --------------------------------------------------------------- reading */

static bool shape_equals(const espl_checkpoint_shape *a, const espl_checkpoint_shape *b) {
    return a->layers == b->layers && a->experts == b->experts && memcmp(a->out, b->out, sizeof a->out) == 0 &&
           memcmp(a->in, b->in, sizeof a->in) == 0;
}

/* Rank 0 only. Notes what makes a comparison of masks less than one: other weights below them. */
static espl_status diff_check_identities(const diff *d) {
    espl_str different = {0}, missing = {0};
    const espl_str *then = &d->sides[0].content.identity, *now = &d->sides[1].content.identity;
    espl_status st;
    ESPL_CHECK(st, done, espl_model_identity_compare(now, then, d->sides[0].path.data, &different, &missing));
    if (different.len > 0) ESPL_INFO("note: A and B are not of the same model and data: %s", different.data);
done:
    espl_str_free(&different);
    espl_str_free(&missing);
    return st;
}

/* Rank 0 only. */
static espl_status diff_read_records(diff *d) {
    unsigned classes = 1u << ESPL_RESUME_METHOD | 1u << ESPL_RESUME_IDENTITY | 1u << ESPL_RESUME_FREE;
    for (int s = 0; s < SIDES; s++) ESPL_TRY(side_read_records(&d->sides[s]));
    ESPL_TRY(diff_check_identities(d));
    return espl_config_differences(&d->sides[0].config, &d->sides[1].config, classes, OPTIONS_SHOWN, &d->options);
}

/* Collective. */
static espl_status diff_read(espl_comm *c, diff *d) {
    espl_checkpoint_shape other;
    bool root = espl_comm_rank(c) == 0;
    for (int s = 0; s < SIDES; s++) ESPL_TRY(side_find(c, &d->sides[s]));
    ESPL_TRY(espl_checkpoint_read_shape(c, d->sides[0].path.data, &d->shape));
    ESPL_TRY(espl_checkpoint_read_shape(c, d->sides[1].path.data, &other));
    if (!shape_equals(&d->shape, &other))
        return ESPL_FAIL(ESPL_CONFIG, "%s and %s are of models of different shapes: their masks cannot be compared",
                         d->sides[0].operand, d->sides[1].operand);
    d->shape.slice = diff_slice(c, d->shape.layers);
    ESPL_TRY(espl_comm_agree(c, diff_make_room(d, root)));
    for (int s = 0; s < SIDES; s++) {
        d->sides[s].content.masks = d->masks[s];
        ESPL_TRY(espl_checkpoint_read(c, d->sides[s].path.data, &d->shape, &d->sides[s].content));
    }
    ESPL_TRY(diff_count(c, d));
    return espl_comm_agree(c, root ? diff_read_records(d) : ESPL_OK);
}

/* --------------------------------------------------------------- measures */

typedef struct diff_measure {
    const char *key, *label;
    bool percent;
    double values[SIDES];
} diff_measure;

enum { MEASURES = 7 };

static void diff_measure_sides(const diff *d, diff_measure *out) {
    const diff_measure rows[MEASURES] = {{"sparsity", "sparsity of the linears", true, {0}},
                                         {"dense", "perplexity, validation, dense", false, {0}},
                                         {"validation", "perplexity, validation", false, {0}},
                                         {"answers", "loss of answers", false, {0}},
                                         {"test", "perplexity, test", false, {0}},
                                         {"mmlu", "MMLU", true, {0}},
                                         {"freebaseqa", "FreebaseQA, exact match", true, {0}}};
    int64_t linears = diff_all_linears(d);
    memcpy(out, rows, sizeof rows);
    for (int s = 0; s < SIDES; s++) {
        const diff_side *side = &d->sides[s];
        double pruned = 0, weights = 0;
        for (int64_t i = 0; i < linears; i++) {
            pruned += (double)d->counts[i].pruned[s];
            weights += (double)d->counts[i].weights;
        }
        const double values[MEASURES] = {pruned / weights,
                                         side->content.dense.perplexity,
                                         side->content.last.perplexity,
                                         side->content.last.answers,
                                         side->measures.test,
                                         side->measures.mmlu,
                                         side->measures.freebaseqa};
        for (int k = 0; k < MEASURES; k++) out[k].values[s] = values[k];
    }
}

static double counts_sparsity(const diff_counts *c, int side) { return (double)c->pruned[side] / (double)c->weights; }

/* Weights that both prune over those that either prunes; NaN where neither prunes any. */
static double counts_overlap(const diff_counts *c) {
    return (double)c->both / (double)(c->pruned[0] + c->pruned[1] - c->both);
}

/* The same of masks of these sparsities that have nothing to do with each other, for some linears together. */
static double counts_chance(const diff_counts *c, int64_t n) {
    double both = 0, either = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = counts_sparsity(&c[i], 0), b = counts_sparsity(&c[i], 1);
        both += a * b * (double)c[i].weights;
        either += (a + b - a * b) * (double)c[i].weights;
    }
    return both / either;
}

static diff_counts counts_sum(const diff_counts *c, int64_t n) {
    diff_counts sum = {0};
    for (int64_t i = 0; i < n; i++) {
        sum.weights += c[i].weights;
        sum.both += c[i].both;
        for (int s = 0; s < SIDES; s++) sum.pruned[s] += c[i].pruned[s];
    }
    return sum;
}

/* --------------------------------------------------------------- printing */

/* A column of 12 characters with a space before it. Percentages are given as fractions. `sign`: also of positive
 * numbers.
 */
static void diff_put_column(espl_str *s, double value, bool percent, bool sign) {
    char number[32] = "-";
    if (isfinite(value) && percent)
        snprintf(number, sizeof number, sign ? "%+.2f %%" : "%.2f %%", 100 * value);
    else if (isfinite(value))
        snprintf(number, sizeof number, sign ? "%+.4f" : "%.4f", value);
    espl_str_printf(s, " %12s", number);
}

static void diff_put_sides(espl_str *s, const char *label, const double *values, bool percent) {
    espl_str_printf(s, "%-30s", label);
    diff_put_column(s, values[0], percent, false);
    diff_put_column(s, values[1], percent, false);
    diff_put_column(s, values[1] - values[0], percent, true);
}

static void diff_put_linear(espl_str *s, const char *name, const diff_counts *c, double chance) {
    const double sparsities[SIDES] = {counts_sparsity(c, 0), counts_sparsity(c, 1)};
    diff_put_sides(s, name, sparsities, true);
    diff_put_column(s, counts_overlap(c), true, false);
    diff_put_column(s, chance, true, false);
    espl_str_puts(s, "\n");
}

static void diff_put_text(espl_str *out, const diff *d) {
    char name[ESPL_LINEAR_NAME_MAX];
    diff_measure measures[MEASURES];
    int64_t linears = diff_all_linears(d);
    for (int s = 0; s < SIDES; s++)
        espl_str_printf(out, "%s: %s, iteration %" PRId64 "\n", SIDE_NAMES[s], d->sides[s].path.data,
                        d->sides[s].content.iteration);
    if (d->options.len > 0) espl_str_printf(out, "different options: %s\n", d->options.data);
    espl_str_printf(out, "\n%-30s %12s %12s %12s\n", "", "A", "B", "B - A");
    diff_measure_sides(d, measures);
    for (int k = 0; k < MEASURES; k++) {
        if (!isfinite(measures[k].values[0]) && !isfinite(measures[k].values[1])) continue;
        diff_put_sides(out, measures[k].label, measures[k].values, measures[k].percent);
        espl_str_puts(out, "\n");
    }
    espl_str_printf(out, "\n%-30s %12s %12s %12s %12s %12s\n", "sparsity of", "A", "B", "B - A", "overlap",
                    "by chance");
    for (int64_t i = 0; i < linears; i++)
        diff_put_linear(out, espl_linear_name(espl_checkpoint_layout(&d->shape), i, name), &d->counts[i],
                        counts_chance(&d->counts[i], 1));
    diff_counts all = counts_sum(d->counts, linears);
    diff_put_linear(out, "all linears", &all, counts_chance(d->counts, linears));
}

static void diff_put_counts(espl_json_writer *w, const diff_counts *c, double chance) {
    espl_json_put_i64(w, "weights", c->weights);
    espl_json_put_i64(w, "pruned_a", c->pruned[0]);
    espl_json_put_i64(w, "pruned_b", c->pruned[1]);
    espl_json_put_i64(w, "pruned_both", c->both);
    espl_json_put_f64(w, "sparsity_a", counts_sparsity(c, 0));
    espl_json_put_f64(w, "sparsity_b", counts_sparsity(c, 1));
    espl_json_put_f64(w, "overlap", counts_overlap(c));
    espl_json_put_f64(w, "chance", chance);
}

/* Programs read this form: keys and their order stay. Numbers that are not known are null. */
static void diff_put_json(espl_str *out, const diff *d) {
    static const char *const keys[SIDES] = {"a", "b"};
    char name[ESPL_LINEAR_NAME_MAX];
    int64_t linears = diff_all_linears(d);
    diff_counts all = counts_sum(d->counts, linears);
    diff_measure measures[MEASURES];
    espl_json_writer w = espl_json_writer_on(out);
    diff_measure_sides(d, measures);
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    for (int s = 0; s < SIDES; s++) {
        espl_json_open_object(&w, keys[s], ESPL_JSON_SPACED);
        espl_json_put_text(&w, "checkpoint", d->sides[s].path.data);
        espl_json_put_i64(&w, "iteration", d->sides[s].content.iteration);
        for (int k = 0; k < MEASURES; k++) espl_json_put_f64(&w, measures[k].key, measures[k].values[s]);
        espl_json_close(&w);
    }
    espl_json_put_text(&w, "different_options", d->options.len > 0 ? d->options.data : "");
    espl_json_open_object(&w, "all", ESPL_JSON_SPACED);
    diff_put_counts(&w, &all, counts_chance(d->counts, linears));
    espl_json_close(&w);
    espl_json_open_object(&w, "linears", ESPL_JSON_LINES);
    for (int64_t i = 0; i < linears; i++) {
        espl_json_open_object(&w, espl_linear_name(espl_checkpoint_layout(&d->shape), i, name), ESPL_JSON_SPACED);
        diff_put_counts(&w, &d->counts[i], counts_chance(&d->counts[i], 1));
        espl_json_close(&w);
    }
    espl_json_close(&w);
    espl_json_close(&w);
    espl_str_puts(out, "\n");
}

/* Rank 0 only. */
static espl_status diff_print(const diff *d, bool json) {
    espl_str text = {0};
    if (json)
        diff_put_json(&text, d);
    else
        diff_put_text(&text, d);
    espl_status st = espl_str_status(&text);
    if (st == ESPL_OK) fwrite(text.data, 1, (size_t)text.len, stdout);
    espl_str_free(&text);
    return st;
}

espl_status cli_diff(espl_comm *c, int argc, char **argv) {
    diff_options o = {0};
    diff d = {0};
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_diff_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.second) return ESPL_FAIL(ESPL_USAGE, "diff: two run directories or checkpoints are needed");
    d.sides[0].operand = o.shared.operand;
    d.sides[1].operand = o.shared.second;
    ESPL_CHECK(st, done, diff_read(c, &d));
    st = espl_comm_agree(c, espl_comm_rank(c) == 0 ? diff_print(&d, o.shared.json) : ESPL_OK);
done:
    diff_free(&d);
    return st;
}
