/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selects the questions, encodes their prompts, and sends the set to all ranks.
 *
 * All prompts of a set have the same examples, so that they form one family: batched decoding wants a single prefix. If
 * the longest question has no room for all examples, every question gets fewer.
 */
#include <inttypes.h>
#include <string.h>

#include "broadcast.h"
#include "espalier/eval/decode.h"
#include "freebaseqa/source.h"
#include "prompt_builder.h"
#include "sample.h"

static const char *const freebaseqa_mode_labels[] = {
#define X(name, label) label,
    ESPL_FREEBASEQA_MODE_LIST(X)
#undef X
};

const char *espl_freebaseqa_mode_name(espl_freebaseqa_mode m) {
    return (unsigned)m < ESPL_FREEBASEQA_MODE_COUNT ? freebaseqa_mode_labels[m] : "?";
}

bool espl_freebaseqa_mode_parse(const char *name, espl_freebaseqa_mode *out) {
    for (int i = 0; i < ESPL_FREEBASEQA_MODE_COUNT; i++)
        if (strcmp(freebaseqa_mode_labels[i], name) == 0) return *out = (espl_freebaseqa_mode)i, true;
    return false;
}

void espl_freebaseqa_free(espl_freebaseqa *f) {
    espl_prompts_free(&f->prompts);
    espl_mem_free(&f->questions);
    espl_mem_free(&f->stops);
    espl_mem_free(&f->text);
    espl_mem_free(&f->alias_at);
    *f = (espl_freebaseqa){0};
}

typedef struct freebaseqa_encoder {
    const espl_tokenizer *t;
    const espl_freebaseqa_options *o;
    const espl_freebaseqa_source *asked, *examples;
    int64_t *chosen; /* [questions of the set] indices in `asked` */
    int64_t shots;
    int64_t max_tokens; /* of the continuation of the newest prompt */
    espl_ids ids;       /* the newest prompt */
    espl_str text;      /* scratch */
} freebaseqa_encoder;

/* Encodes question i of the set behind e->shots examples. */
static espl_status freebaseqa_encode_prompt(freebaseqa_encoder *e, int64_t i) {
    e->text.len = e->ids.len = 0;
    for (int64_t k = 0; k < e->shots; k++) espl_freebaseqa_source_example(e->examples, k, &e->text);
    espl_freebaseqa_source_prompt(e->asked, e->o->mode, e->chosen[i], &e->text);
    ESPL_TRY(espl_str_status(&e->text));
    ESPL_TRY(espl_tokenizer_encode(e->t, e->text.data, e->text.len, true, &e->ids));
    /* llm-kick: prompt and continuation together are three times as long as the prompt. In either mode at least one
     * token of the prompt must remain in the context. */
    int64_t wanted = e->o->mode == ESPL_FREEBASEQA_LLM_KICK ? 2 * e->ids.len : e->o->max_tokens;
    e->max_tokens = espl_min_i64(wanted, e->o->context - 1);
    return ESPL_OK;
}

/* Samples the questions after the first `skip`, which serve as examples. */
static espl_status freebaseqa_choose_questions(freebaseqa_encoder *e, int64_t skip, espl_freebaseqa *out) {
    int64_t rest = espl_max_i64(e->asked->n - skip, 0);
    ESPL_TRY(espl_mem_alloc(&e->chosen, rest, sizeof *e->chosen, "questions"));
    out->n = espl_sample_part(rest, e->o->part, e->o->questions, e->o->seed, e->chosen);
    if (out->n == 0) return ESPL_FAIL(ESPL_FORMAT, "%s: no questions", e->o->path);
    ESPL_TRY(espl_mem_alloc(&out->questions, out->n, sizeof *out->questions, "questions"));
    for (int64_t i = 0; i < out->n; i++) {
        e->chosen[i] += skip;
        out->questions[i] = e->asked->questions[e->chosen[i]];
    }
    return ESPL_OK;
}

/* Encodes all prompts and sets f->shots and the questions' max_tokens. What does not fit even without examples is cut
 * on the left: the question's end and "A:" matter most. */
static espl_status freebaseqa_encode_all(freebaseqa_encoder *e, espl_freebaseqa *f) {
    espl_prompt_builder b = {0};
    espl_status st;
    for (int64_t i = 0; i < f->n; i++) { /* first pass: how many examples fit with the longest question */
        ESPL_CHECK(st, done, freebaseqa_encode_prompt(e, i));
        while (e->shots > 0 && e->ids.len + e->max_tokens > e->o->context) {
            e->shots--;
            ESPL_CHECK(st, done, freebaseqa_encode_prompt(e, i));
        }
    }
    f->shots = e->shots;
    for (int64_t i = 0; i < f->n; i++) {
        ESPL_CHECK(st, done, freebaseqa_encode_prompt(e, i));
        int64_t cut = espl_max_i64(e->ids.len + e->max_tokens - e->o->context, 0);
        f->questions[i].max_tokens = e->max_tokens;
        if (e->ids.len <= cut) {
            st = ESPL_FAIL(ESPL_CONFIG, "%s: question %" PRId64 " has no tokens", e->o->path, e->chosen[i]);
            goto done;
        }
        ESPL_CHECK(st, done, espl_prompt_builder_add(&b, e->ids.data + cut, e->ids.len - cut, 1, 0));
    }
    st = espl_prompt_builder_finish(&b, &f->prompts);
done:
    espl_prompt_builder_free(&b);
    return st;
}

/* Standard mode: a token that contains a line end ends the answer, which is a single line. The token is kept: it may
 * begin with text of that line. */
static espl_status freebaseqa_find_stops(const espl_tokenizer *t, espl_freebaseqa *f) {
    espl_str bytes = {0};
    espl_status st = ESPL_OK;
    for (int64_t id = 0; id < f->n_stops && st == ESPL_OK; id++) {
        bytes.len = 0;
        if (espl_tokenizer_token_bytes(t, (int32_t)id, &bytes) != ESPL_OK) continue; /* a hole in the vocabulary */
        st = espl_str_status(&bytes);
        if (bytes.len > 0 && memchr(bytes.data, '\n', (size_t)bytes.len)) f->stops[id] = ESPL_STOP_KEEP;
    }
    if (st == ESPL_OK) espl_base_error_clear(); /* of the holes */
    espl_str_free(&bytes);
    return st;
}

/* Rank 0's part of espl_freebaseqa_read. */
static espl_status freebaseqa_read_and_encode(const espl_tokenizer *t, const espl_freebaseqa_options *o,
                                              espl_freebaseqa *out) {
    espl_freebaseqa_source asked = {0}, examples = {0};
    freebaseqa_encoder e = {.t = t, .o = o, .asked = &asked, .examples = &asked};
    bool standard = o->mode == ESPL_FREEBASEQA_STANDARD;
    espl_status st;
    ESPL_CHECK(st, done, espl_freebaseqa_source_read(o->path, &asked));
    if (o->shots_path && standard) {
        ESPL_CHECK(st, done, espl_freebaseqa_source_read(o->shots_path, &examples));
        e.examples = &examples;
    }
    if (o->context < 2) {
        st = ESPL_FAIL(ESPL_CONFIG, "a context of %" PRId64 " tokens has no room for a prompt and a continuation",
                       o->context);
        goto done;
    }
    e.shots = standard ? espl_min_i64(o->shots, e.examples->n) : 0;
    ESPL_CHECK(st, done, freebaseqa_choose_questions(&e, e.examples == &asked ? e.shots : 0, out));
    ESPL_CHECK(st, done, freebaseqa_encode_all(&e, out));
    out->n_stops = espl_tokenizer_vocab_size(t);
    ESPL_CHECK(st, done, espl_mem_alloc(&out->stops, out->n_stops, 1, "stop tokens"));
    if (standard) ESPL_CHECK(st, done, freebaseqa_find_stops(t, out));
    out->text = asked.text.data; /* handed over */
    out->alias_at = asked.alias_at;
    asked.text = (espl_str){0};
    asked.alias_at = NULL;
done:
    espl_mem_free(&e.chosen);
    espl_ids_free(&e.ids);
    espl_str_free(&e.text);
    espl_freebaseqa_source_free(&asked);
    espl_freebaseqa_source_free(&examples);
    return st;
}

espl_status espl_freebaseqa_read(espl_comm *c, const espl_tokenizer *t, const espl_freebaseqa_options *o,
                                 espl_freebaseqa *out) {
    ESPL_REGION_SCOPE(ESPL_REGION_TOKENIZE);
    espl_status st;
    *out = (espl_freebaseqa){.mode = o->mode, .tokenizer = t};
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_comm_rank(c) == 0 ? freebaseqa_read_and_encode(t, o, out) : ESPL_OK));
    int64_t counts[3] = {out->n, out->n_stops, out->shots};
    espl_comm_broadcast(c, counts, sizeof counts, 0);
    out->n = counts[0];
    out->n_stops = counts[1];
    out->shots = counts[2];
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->questions, out->n, sizeof *out->questions, "questions"));
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->stops, out->n_stops, 1, "stop tokens"));
    st = espl_prompts_broadcast(c, &out->prompts);
done:
    if (st != ESPL_OK) espl_freebaseqa_free(out);
    return st;
}
