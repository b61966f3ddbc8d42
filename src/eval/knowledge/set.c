/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes questions and answers into windows, on rank 0, and sends them to all ranks.
 */
#include <inttypes.h>
#include <string.h>

#include "broadcast.h"
#include "espalier/eval/knowledge.h"
#include "freebaseqa/source.h"
#include "mmlu/source.h"
#include "sample.h"

/* Questions of a subject that follow each other before another subject's turn: its line is then worth its tokens, and a
 * few windows already hold many subjects. */
enum { SUBJECT_TURN = 3 };

void espl_knowledge_free(espl_knowledge *k) {
    espl_mem_free(&k->ids);
    espl_mem_free(&k->targets);
    espl_mem_free(&k->lengths);
    espl_mem_free(&k->questions);
    *k = (espl_knowledge){0};
}

espl_topic espl_knowledge_topic(const espl_knowledge *k, int64_t window) {
    int t = 0;
    while (t < ESPL_TOPICS - 1 && window >= k->first[t + 1]) t++;
    return (espl_topic)t;
}

void espl_knowledge_samples(const espl_knowledge *k, espl_topic_samples samples[ESPL_TOPICS]) {
    for (int t = 0; t < ESPL_TOPICS; t++) {
        int64_t at = k->first[t] * k->window;
        bool letters = t != ESPL_TOPIC_FACTS;
        samples[t] = (espl_topic_samples){.windows = k->first[t + 1] - k->first[t]};
        if (samples[t].windows == 0) continue;
        samples[t].ids = k->ids + at;
        samples[t].targets = k->targets + at;
        samples[t].choices = letters ? k->letters : NULL;
        samples[t].n_choices = letters ? ESPL_MMLU_CHOICES : 0;
    }
}

/* ---------------------------------------------------------------- windows */

/* Windows that are being written. A window is open from its first question on. */
typedef struct knowledge_writer {
    const espl_tokenizer *t;
    espl_knowledge *out;
    int64_t windows, limit; /* finished or open ones; of the topic at most limit */
    int64_t used;           /* tokens of the open window; 0: none is open */
    espl_str text;          /* scratch */
    espl_ids prompt, whole, separator;
} knowledge_writer;

static espl_status knowledge_open_window(knowledge_writer *w) {
    int64_t window = w->out->window, at = w->windows * window;
    ESPL_TRY(espl_mem_resize(&w->out->ids, at + window, sizeof *w->out->ids, "questions"));
    ESPL_TRY(espl_mem_resize(&w->out->targets, at + window, sizeof *w->out->targets, "questions"));
    ESPL_TRY(espl_mem_resize(&w->out->lengths, w->windows + 1, sizeof *w->out->lengths, "questions"));
    for (int64_t i = at; i < at + window; i++) {
        w->out->ids[i] = 0;
        w->out->targets[i] = -1;
    }
    w->windows++;
    return ESPL_OK;
}

/* Writes w->whole, a question with its answer from token `answer` on, into the open window or, if `fresh`, a new one.
 */
static espl_status knowledge_put(knowledge_writer *w, bool fresh, int64_t answer) {
    espl_knowledge *k = w->out;
    if (fresh) ESPL_TRY(knowledge_open_window(w));
    if (fresh) w->used = 0;
    int32_t *ids = k->ids + (w->windows - 1) * k->window, *targets = k->targets + (w->windows - 1) * k->window;
    memcpy(ids + w->used, w->whole.data, (size_t)w->whole.len * sizeof *ids);
    for (int64_t i = answer; i < w->whole.len; i++) targets[w->used + i - 1] = w->whole.data[i];
    ESPL_TRY(espl_mem_resize(&k->questions, k->n + 1, sizeof *k->questions, "questions"));
    k->questions[k->n++] = (espl_knowledge_question){w->windows - 1, w->used + answer - 1, w->whole.len - answer};
    w->used += w->whole.len;
    int64_t gap = espl_min_i64(w->separator.len, k->window - w->used);
    memcpy(ids + w->used, w->separator.data, (size_t)gap * sizeof *ids);
    w->used += gap;
    k->lengths[w->windows - 1] = w->used;
    return ESPL_OK;
}

static void knowledge_note_empty(const espl_knowledge_options *o, const char *path) {
    ESPL_INFO("note: %s has no question of up to %" PRId64 " tokens for %s", path, o->window,
              o->part == ESPL_PART_JUDGE ? "the judge" : "the profile");
}

static bool knowledge_fits(const knowledge_writer *w) {
    return w->used > 0 && w->used + w->whole.len <= w->out->window;
}

static void knowledge_writer_free(knowledge_writer *w) {
    espl_str_free(&w->text);
    espl_ids_free(&w->prompt);
    espl_ids_free(&w->whole);
    espl_ids_free(&w->separator);
}

/* ------------------------------------------------------------- FreebaseQA */

/* Encodes question i with its first alias. *answer: the first token that the answer changes; a tokenizer may join it
 * with the end of the prompt. */
static espl_status facts_encode(knowledge_writer *w, const espl_freebaseqa_source *s, int64_t i, bool first,
                                int64_t *answer) {
    w->text.len = w->prompt.len = w->whole.len = 0;
    espl_freebaseqa_source_prompt(s, ESPL_FREEBASEQA_STANDARD, i, &w->text);
    ESPL_TRY(espl_str_status(&w->text));
    ESPL_TRY(espl_tokenizer_encode(w->t, w->text.data, w->text.len, first, &w->prompt));
    espl_str_printf(&w->text, " %s", s->text.data + s->alias_at[s->questions[i].alias]);
    ESPL_TRY(espl_str_status(&w->text));
    ESPL_TRY(espl_tokenizer_encode(w->t, w->text.data, w->text.len, first, &w->whole));
    int64_t n = espl_min_i64(w->prompt.len, w->whole.len);
    for (*answer = 0; *answer < n && w->prompt.data[*answer] == w->whole.data[*answer];) ++*answer;
    return ESPL_OK;
}

static espl_status facts_write(knowledge_writer *w, const espl_knowledge_options *o) {
    espl_freebaseqa_source s = {0};
    int64_t *chosen = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_freebaseqa_source_read(o->freebaseqa, &s));
    int64_t rest = espl_max_i64(s.n - o->skip, 0), before = w->windows;
    ESPL_CHECK(st, done, espl_mem_alloc(&chosen, rest, sizeof *chosen, "questions"));
    int64_t n = espl_sample_part(rest, o->part, 0, o->seed, chosen);
    espl_sample_shuffle(chosen, n, o->seed, ESPL_TOPIC_FACTS);
    for (int64_t i = 0; i < n; i++) {
        int64_t answer;
        ESPL_CHECK(st, done, facts_encode(w, &s, o->skip + chosen[i], false, &answer));
        bool fresh = !knowledge_fits(w);
        if (fresh && w->windows - before == w->limit) break;
        if (fresh) ESPL_CHECK(st, done, facts_encode(w, &s, o->skip + chosen[i], true, &answer));
        if (answer < 1 || answer == w->whole.len || w->whole.len > w->out->window) continue;
        ESPL_CHECK(st, done, knowledge_put(w, fresh, answer));
    }
    if (w->windows == before) knowledge_note_empty(o, o->freebaseqa);
done:
    espl_mem_free(&chosen);
    espl_freebaseqa_source_free(&s);
    return st;
}

/* ------------------------------------------------------------------- MMLU */

/* The questions of a part, and how far they are used. */
typedef struct letters_source {
    espl_mmlu_source s;
    int64_t *rows;        /* [all questions] rows of subject i in random order from first[i] on */
    int64_t *first, *end; /* [subjects] of `rows`; first moves on */
    int64_t *order;       /* [subjects] in random order */
    espl_ids lead;
} letters_source;

static void letters_free(letters_source *l) {
    espl_mmlu_source_free(&l->s);
    espl_mem_free(&l->rows);
    espl_mem_free(&l->first);
    espl_mem_free(&l->end);
    espl_mem_free(&l->order);
    espl_ids_free(&l->lead);
}

static espl_status letters_open(letters_source *l, const espl_knowledge_options *o) {
    espl_mmlu_options options = {.dir = o->mmlu, .split = o->split, .style = o->style};
    int64_t all = 0, *chosen = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mmlu_source_read(&options, &l->s));
    for (int64_t i = 0; i < l->s.n; i++) all += l->s.subjects[i].asked.rows;
    ESPL_CHECK(st, done, espl_mem_alloc(&chosen, all, sizeof *chosen, "questions"));
    ESPL_CHECK(st, done, espl_mem_alloc(&l->rows, all, sizeof *l->rows, "questions"));
    ESPL_CHECK(st, done, espl_mem_alloc(&l->first, l->s.n, sizeof *l->first, "subjects"));
    ESPL_CHECK(st, done, espl_mem_alloc(&l->end, l->s.n, sizeof *l->end, "subjects"));
    ESPL_CHECK(st, done, espl_mem_alloc(&l->order, l->s.n, sizeof *l->order, "subjects"));
    int64_t n = espl_sample_part(all, o->part, 0, o->seed, chosen), k = 0, before = 0;
    for (int64_t i = 0; i < l->s.n; i++) { /* `chosen` counts through all subjects, in ascending order */
        int64_t rows = l->s.subjects[i].asked.rows;
        l->order[i] = i;
        l->first[i] = k;
        for (; k < n && chosen[k] < before + rows; k++) l->rows[k] = chosen[k] - before;
        l->end[i] = k;
        before += rows;
        espl_sample_shuffle(l->rows + l->first[i], k - l->first[i], o->seed, (uint64_t)(ESPL_TOPICS + i));
    }
    espl_sample_shuffle(l->order, l->s.n, o->seed, ESPL_TOPIC_OTHER);
done:
    espl_mem_free(&chosen);
    return st;
}

/* Encodes a question with the token of its letter, which is the last one. */
static espl_status letters_encode(knowledge_writer *w, const letters_source *l, int64_t subject, int64_t row,
                                  bool header, bool first) {
    const espl_csv *file = &l->s.subjects[subject].asked;
    w->text.len = w->whole.len = 0;
    if (header) espl_mmlu_source_header(&l->s, subject, &w->text);
    espl_mmlu_source_question(&l->s, file, row, &w->text);
    ESPL_TRY(espl_str_status(&w->text));
    ESPL_TRY(espl_tokenizer_encode(w->t, w->text.data, w->text.len, first, &w->whole));
    ESPL_TRY(espl_ids_append(&w->whole, l->lead.data, l->lead.len));
    int letter = espl_csv_cell(file, row, MMLU_COLUMN_ANSWER)[0] - 'A';
    return espl_ids_append(&w->whole, &w->out->letters[letter], 1);
}

/* Writes a turn of a subject. *full: the topic has all its windows. */
static espl_status letters_write_turn(knowledge_writer *w, letters_source *l, int64_t subject, int64_t before,
                                      bool *full) {
    bool headed = false; /* the subject's line is in the open window */
    for (int turn = 0; turn < SUBJECT_TURN && l->first[subject] < l->end[subject]; turn++) {
        int64_t row = l->rows[l->first[subject]];
        ESPL_TRY(letters_encode(w, l, subject, row, !headed, false));
        bool fresh = !knowledge_fits(w);
        *full = fresh && w->windows - before == w->limit;
        if (*full) return ESPL_OK;
        if (fresh) ESPL_TRY(letters_encode(w, l, subject, row, true, true));
        l->first[subject]++;
        if (w->whole.len > w->out->window) continue;
        ESPL_TRY(knowledge_put(w, fresh, w->whole.len - 1));
        headed = true;
    }
    return ESPL_OK;
}

/* Windows of one category: its subjects in turn, until windows or questions run out. */
static espl_status letters_write_topic(knowledge_writer *w, letters_source *l, espl_mmlu_category category) {
    int64_t before = w->windows;
    bool full = false, more = true;
    w->used = 0;
    while (more && !full) {
        more = false;
        for (int64_t i = 0; i < l->s.n && !full; i++) {
            int64_t subject = l->order[i];
            if (espl_mmlu_category_of(l->s.subjects[subject].name) != category) continue;
            more = more || l->first[subject] < l->end[subject];
            ESPL_TRY(letters_write_turn(w, l, subject, before, &full));
        }
    }
    return ESPL_OK;
}

static const espl_topic letters_topics[ESPL_MMLU_CATEGORY_COUNT] = {ESPL_TOPIC_STEM, ESPL_TOPIC_HUMANITIES,
                                                                    ESPL_TOPIC_SOCIAL, ESPL_TOPIC_OTHER};

static espl_status letters_write(knowledge_writer *w, const espl_knowledge_options *o) {
    letters_source l = {0};
    bool present[ESPL_MMLU_CATEGORY_COUNT] = {false};
    int64_t categories = 0, before = w->windows;
    espl_status st;
    ESPL_CHECK(st, done, espl_mmlu_letters(w->t, w->out->letters, &l.lead));
    ESPL_CHECK(st, done, letters_open(&l, o));
    for (int64_t i = 0; i < l.s.n; i++) present[espl_mmlu_category_of(l.s.subjects[i].name)] = true;
    for (int c = 0; c < ESPL_MMLU_CATEGORY_COUNT; c++) categories += present[c];
    w->limit = espl_max_i64(o->windows / espl_max_i64(categories, 1), 1);
    for (int c = 0; c < ESPL_MMLU_CATEGORY_COUNT; c++) {
        w->out->first[letters_topics[c]] = w->windows;
        ESPL_CHECK(st, done, letters_write_topic(w, &l, (espl_mmlu_category)c));
    }
    if (w->windows == before) knowledge_note_empty(o, o->mmlu);
done:
    letters_free(&l);
    return st;
}

/* ------------------------------------------------------------------- sets */

/* Rank 0's part of espl_knowledge_read. */
static espl_status knowledge_write(const espl_tokenizer *t, const espl_knowledge_options *o, espl_knowledge *out) {
    knowledge_writer w = {.t = t, .out = out, .limit = o->windows};
    espl_status st;
    ESPL_CHECK(st, done, espl_tokenizer_encode(t, "\n\n", 2, false, &w.separator));
    if (o->freebaseqa) ESPL_CHECK(st, done, facts_write(&w, o));
    for (int i = ESPL_TOPIC_FACTS + 1; i <= ESPL_TOPICS; i++) out->first[i] = w.windows;
    if (o->mmlu) ESPL_CHECK(st, done, letters_write(&w, o));
    out->first[ESPL_TOPICS] = w.windows;
done:
    knowledge_writer_free(&w);
    return st;
}

espl_status espl_knowledge_read(espl_comm *c, const espl_tokenizer *t, const espl_knowledge_options *o,
                                espl_knowledge *out) {
    espl_status st;
    *out = (espl_knowledge){.window = o->window};
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_comm_rank(c) == 0 ? knowledge_write(t, o, out) : ESPL_OK));
    espl_comm_broadcast(c, out->first, sizeof out->first, 0);
    espl_comm_broadcast(c, out->letters, sizeof out->letters, 0);
    espl_comm_broadcast(c, &out->n, sizeof out->n, 0);
    int64_t tokens = out->first[ESPL_TOPICS] * out->window;
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->ids, tokens, sizeof *out->ids, "questions"));
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->targets, tokens, sizeof *out->targets, "questions"));
    ESPL_CHECK(st, done,
               espl_eval_broadcast_array(c, &out->lengths, out->first[ESPL_TOPICS], sizeof *out->lengths, "questions"));
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->questions, out->n, sizeof *out->questions, "questions"));
done:
    if (st != ESPL_OK) espl_knowledge_free(out);
    return st;
}
