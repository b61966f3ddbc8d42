/* Which questions are asked, as ids and targets; then the same set on every rank. */
#include "choices.h"

#include <string.h>

void espl_choices_free(espl_choices *s) {
    espl_mem_free(&s->questions);
    espl_mem_free(&s->targets);
    espl_mem_free(&s->characters);
    espl_prompts_free(&s->prompts);
    *s = (espl_choices){0};
}

typedef struct encoder {
    const espl_tokenizer *t;
    const choices_source *source;
    const espl_choices_options *o;
    prompt_builder prompts;
    espl_ids last, scored; /* of each choice: its final id, which is only a target; how many ids are scored */
    espl_ids ids;
} encoder;

static espl_status push(espl_ids *ids, int64_t value) {
    if (ids->len == ids->cap) {
        int64_t cap = ids->cap ? ids->cap * 2 : 256;
        ESPL_TRY(espl_mem_resize(&ids->data, cap, sizeof *ids->data, "choices"));
        ids->cap = cap;
    }
    ids->data[ids->len++] = (int32_t)value;
    return ESPL_OK;
}

/* One choice: all its ids but the last are read, from the left cut to the context. */
static espl_status encode_choice(encoder *e, const choice_pair *p, int64_t group, espl_choice_question *q) {
    int64_t scored = 0;
    ESPL_TRY(choices_encode(e->t, e->source, p, e->o->start, &e->ids, &scored));
    int64_t n = e->ids.len - 1, cut = n > e->o->context ? n - e->o->context : 0;
    if (scored < 1 || n < 1)
        return ESPL_FAIL(ESPL_FORMAT, "%s: line %lld: a choice adds no token to its context", e->o->path,
                         (long long)q->line);
    if (scored > e->o->context)
        return ESPL_FAIL(ESPL_CONFIG, "%s: line %lld: a choice of %lld tokens does not fit a context of %lld",
                         e->o->path, (long long)q->line, (long long)scored, (long long)e->o->context);
    if (cut > q->cut) q->cut = (int32_t)cut;
    ESPL_TRY(push(&e->last, e->ids.data[n]));
    ESPL_TRY(push(&e->scored, scored));
    return builder_add(&e->prompts, e->ids.data + cut, n - cut, scored, group);
}

static espl_status encode_questions(encoder *e, espl_choices *out) {
    for (int64_t i = 0; i < out->n; i++) {
        espl_choice_question *q = &out->questions[i];
        int64_t first = q->first;
        q->first = e->prompts.n;
        for (int64_t k = 0; k < q->count; k++) ESPL_TRY(encode_choice(e, &e->source->pairs[first + k], i, q));
    }
    return ESPL_OK;
}

/* The target of a position is the next id, from the last one of the context on. */
static espl_status make_targets(const encoder *e, espl_choices *out) {
    const espl_prompts *p = &out->prompts;
    ESPL_TRY(espl_mem_alloc(&out->targets, p->n_ids, sizeof *out->targets, "targets"));
    for (int64_t i = 0; i < p->n_ids; i++) out->targets[i] = -1;
    if (e->scored.len != p->n || e->last.len != p->n) return ESPL_FAIL(ESPL_INTERNAL, "choices counted wrongly");
    for (int64_t i = 0; i < p->n; i++) {
        const espl_prompt *q = &p->prompts[i];
        int64_t end = q->at + q->n;
        for (int64_t k = end - e->scored.data[i]; k < end; k++)
            out->targets[k] = k + 1 < end ? p->ids[k + 1] : e->last.data[i];
    }
    return ESPL_OK;
}

static espl_status choose(const encoder *e, espl_choices *out) {
    int64_t *chosen;
    ESPL_TRY(espl_mem_alloc(&chosen, e->source->n, sizeof *chosen, "questions"));
    out->n = espl_eval_sample(e->source->n, e->o->questions, e->o->seed, chosen);
    espl_status st = espl_mem_alloc(&out->questions, out->n, sizeof *out->questions, "questions");
    for (int64_t i = 0; i < out->n && st == ESPL_OK; i++) out->questions[i] = e->source->questions[chosen[i]];
    espl_mem_free(&chosen);
    return st;
}

/* Before the questions' `first` turns from pairs to prompts. */
static espl_status count_characters(const encoder *e, espl_choices *out) {
    int64_t n = 0, at = 0;
    for (int64_t i = 0; i < out->n; i++) n += out->questions[i].count;
    ESPL_TRY(espl_mem_alloc(&out->characters, n, sizeof *out->characters, "choices"));
    for (int64_t i = 0; i < out->n; i++)
        for (int64_t k = 0; k < out->questions[i].count; k++) {
            const char *text = e->source->text.data + e->source->pairs[out->questions[i].first + k].choice;
            out->characters[at++] = (int32_t)text_characters(text, (int64_t)strlen(text));
        }
    return ESPL_OK;
}

static espl_status encode_set(encoder *e, espl_choices *out) {
    ESPL_TRY(choose(e, out));
    ESPL_TRY(count_characters(e, out));
    ESPL_TRY(encode_questions(e, out));
    ESPL_TRY(builder_finish(&e->prompts, &out->prompts));
    return make_targets(e, out);
}

static espl_status read_set(const espl_tokenizer *t, const espl_choices_options *o, espl_choices *out) {
    choices_source source = {0};
    encoder e = {.t = t, .source = &source, .o = o};
    espl_status st = choices_source_read(o->path, &source);
    if (st == ESPL_OK) st = encode_set(&e, out);
    builder_free(&e.prompts);
    espl_ids_free(&e.last);
    espl_ids_free(&e.scored);
    espl_ids_free(&e.ids);
    choices_source_free(&source);
    return st;
}

static espl_status share(espl_comm *c, espl_choices *s) {
    espl_comm_broadcast(c, &s->n, sizeof s->n, 0);
    ESPL_TRY(espl_eval_share_array(c, &s->questions, s->n, sizeof *s->questions, "questions"));
    ESPL_TRY(prompts_share(c, &s->prompts));
    ESPL_TRY(espl_eval_share_array(c, &s->targets, s->prompts.n_ids, sizeof *s->targets, "targets"));
    return espl_eval_share_array(c, &s->characters, s->prompts.n, sizeof *s->characters, "choices");
}

espl_status espl_choices_read(espl_comm *c, const espl_tokenizer *t, const espl_choices_options *o, espl_choices *out) {
    *out = (espl_choices){0};
    double start = espl_clock_now();
    espl_status st = espl_comm_agree(c, espl_comm_rank(c) == 0 ? read_set(t, o, out) : ESPL_OK);
    espl_region_add(ESPL_REGION_TOKENIZE, espl_clock_now() - start);
    if (st == ESPL_OK) st = share(c, out);
    if (st != ESPL_OK) espl_choices_free(out);
    return st;
}
