/* Which questions are asked, behind which examples, as ids; then the same set on every rank. */
#include "freebaseqa.h"

#include <string.h>

static const char *const mode_names[] = {
#define X(name, label) label,
    ESPL_FREEBASEQA_MODE_LIST(X)
#undef X
};

const char *espl_freebaseqa_mode_name(espl_freebaseqa_mode m) {
    return (unsigned)m < ESPL_FREEBASEQA_MODE_COUNT ? mode_names[m] : "?";
}

void espl_freebaseqa_free(espl_freebaseqa *f) {
    espl_prompts_free(&f->prompts);
    espl_mem_free(&f->questions);
    espl_mem_free(&f->stops);
    espl_mem_free(&f->text);
    espl_mem_free(&f->alias_at);
    *f = (espl_freebaseqa){0};
}

/* The sample of the questions that are no examples. */
static espl_status choose(const freebaseqa_source *s, int64_t skip, const espl_freebaseqa_options *o,
                          espl_freebaseqa *out) {
    int64_t *chosen, rest = s->n > skip ? s->n - skip : 0;
    ESPL_TRY(espl_mem_alloc(&chosen, rest, sizeof *chosen, "questions"));
    out->n = espl_eval_sample(rest, o->questions, o->seed, chosen);
    espl_status st = espl_mem_alloc(&out->questions, out->n, sizeof *out->questions, "questions");
    for (int64_t i = 0; i < out->n && st == ESPL_OK; i++) {
        out->questions[i] = s->questions[skip + chosen[i]];
        out->questions[i].max_tokens = skip + chosen[i]; /* which question, until its prompt is made */
    }
    espl_mem_free(&chosen);
    if (st == ESPL_OK && out->n == 0) return ESPL_FAIL(ESPL_FORMAT, "%s: no questions", o->path);
    return st;
}

typedef struct encoder {
    const espl_tokenizer *t;
    const espl_freebaseqa_options *o;
    const freebaseqa_source *asked, *examples;
    int64_t shots;
    espl_str text;
    espl_ids ids;
} encoder;

static espl_status encode(encoder *e, int64_t i) {
    e->text.len = e->ids.len = 0;
    for (int64_t k = 0; k < e->shots; k++) freebaseqa_example(e->examples, k, &e->text);
    freebaseqa_prompt(e->asked, e->o->mode, i, &e->text);
    ESPL_TRY(espl_str_status(&e->text));
    return espl_tokenizer_encode(e->t, e->text.data, e->text.len, true, &e->ids);
}

/* llm-kick: prompt and continuation together are three times the prompt. A continuation must leave room for one token
 * of the prompt. */
static int64_t continuation(const encoder *e) {
    int64_t most = e->o->mode == ESPL_FREEBASEQA_LLM_KICK ? 2 * e->ids.len : e->o->max_tokens;
    return most < e->o->context - 1 ? most : e->o->context - 1;
}

/* All prompts have the same examples: as many as the longest question leaves room for. */
static espl_status fit_shots(encoder *e, const espl_freebaseqa *f) {
    for (int64_t i = 0; i < f->n; i++) {
        ESPL_TRY(encode(e, f->questions[i].max_tokens));
        while (e->shots > 0 && e->ids.len + continuation(e) > e->o->context) {
            e->shots--;
            ESPL_TRY(encode(e, f->questions[i].max_tokens));
        }
    }
    return ESPL_OK;
}

static espl_status encode_all(encoder *e, espl_freebaseqa *f) {
    prompt_builder b = {0};
    espl_status st = fit_shots(e, f);
    for (int64_t i = 0; i < f->n && st == ESPL_OK; i++) {
        st = encode(e, f->questions[i].max_tokens);
        if (st != ESPL_OK) break;
        int64_t most = continuation(e), cut = e->ids.len + most - e->o->context;
        cut = cut > 0 ? cut : 0;
        f->questions[i].max_tokens = most;
        st = e->ids.len > cut ? builder_add(&b, e->ids.data + cut, e->ids.len - cut, 1, 0)
                              : ESPL_FAIL(ESPL_CONFIG, "question %lld has no tokens", (long long)i);
    }
    if (st == ESPL_OK) st = builder_finish(&b, &f->prompts);
    builder_free(&b);
    f->shots = e->shots;
    return st;
}

/* Standard mode: a token with a line end in it ends the answer. */
static espl_status find_line_ends(const espl_tokenizer *t, espl_freebaseqa *f) {
    espl_str bytes = {0};
    espl_status st = ESPL_OK;
    for (int64_t id = 0; id < f->n_stops && st == ESPL_OK; id++) {
        bytes.len = 0;
        if (espl_tokenizer_token_bytes(t, (int32_t)id, &bytes) != ESPL_OK) continue; /* a hole in the vocabulary */
        st = espl_str_status(&bytes);
        if (bytes.len > 0 && memchr(bytes.data, '\n', (size_t)bytes.len)) f->stops[id] = ESPL_STOP_KEEP;
    }
    espl_base_error_clear();
    espl_str_free(&bytes);
    return st;
}

static espl_status encode_set(const espl_tokenizer *t, const espl_freebaseqa_options *o, const freebaseqa_source *asked,
                              const freebaseqa_source *examples, espl_freebaseqa *out) {
    encoder e = {.t = t, .o = o, .asked = asked, .examples = examples};
    e.shots = o->mode == ESPL_FREEBASEQA_LLM_KICK ? 0 : o->shots < examples->n ? o->shots : examples->n;
    espl_status st = choose(asked, asked == examples ? e.shots : 0, o, out);
    if (st == ESPL_OK) st = encode_all(&e, out);
    out->n_stops = espl_tokenizer_vocab_size(t);
    if (st == ESPL_OK) st = espl_mem_alloc(&out->stops, out->n_stops, 1, "stop tokens");
    if (st == ESPL_OK && o->mode == ESPL_FREEBASEQA_STANDARD) st = find_line_ends(t, out);
    espl_str_free(&e.text);
    espl_ids_free(&e.ids);
    return st;
}

static espl_status read_set(const espl_tokenizer *t, const espl_freebaseqa_options *o, espl_freebaseqa *out) {
    freebaseqa_source asked = {0}, examples = {0};
    bool own = o->shots_path && o->mode == ESPL_FREEBASEQA_STANDARD;
    espl_status st = freebaseqa_source_read(o->path, &asked);
    if (st == ESPL_OK && own) st = freebaseqa_source_read(o->shots_path, &examples);
    if (st == ESPL_OK && o->context < 2) st = ESPL_FAIL(ESPL_CONFIG, "no room for a prompt");
    if (st == ESPL_OK) st = encode_set(t, o, &asked, own ? &examples : &asked, out);
    out->text = asked.text.data; /* handed over */
    out->alias_at = asked.alias_at;
    asked.text = (espl_str){0};
    asked.alias_at = NULL;
    freebaseqa_source_free(&asked);
    freebaseqa_source_free(&examples);
    return st;
}

static espl_status share(espl_comm *c, espl_freebaseqa *f) {
    int64_t counts[3] = {f->n, f->n_stops, f->shots};
    espl_comm_broadcast(c, counts, sizeof counts, 0);
    f->n = counts[0];
    f->n_stops = counts[1];
    f->shots = counts[2];
    ESPL_TRY(espl_eval_share_array(c, &f->questions, f->n, sizeof *f->questions, "questions"));
    ESPL_TRY(espl_eval_share_array(c, &f->stops, f->n_stops, 1, "stop tokens"));
    return prompts_share(c, &f->prompts);
}

espl_status espl_freebaseqa_read(espl_comm *c, const espl_tokenizer *t, const espl_freebaseqa_options *o,
                                 espl_freebaseqa *out) {
    *out = (espl_freebaseqa){.mode = o->mode, .tokenizer = t};
    double start = espl_clock_now();
    espl_status st = espl_comm_agree(c, espl_comm_rank(c) == 0 ? read_set(t, o, out) : ESPL_OK);
    espl_region_add(ESPL_REGION_TOKENIZE, espl_clock_now() - start);
    if (st == ESPL_OK) st = share(c, out);
    if (st != ESPL_OK) espl_freebaseqa_free(out);
    return st;
}
