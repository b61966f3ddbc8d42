/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events.jsonl: what happened in a run, for programs that analyse it. A line is written when its phase is over and
 * before the checkpoint of its step; on resume the journal cuts off what the checkpoint does not cover, so no step
 * appears twice, and writes again what was lost although the checkpoint covers it.
 */
#include "events.h"

#include <math.h>
#include <string.h>

#include "espalier/agent/reply.h"
#include "espalier/model/shape.h"

/* Questions appear only where some were asked: a missing member is not a score of 0. */
static void event_put_count(espl_json_writer *w, const char *key, int64_t right, int64_t total) {
    if (total == 0) return;
    espl_json_open_array(w, key, ESPL_JSON_COMPACT);
    espl_json_put_i64(w, NULL, right);
    espl_json_put_i64(w, NULL, total);
    espl_json_close(w);
}

static void event_put_quality(espl_json_writer *w, const char *key, const espl_quality *q) {
    const struct {
        const char *key;
        int64_t right, total;
    } questions[] = {{"mmlu", q->mmlu_right, q->mmlu_total}, {"freebaseqa", q->freebaseqa_right, q->freebaseqa_total}};
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_f64(w, "perplexity", q->perplexity);
    espl_json_put_f64(w, "nll", q->nll);
    espl_json_put_f64(w, "nll_stderr", q->nll_stderr);
    if (isfinite(q->answers)) espl_json_put_f64(w, "answers", q->answers);
    if (isfinite(q->answers)) espl_json_put_f64(w, "answers_stderr", q->answers_stderr);
    for (int i = 0; i < 2; i++) event_put_count(w, questions[i].key, questions[i].right, questions[i].total);
    for (int c = 0; c < ESPL_MMLU_TOPICS; c++)
        event_put_count(w, espl_topic_name((espl_topic)(ESPL_TOPIC_STEM + c)), q->mmlu_category_right[c],
                        q->mmlu_category_total[c]);
    espl_json_close(w);
}

espl_status espl_event_text(espl_job *j, const char *type, const char *text) {
    espl_str line = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, j->iteration, type);
    espl_json_put_text(&w, "text", text ? text : "");
    return espl_journal_end(j->events, &w);
}

espl_status espl_event_start(espl_job *j, bool resumed) {
    espl_str line = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, j->iteration, resumed ? "resume" : "start");
    espl_json_put_i64(&w, "ranks", espl_comm_size(j->comm));
    espl_json_put_i64(&w, "threads", espl_tensor_threads());
    espl_json_put_i64(&w, "layers", j->config.layers);
    if (j->config.experts > 0) espl_json_put_i64(&w, "experts", j->config.experts);
    espl_json_put_i64(&w, "weights", j->weights);
    espl_json_put_i64(&w, "pruned", j->pruned);
    event_put_quality(&w, "dense", &j->dense);
    return espl_journal_end(j->events, &w);
}

espl_status espl_event_curvature_power(espl_job *j, const double *powers, const double *losses, int64_t n) {
    espl_str line = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, j->iteration, "curvature_power");
    espl_json_put_f64(&w, "power", j->curvature_power);
    espl_json_open_array(&w, "powers", ESPL_JSON_COMPACT);
    for (int64_t i = 0; i < n; i++) espl_json_put_f64(&w, NULL, powers[i]);
    espl_json_close(&w);
    espl_json_open_array(&w, "nll", ESPL_JSON_COMPACT);
    for (int64_t i = 0; i < n; i++) espl_json_put_f64(&w, NULL, losses[i]);
    espl_json_close(&w);
    return espl_journal_end(j->events, &w);
}

/* A column of the profile: the double at this offset of each row. Columns of what was not measured are left out, but
 * for those of the paper. */
static void event_put_column(espl_json_writer *w, const espl_job *j, const char *key, size_t offset, bool always) {
    bool measured = always;
    double value;
    for (int64_t i = 0; i < j->linears && !measured; i++) {
        memcpy(&value, (const char *)&j->rows[i] + offset, sizeof value);
        measured = isfinite(value);
    }
    if (!measured) return;
    espl_json_open_array(w, key, ESPL_JSON_COMPACT);
    for (int64_t i = 0; i < j->linears; i++) {
        memcpy(&value, (const char *)&j->rows[i] + offset, sizeof value);
        espl_json_put_f64(w, NULL, value);
    }
    espl_json_close(w);
}

espl_status espl_event_profile(espl_job *j) {
    static const struct {
        const char *key;
        size_t offset;
        bool always;
    } columns[] = {{"s", offsetof(espl_profile_row, s), true},
                   {"g", offsetof(espl_profile_row, g), true},
                   {"z_s", offsetof(espl_profile_row, z_s), true},
                   {"z_g", offsetof(espl_profile_row, z_g), true},
                   {"damage_half", offsetof(espl_profile_row, damage[ESPL_DAMAGE_LEVELS / 2 - 1]), true},
                   {"z_k", offsetof(espl_profile_row, z_k), false},
                   {"damage_k_half", offsetof(espl_profile_row, damage_k[ESPL_DAMAGE_LEVELS / 2 - 1]), false}};
    espl_str line = {0};
    char key[64];
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, j->iteration + 1, "profile");
    espl_json_open_array(&w, "sparsity", ESPL_JSON_COMPACT); /* arrays are in the order of espl_linear_index */
    for (int64_t i = 0; i < j->linears; i++)
        espl_json_put_f64(&w, NULL, (double)j->rows[i].pruned / (double)j->rows[i].weights);
    espl_json_close(&w);
    for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
        event_put_column(&w, j, columns[k].key, columns[k].offset, columns[k].always);
    if (j->config.experts > 0) { /* how many tokens of the calibration text came to each linear */
        espl_json_open_array(&w, "tokens", ESPL_JSON_COMPACT);
        for (int64_t i = 0; i < j->linears; i++) espl_json_put_i64(&w, NULL, j->rows[i].tokens);
        espl_json_close(&w);
    }
    for (int t = 0; t < ESPL_TOPICS; t++) {
        size_t topic = (size_t)t * sizeof(double);
        snprintf(key, sizeof key, "k_%s", espl_topic_name((espl_topic)t));
        event_put_column(&w, j, key, offsetof(espl_profile_row, k) + topic, false);
        snprintf(key, sizeof key, "z_k_%s", espl_topic_name((espl_topic)t));
        event_put_column(&w, j, key, offsetof(espl_profile_row, z_topic) + topic, false);
    }
    return espl_journal_end(j->events, &w);
}

/* What was tried, what was expected, and what came of it: the members of an outcome that a checkpoint remembers, too.
 */
static espl_status event_put_tried(espl_json_writer *w, const espl_job *j, const espl_outcome *o) {
    espl_str decision = {0};
    espl_json_put_f64(w, "sparsity_before", o->sparsity_before);
    espl_json_put_f64(w, "sparsity_after", o->sparsity_after);
    event_put_quality(w, "before", &o->before);
    event_put_quality(w, "after", &o->after);
    if (isfinite(o->decision.expected_text)) espl_json_put_f64(w, "expected_nll", o->decision.expected_text);
    if (isfinite(o->decision.expected_answers)) espl_json_put_f64(w, "expected_answers", o->decision.expected_answers);
    espl_reply_put(&decision, espl_model_layout(&j->config), &o->decision);
    espl_status st = espl_str_status(&decision);
    if (st == ESPL_OK) espl_json_put_raw(w, "decision", decision.data, decision.len);
    espl_str_free(&decision);
    return st;
}

espl_status espl_event_put_outcome(espl_json_writer *w, const espl_job *j, const espl_outcome *o) {
    espl_json_put_bool(w, "accepted", o->accepted);
    return event_put_tried(w, j, o);
}

static espl_status event_put_past(const void *job, int64_t i, espl_json_writer *w) {
    const espl_job *j = job;
    return espl_event_put_outcome(w, j, &j->history[i]);
}

espl_status espl_event_experiment(espl_job *j, const espl_outcome *o) {
    espl_str line = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, o->iteration, "experiment");
    espl_json_put_bool(&w, "would_be_accepted", o->accepted);
    if (event_put_tried(&w, j, o) != ESPL_OK) line.failed = true;
    return espl_journal_end(j->events, &w);
}

/* Updates are told where they happened; a checkpoint does not remember them. */
static void event_put_update(espl_json_writer *w, const espl_job *j) {
    if (j->update.linears == 0) return;
    espl_json_open_object(w, "update", ESPL_JSON_COMPACT);
    espl_json_put_i64(w, "linears", j->update.linears);
    espl_json_put_i64(w, "kept", j->update.kept);
    espl_json_open_array(w, "dampings", ESPL_JSON_COMPACT);
    for (int d = 0; d < ESPL_UPDATE_DAMPINGS; d++) espl_json_put_i64(w, NULL, j->update.chosen[d]);
    espl_json_close(w);
    if (j->update.taken_back) espl_json_put_bool(w, "taken_back", true);
    espl_json_close(w);
}

espl_status espl_event_outcome(espl_job *j, const espl_outcome *o, double seconds) {
    espl_str line = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, o->iteration, "outcome");
    espl_json_put_text(&w, "source", espl_agent_source(j->agent));
    espl_json_put_f64(&w, "seconds", seconds);
    espl_json_put_f64(&w, "seconds_left", j->seconds_left);
    event_put_update(&w, j);
    if (espl_event_put_outcome(&w, j, o) != ESPL_OK) line.failed = true;
    return espl_journal_end(j->events, &w);
}

/* ---------------------------------------------------------------- the file */

static int64_t event_iteration_of(const void *job, int64_t i) { return ((const espl_job *)job)->history[i].iteration; }

espl_status espl_events_open(espl_job *j, const char *path) {
    espl_journal_source outcomes = {
        .type = "outcome", .n = j->n_history, .context = j, .iteration = event_iteration_of, .put = event_put_past};
    return espl_journal_open(&j->events, path, j->iteration, &outcomes);
}

espl_status espl_events_seal(espl_job *j) {
    if (!j->root) return ESPL_OK;
    ESPL_TRY(espl_journal_seal(j->events, j->iteration));
    return espl_agent_seal_dialogue(j->agent, j->iteration);
}
