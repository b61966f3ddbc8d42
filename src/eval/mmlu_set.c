/* Which questions are asked, with how many shots, as ids; then the same set on every rank. */
#include "mmlu.h"

#include <stdlib.h>
#include <string.h>

static const char *const style_names[] = {
#define X(name, label) label,
    ESPL_MMLU_STYLE_LIST(X)
#undef X
};

const char *espl_mmlu_style_name(espl_mmlu_style s) {
    return (unsigned)s < ESPL_MMLU_STYLE_COUNT ? style_names[s] : "?";
}

void espl_mmlu_free(espl_mmlu *m) {
    espl_mem_free(&m->subjects);
    espl_mem_free(&m->questions);
    espl_prompts_free(&m->prompts);
    *m = (espl_mmlu){0};
}

/* All questions, then the sample of them. */
static espl_status choose(const mmlu_source *s, const espl_mmlu_options *o, espl_mmlu *out) {
    int64_t all = 0, subject = 0, before = 0, *chosen;
    for (int64_t i = 0; i < s->n; i++) all += s->subjects[i].asked.rows;
    ESPL_TRY(espl_mem_alloc(&chosen, all, sizeof *chosen, "questions"));
    out->n = espl_eval_sample(all, o->questions, o->seed, chosen);
    espl_status st = espl_mem_alloc(&out->questions, out->n, sizeof *out->questions, "questions");
    for (int64_t i = 0; i < out->n && st == ESPL_OK; i++) {
        while (chosen[i] >= before + s->subjects[subject].asked.rows) before += s->subjects[subject++].asked.rows;
        const csv *c = &s->subjects[subject].asked;
        int64_t row = chosen[i] - before;
        int32_t answer = csv_cell(c, row, c->columns - 1)[0] - 'A';
        out->questions[i] = (espl_mmlu_question){.subject = subject, .row = row, .answer = answer};
    }
    espl_mem_free(&chosen);
    if (st == ESPL_OK && out->n == 0) return ESPL_FAIL(ESPL_FORMAT, "%s/%s: no questions", o->dir, o->split);
    return st;
}

static espl_status copy_subjects(const mmlu_source *s, espl_mmlu *out) {
    ESPL_TRY(espl_mem_alloc(&out->subjects, s->n, sizeof *out->subjects, "subjects"));
    out->n_subjects = s->n;
    for (int64_t i = 0; i < s->n; i++) {
        memcpy(out->subjects[i].name, s->subjects[i].name, sizeof out->subjects[i].name);
        out->subjects[i].category = espl_mmlu_category_of(s->subjects[i].name);
    }
    return ESPL_OK;
}

typedef struct encoder {
    const espl_tokenizer *t;
    const mmlu_source *source;
    const espl_mmlu_options *o;
    espl_ids ids, lead;
    espl_str text;
} encoder;

static espl_status encode_with(encoder *e, const espl_mmlu_question *q, int64_t shots) {
    e->text.len = e->ids.len = 0;
    mmlu_prompt(e->source, q->subject, q->row, shots, &e->text);
    ESPL_TRY(espl_str_status(&e->text));
    return espl_tokenizer_encode(e->t, e->text.data, e->text.len, true, &e->ids);
}

/* As many shots as fit; e->ids is the prompt (the lead still to come). */
static espl_status encode_question(encoder *e, espl_mmlu_question *q) {
    int64_t room = e->o->context - e->lead.len, dev = e->source->subjects[q->subject].dev.rows;
    int64_t wanted = e->o->shots < dev ? e->o->shots : dev, shots = wanted;
    ESPL_TRY(encode_with(e, q, shots));
    while (e->ids.len > room && shots > 0) ESPL_TRY(encode_with(e, q, --shots));
    q->shots = (int32_t)shots;
    q->dropped = (int32_t)(wanted - shots);
    q->cut = e->ids.len > room ? (int32_t)(e->ids.len - room) : 0;
    return ESPL_OK;
}

static espl_status append(espl_ids *to, const espl_ids *more) {
    if (more->len == 0) return ESPL_OK;
    if (to->len + more->len > to->cap) {
        ESPL_TRY(espl_mem_resize(&to->data, to->len + more->len, sizeof *to->data, "prompt ids"));
        to->cap = to->len + more->len;
    }
    memcpy(to->data + to->len, more->data, (size_t)more->len * sizeof *more->data);
    to->len += more->len;
    return ESPL_OK;
}

/* By subject, then from many shots to few, then by row: families are neighbours. */
static int by_family(const void *a, const void *b) {
    const espl_mmlu_question *x = a, *y = b;
    if (x->subject != y->subject) return x->subject < y->subject ? -1 : 1;
    if (x->shots != y->shots) return x->shots > y->shots ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Two passes: how many shots each question has decides the order, which decides the families. Only questions whose
 * shots were dropped are out of order, so the second pass is seldom needed. */
static espl_status encode_in_order(encoder *e, espl_mmlu *out, prompt_builder *b, bool *again) {
    for (int64_t i = 0; i < out->n; i++) {
        espl_mmlu_question *q = &out->questions[i];
        ESPL_TRY(encode_question(e, q));
        ESPL_TRY(append(&e->ids, &e->lead));
        int64_t group = q->subject * (e->o->shots + 1) + q->shots;
        ESPL_TRY(builder_add(b, e->ids.data + q->cut, e->ids.len - q->cut, 1, group));
        *again = *again || (i > 0 && by_family(q - 1, q) > 0);
    }
    return ESPL_OK;
}

static espl_status encode_all(encoder *e, espl_mmlu *out) {
    prompt_builder b = {0};
    bool again = false;
    espl_status st = encode_in_order(e, out, &b, &again);
    if (st == ESPL_OK && again) {
        qsort(out->questions, (size_t)out->n, sizeof *out->questions, by_family);
        b.ids.len = b.n = 0;
        st = encode_in_order(e, out, &b, &again);
    }
    if (st == ESPL_OK) st = builder_finish(&b, &out->prompts);
    builder_free(&b);
    return st;
}

static espl_status read_set(const espl_tokenizer *t, const espl_mmlu_options *o, espl_mmlu *out) {
    mmlu_source source = {0};
    encoder e = {.t = t, .source = &source, .o = o};
    espl_status st = mmlu_source_read(o, &source);
    if (st == ESPL_OK) st = mmlu_letters(t, out->letters, &e.lead);
    if (st == ESPL_OK && o->context <= e.lead.len + 1) st = ESPL_FAIL(ESPL_CONFIG, "no room for a prompt");
    if (st == ESPL_OK) st = choose(&source, o, out);
    if (st == ESPL_OK) st = copy_subjects(&source, out);
    if (st == ESPL_OK) st = encode_all(&e, out);
    espl_ids_free(&e.ids);
    espl_ids_free(&e.lead);
    espl_str_free(&e.text);
    mmlu_source_free(&source);
    return st;
}

static espl_status share(espl_comm *c, espl_mmlu *m) {
    int64_t counts[2] = {m->n_subjects, m->n};
    espl_comm_broadcast(c, counts, sizeof counts, 0);
    espl_comm_broadcast(c, m->letters, sizeof m->letters, 0);
    m->n_subjects = counts[0];
    m->n = counts[1];
    ESPL_TRY(espl_eval_share_array(c, &m->subjects, m->n_subjects, sizeof *m->subjects, "subjects"));
    ESPL_TRY(espl_eval_share_array(c, &m->questions, m->n, sizeof *m->questions, "questions"));
    return prompts_share(c, &m->prompts);
}

espl_status espl_mmlu_read(espl_comm *c, const espl_tokenizer *t, const espl_mmlu_options *o, espl_mmlu *out) {
    *out = (espl_mmlu){0};
    double start = espl_clock_now();
    espl_status st = espl_comm_agree(c, espl_comm_rank(c) == 0 ? read_set(t, o, out) : ESPL_OK);
    espl_region_add(ESPL_REGION_TOKENIZE, espl_clock_now() - start);
    if (st == ESPL_OK) st = share(c, out);
    if (st != ESPL_OK) espl_mmlu_free(out);
    return st;
}
