/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evaluates FreebaseQA: greedy continuations of all questions on all ranks, compared with the answers' names on rank 0,
 * which alone has the texts.
 */
#include "espalier/eval/freebaseqa.h"

#include <string.h>

#include "espalier/base/json_writer.h"
#include "espalier/eval/decode.h"
#include "espalier/tokenizer.h"
#include "text.h"

void espl_freebaseqa_result_free(espl_freebaseqa_result *r) {
    espl_mem_free(&r->answers);
    espl_str_free(&r->text);
}

/* Input and output of espl_eval_decode. */
typedef struct freebaseqa_decoding {
    int64_t *max_tokens, *n; /* [questions] */
    int32_t *ids;            /* [sum of max_tokens] */
    uint8_t *stops;          /* [vocab] of the set, and the model's end-of-sequence tokens */
    int64_t n_stops;
} freebaseqa_decoding;

static void freebaseqa_decoding_free(freebaseqa_decoding *k) {
    espl_mem_free(&k->max_tokens);
    espl_mem_free(&k->n);
    espl_mem_free(&k->ids);
    espl_mem_free(&k->stops);
}

/* Room for all continuations at their maximum lengths: espl_eval_decode places each at the sum of the lengths before
 * it. Call freebaseqa_decoding_free also after a failure. */
static espl_status freebaseqa_decoding_create(const espl_freebaseqa *f, const espl_model_config *c,
                                              freebaseqa_decoding *k) {
    int64_t total = 0;
    *k = (freebaseqa_decoding){.n_stops = c->vocab};
    ESPL_TRY(espl_mem_alloc(&k->max_tokens, f->n, sizeof *k->max_tokens, "continuations"));
    ESPL_TRY(espl_mem_alloc(&k->n, f->n, sizeof *k->n, "continuations"));
    for (int64_t i = 0; i < f->n; i++) total += k->max_tokens[i] = f->questions[i].max_tokens;
    ESPL_TRY(espl_mem_alloc(&k->ids, total, sizeof *k->ids, "continuations"));
    ESPL_TRY(espl_mem_alloc(&k->stops, c->vocab, 1, "stop tokens"));
    /* The vocabularies of tokenizer and model may differ in size: models are padded. */
    memcpy(k->stops, f->stops, (size_t)espl_min_i64(f->n_stops, c->vocab));
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] >= 0 && c->eos[i] < c->vocab) k->stops[c->eos[i]] = ESPL_STOP_DROP;
    return ESPL_OK;
}

void espl_freebaseqa_need(const espl_freebaseqa *set, const espl_model_config *c, espl_model_options *o) {
    freebaseqa_decoding k;
    /* Without memory *o stays too small, and espl_eval_decode reports it. */
    if (freebaseqa_decoding_create(set, c, &k) == ESPL_OK)
        espl_decode_need(&set->prompts, &(espl_decoding){.max_tokens = k.max_tokens}, c, o);
    freebaseqa_decoding_free(&k);
}

/* -------------------------------------------------------------- scoring */

typedef struct freebaseqa_scorer {
    const espl_freebaseqa *f;
    espl_freebaseqa_result *r;
    espl_str text;          /* what is searched: the continuation, or the whole output */
    espl_str normal, alias; /* text and a name, normalised */
    int32_t *known;         /* scratch of freebaseqa_decode_ids */
} freebaseqa_scorer;

/* Replaces s->text by the text of the ids. Ids beyond the tokenizer's vocabulary, of a padded model, have no text. */
static espl_status freebaseqa_decode_ids(freebaseqa_scorer *s, const int32_t *ids, int64_t n) {
    const espl_tokenizer *t = s->f->tokenizer;
    int64_t known = 0;
    ESPL_TRY(espl_mem_resize(&s->known, n, sizeof *s->known, "continuation"));
    for (int64_t i = 0; i < n; i++) {
        s->normal.len = 0; /* scratch */
        if (espl_tokenizer_token_bytes(t, ids[i], &s->normal) == ESPL_OK) s->known[known++] = ids[i];
    }
    s->text.len = 0;
    return espl_tokenizer_decode(t, s->known, known, true, &s->text);
}

/* llm-kick searches the whole output: s->text becomes prompt i and its continuation. They are decoded together, not
 * joined as texts, because a tokenizer may drop a space at the start of what it decodes. */
static espl_status freebaseqa_decode_output(freebaseqa_scorer *s, int64_t i, const int32_t *ids, int64_t n) {
    const espl_prompts *p = &s->f->prompts;
    espl_ids all = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_ids_append(&all, p->ids + p->families[0].at, p->families[0].n));
    ESPL_CHECK(st, done, espl_ids_append(&all, p->ids + p->prompts[i].at, p->prompts[i].n));
    ESPL_CHECK(st, done, espl_ids_append(&all, ids, n));
    st = freebaseqa_decode_ids(s, all.data, all.len);
done:
    espl_ids_free(&all);
    return st;
}

/* Reduces a text to its first line, without white space at its ends. A stop token may carry text behind its line end.
 */
static void freebaseqa_first_line(espl_str *s) {
    const char *text = s->len ? s->data : "", *end = memchr(text, '\n', (size_t)s->len);
    int64_t len = end ? end - text : s->len;
    espl_text_strip(&text, &len);
    if (len > 0) memmove(s->data, text, (size_t)len);
    s->len = len;
    espl_str_put(s, "", 0);
}

/* Sets s->normal and s->alias. The text is normalised again for each name: names are few, and the two ways of
 * normalising alternate. */
static void freebaseqa_normalise(freebaseqa_scorer *s, const char *name,
                                 void (*normalise)(const char *, int64_t, espl_str *)) {
    s->normal.len = s->alias.len = 0;
    normalise(s->text.data, s->text.len, &s->normal);
    normalise(name, (int64_t)strlen(name), &s->alias);
}

/* Compares s->text with the names of the question's answers. */
static void freebaseqa_compare(freebaseqa_scorer *s, const espl_freebaseqa_question *q, espl_freebaseqa_answer *a) {
    bool standard = s->f->mode == ESPL_FREEBASEQA_STANDARD;
    for (int64_t i = 0; i < (standard ? q->aliases : q->first_aliases); i++) {
        const char *name = s->f->text + s->f->alias_at[q->alias + i];
        freebaseqa_normalise(s, name, standard ? espl_text_normalise : espl_text_squeeze);
        /* SQuAD's normalisation leaves nothing of some names (the language code "an"). Compare those as they are: else
         * they could not be answered, or an empty answer would be right. */
        if (standard && s->alias.len == 0) freebaseqa_normalise(s, name, espl_text_squeeze);
        if (s->alias.failed || s->normal.failed) return; /* the caller reports it */
        if (standard) {
            bool same = s->alias.len > 0 && strcmp(s->alias.data, s->normal.data) == 0;
            a->exact |= same;
            a->contains |= same || espl_text_has_words(s->normal.data, s->alias.data);
        } else { /* llm-kick's validate_response: a plain substring */
            a->contains |= strstr(s->normal.data, s->alias.data) != NULL;
        }
    }
}

/* Rank 0 only. Scores all continuations and stores their texts. */
static espl_status freebaseqa_score(const espl_freebaseqa *f, const freebaseqa_decoding *k, espl_freebaseqa_result *r) {
    freebaseqa_scorer s = {.f = f, .r = r};
    espl_status st = ESPL_OK;
    const int32_t *ids = k->ids;
    for (int64_t i = 0; i < f->n; ids += k->max_tokens[i++]) {
        ESPL_CHECK(st, done, freebaseqa_decode_ids(&s, ids, k->n[i]));
        if (f->mode == ESPL_FREEBASEQA_STANDARD) freebaseqa_first_line(&s.text);
        r->answers[i].text = r->text.len;
        espl_str_put(&r->text, s.text.len ? s.text.data : "", s.text.len);
        espl_str_put(&r->text, "", 1);
        if (f->mode == ESPL_FREEBASEQA_LLM_KICK) ESPL_CHECK(st, done, freebaseqa_decode_output(&s, i, ids, k->n[i]));
        freebaseqa_compare(&s, &f->questions[i], &r->answers[i]);
        ESPL_CHECK(st, done, espl_str_status(&s.normal));
        ESPL_CHECK(st, done, espl_str_status(&s.alias));
        ESPL_CHECK(st, done, espl_str_status(&r->text));
    }
done:
    espl_str_free(&s.text);
    espl_str_free(&s.normal);
    espl_str_free(&s.alias);
    espl_mem_free(&s.known);
    return st;
}

espl_status espl_eval_freebaseqa(espl_comm *c, espl_model *m, const espl_freebaseqa *set, espl_freebaseqa_result *out) {
    double start = espl_clock_now();
    int64_t exact = 0, contains = 0;
    freebaseqa_decoding k;
    espl_status st;
    *out = (espl_freebaseqa_result){0};
    ESPL_CHECK(st, allocated, freebaseqa_decoding_create(set, espl_model_config_of(m), &k));
    ESPL_CHECK(st, allocated, espl_mem_alloc(&out->answers, set->n, sizeof *out->answers, "answers"));
allocated:
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    espl_decoding d = {.max_tokens = k.max_tokens, .stops = k.stops, .n_stops = k.n_stops};
    ESPL_CHECK(st, done, espl_eval_decode(c, m, &set->prompts, &d, k.ids, k.n));
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_comm_rank(c) == 0 ? freebaseqa_score(set, &k, out) : ESPL_OK));
    espl_comm_broadcast(c, out->answers, set->n * (int64_t)sizeof *out->answers, 0);
    for (int64_t i = 0; i < set->n; i++) {
        exact += out->answers[i].exact;
        contains += out->answers[i].contains;
        out->tokens += k.n[i];
    }
    out->exact = espl_proportion_of(exact, set->n);
    out->contains = espl_proportion_of(contains, set->n);
done:
    freebaseqa_decoding_free(&k);
    if (st != ESPL_OK) espl_freebaseqa_result_free(out);
    out->seconds = espl_clock_now() - start;
    return st;
}

void espl_freebaseqa_details(const espl_freebaseqa *set, const espl_freebaseqa_result *r, espl_str *out) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_freebaseqa_question *q = &set->questions[i];
        const espl_freebaseqa_answer *a = &r->answers[i];
        espl_json_writer w = espl_json_writer_on(out);
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_text(&w, "task", "freebaseqa");
        espl_json_put_text(&w, "mode", espl_freebaseqa_mode_name(set->mode));
        espl_json_put_text(&w, "id", set->text + q->id);
        espl_json_put_text(&w, "question", set->text + q->question);
        espl_json_put_text(&w, "answer", set->text + set->alias_at[q->alias]);
        espl_json_put_text(&w, "continuation", r->text.data + a->text);
        if (set->mode == ESPL_FREEBASEQA_STANDARD) espl_json_put_bool(&w, "exact", a->exact);
        espl_json_put_bool(&w, "contains", a->contains);
        espl_json_close(&w);
        espl_str_puts(out, "\n");
    }
}
