/* FreebaseQA: greedy continuations of all questions, compared with the answers' names. */
#include "internal.h"

#include <string.h>

void espl_freebaseqa_result_free(espl_freebaseqa_result *r) {
    espl_mem_free(&r->answers);
    espl_str_free(&r->text);
}

/* What espl_eval_decode works on. */
typedef struct continuations {
    int64_t *most, *n;
    int32_t *ids;
    uint8_t *stops; /* the set's, and the model's end-of-sequence tokens */
    int64_t n_stops;
} continuations;

static void continuations_free(continuations *k) {
    espl_mem_free(&k->most);
    espl_mem_free(&k->n);
    espl_mem_free(&k->ids);
    espl_mem_free(&k->stops);
}

static espl_status prepare(const espl_freebaseqa *f, const espl_model_config *c, continuations *k) {
    int64_t total = 0;
    *k = (continuations){.n_stops = c->vocab};
    ESPL_TRY(espl_mem_alloc(&k->most, f->n, sizeof *k->most, "continuations"));
    ESPL_TRY(espl_mem_alloc(&k->n, f->n, sizeof *k->n, "continuations"));
    for (int64_t i = 0; i < f->n; i++) total += k->most[i] = f->questions[i].max_tokens;
    ESPL_TRY(espl_mem_alloc(&k->ids, total, sizeof *k->ids, "continuations"));
    ESPL_TRY(espl_mem_alloc(&k->stops, c->vocab, 1, "stop tokens"));
    memcpy(k->stops, f->stops, (size_t)(f->n_stops < c->vocab ? f->n_stops : c->vocab));
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] >= 0 && c->eos[i] < c->vocab) k->stops[c->eos[i]] = ESPL_STOP_DROP;
    return ESPL_OK;
}

void espl_freebaseqa_need(const espl_freebaseqa *set, const espl_model_config *c, int ranks, espl_model_options *o) {
    continuations k;
    if (prepare(set, c, &k) == ESPL_OK)
        espl_decode_need(&set->prompts, &(espl_decoding){.max_tokens = k.most}, c, ranks, o);
    continuations_free(&k);
}

/* -------------------------------------------------------------- scoring */

typedef struct scorer {
    const espl_freebaseqa *f;
    espl_freebaseqa_result *r;
    espl_str text, normal, alias; /* scratch */
    int32_t *known;
} scorer;

/* Ids that the tokenizer knows (a model's vocabulary may be padded past it), as text in s->text. */
static espl_status decode(scorer *s, const int32_t *ids, int64_t n) {
    int64_t known = 0;
    ESPL_TRY(espl_mem_resize(&s->known, n, sizeof *s->known, "continuation"));
    for (int64_t i = 0; i < n; i++) {
        s->normal.len = 0; /* scratch */
        if (espl_tokenizer_token_bytes(s->f->tokenizer, ids[i], &s->normal) == ESPL_OK) s->known[known++] = ids[i];
    }
    return espl_tokenizer_decode(s->f->tokenizer, s->known, known, true, &s->text);
}

/* The first line, without white space at its ends. */
static void first_line(espl_str *s) {
    const char *text = s->len ? s->data : "", *end = memchr(text, '\n', (size_t)s->len);
    int64_t len = end ? end - text : s->len;
    text_strip(&text, &len);
    if (len > 0) memmove(s->data, text, (size_t)len);
    s->len = len;
    espl_str_put(s, "", 0);
}

static const char *alias(const espl_freebaseqa *f, int64_t i) { return f->text + f->alias_at[i]; }

static void normalise_both(scorer *s, const char *name, void (*normalise)(const char *, int64_t, espl_str *)) {
    s->normal.len = s->alias.len = 0;
    normalise(s->text.data, s->text.len, &s->normal);
    normalise(name, (int64_t)strlen(name), &s->alias);
}

/* SQuAD's normalisation leaves nothing of some names (the language code "an"): those are compared as they are, so that
 * they can be answered, and that no answer does not answer them. */
static void score_standard(scorer *s, const espl_freebaseqa_question *q, espl_freebaseqa_answer *a) {
    for (int64_t i = 0; i < q->aliases; i++) {
        const char *name = alias(s->f, q->alias + i);
        normalise_both(s, name, espl_text_normalise);
        if (s->alias.len == 0) normalise_both(s, name, text_squeeze);
        if (s->alias.failed || s->normal.failed) return;
        bool same = s->alias.len > 0 && strcmp(s->alias.data, s->normal.data) == 0;
        a->exact |= same;
        a->contains |= same || espl_text_has_words(s->normal.data, s->alias.data);
    }
}

/* llm-kick's validate_response: any name of the first answer, in the whole output, the prompt included. */
static void score_llm_kick(scorer *s, const espl_freebaseqa_question *q, espl_freebaseqa_answer *a) {
    for (int64_t i = 0; i < q->first_aliases; i++) {
        normalise_both(s, alias(s->f, q->alias + i), text_squeeze);
        if (s->alias.failed || s->normal.failed) return;
        a->contains |= strstr(s->normal.data, s->alias.data) != NULL;
    }
}

static espl_status put_prompt(const espl_freebaseqa *f, int64_t i, espl_ids *out) {
    const espl_prompt_family *g = &f->prompts.families[0];
    const espl_prompt *p = &f->prompts.prompts[i];
    ESPL_TRY(espl_mem_resize(&out->data, g->n + p->n, sizeof *out->data, "prompt"));
    if (g->n) memcpy(out->data, f->prompts.ids + g->at, (size_t)g->n * sizeof *out->data);
    memcpy(out->data + g->n, f->prompts.ids + p->at, (size_t)p->n * sizeof *out->data);
    out->len = out->cap = g->n + p->n;
    return ESPL_OK;
}

/* The output that llm-kick searches: prompt and continuation decoded together. */
static espl_status decode_whole(scorer *s, int64_t i, const int32_t *ids, int64_t n) {
    espl_ids all = {0};
    espl_status st = put_prompt(s->f, i, &all);
    if (st == ESPL_OK) st = espl_mem_resize(&all.data, all.len + n, sizeof *all.data, "output");
    if (st == ESPL_OK) {
        if (n) memcpy(all.data + all.len, ids, (size_t)n * sizeof *ids);
        st = decode(s, all.data, all.len + n);
    }
    espl_ids_free(&all);
    return st;
}

static espl_status score_one(scorer *s, int64_t i, const int32_t *ids, int64_t n) {
    espl_freebaseqa_answer *a = &s->r->answers[i];
    s->text.len = 0;
    ESPL_TRY(decode(s, ids, n));
    if (s->f->mode == ESPL_FREEBASEQA_STANDARD) first_line(&s->text);
    a->text = s->r->text.len;
    espl_str_put(&s->r->text, s->text.len ? s->text.data : "", s->text.len);
    espl_str_put(&s->r->text, "", 1);
    if (s->f->mode == ESPL_FREEBASEQA_STANDARD) {
        score_standard(s, &s->f->questions[i], a);
    } else {
        s->text.len = 0;
        ESPL_TRY(decode_whole(s, i, ids, n));
        score_llm_kick(s, &s->f->questions[i], a);
    }
    ESPL_TRY(espl_str_status(&s->normal));
    ESPL_TRY(espl_str_status(&s->alias));
    return espl_str_status(&s->r->text);
}

static espl_status score(const espl_freebaseqa *f, const continuations *k, espl_freebaseqa_result *r) {
    scorer s = {.f = f, .r = r};
    espl_status st = ESPL_OK;
    int64_t at = 0;
    for (int64_t i = 0; i < f->n && st == ESPL_OK; at += k->most[i++]) st = score_one(&s, i, k->ids + at, k->n[i]);
    espl_str_free(&s.text);
    espl_str_free(&s.normal);
    espl_str_free(&s.alias);
    espl_mem_free(&s.known);
    return st;
}

static espl_status run(espl_comm *c, espl_model *m, const espl_freebaseqa *f, continuations *k,
                       espl_freebaseqa_result *r) {
    espl_decoding d = {.max_tokens = k->most, .stops = k->stops, .n_stops = k->n_stops};
    ESPL_TRY(espl_eval_decode(c, m, &f->prompts, &d, k->ids, k->n));
    ESPL_TRY(espl_comm_agree(c, espl_comm_rank(c) == 0 ? score(f, k, r) : ESPL_OK));
    espl_comm_broadcast(c, r->answers, f->n * (int64_t)sizeof *r->answers, 0);
    for (int64_t i = 0; i < f->n; i++) {
        r->exact.hits += r->answers[i].exact;
        r->contains.hits += r->answers[i].contains;
        r->tokens += k->n[i];
    }
    r->exact = espl_proportion_of(r->exact.hits, f->n);
    r->contains = espl_proportion_of(r->contains.hits, f->n);
    return ESPL_OK;
}

espl_status espl_eval_freebaseqa(espl_comm *c, espl_model *m, const espl_freebaseqa *set, espl_freebaseqa_result *out) {
    double start = espl_clock_now();
    continuations k;
    *out = (espl_freebaseqa_result){0};
    espl_status st = prepare(set, espl_model_config_of(m), &k);
    if (st == ESPL_OK) st = espl_mem_alloc(&out->answers, set->n, sizeof *out->answers, "answers");
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) st = run(c, m, set, &k, out);
    continuations_free(&k);
    if (st != ESPL_OK) espl_freebaseqa_result_free(out);
    out->seconds = espl_clock_now() - start;
    return st;
}

static void put_string(espl_str *out, const char *key, const char *text) {
    espl_str_printf(out, ", \"%s\": ", key);
    espl_str_put_json(out, text, (int64_t)strlen(text));
}

void espl_freebaseqa_details(const espl_freebaseqa *set, const espl_freebaseqa_result *r, espl_str *out) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_freebaseqa_question *q = &set->questions[i];
        const espl_freebaseqa_answer *a = &r->answers[i];
        espl_str_printf(out, "{\"task\": \"freebaseqa\", \"mode\": \"%s\"", espl_freebaseqa_mode_name(set->mode));
        put_string(out, "id", set->text + q->id);
        put_string(out, "question", set->text + q->question);
        put_string(out, "answer", alias(set, q->alias));
        put_string(out, "continuation", r->text.data + a->text);
        if (set->mode == ESPL_FREEBASEQA_STANDARD) espl_str_printf(out, ", \"exact\": %s", a->exact ? "true" : "false");
        espl_str_printf(out, ", \"contains\": %s}\n", a->contains ? "true" : "false");
    }
}
