/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selects the questions, encodes their choices with the tokens to score, and sends the set to all ranks.
 *
 * A choice is read without its last token, which is only predicted. The choices of a question form a family: they share
 * the context, except for the positions that score.
 */
#include <inttypes.h>
#include <string.h>

#include "broadcast.h"
#include "choices/source.h"
#include "espalier/tokenizer.h"
#include "prompt_builder.h"
#include "sample.h"
#include "text.h"

void espl_choices_free(espl_choices *s) {
    espl_mem_free(&s->questions);
    espl_mem_free(&s->targets);
    espl_mem_free(&s->characters);
    espl_prompts_free(&s->prompts);
    *s = (espl_choices){0};
}

typedef struct choices_encoder {
    const espl_tokenizer *t;
    const espl_choices_source *source;
    const espl_choices_options *o;
    espl_prompt_builder prompts;
    espl_ids last;   /* per choice: its final token, only a target */
    espl_ids scored; /* per choice: number of scored positions */
    espl_ids ids;    /* the newest choice */
} choices_encoder;

/* Adds one choice of question q, cut on the left to the context. */
static espl_status choices_encode_choice(choices_encoder *e, const espl_choice_pair *p, int64_t family,
                                         espl_choice_question *q) {
    int64_t scored = 0, context = e->o->context;
    ESPL_TRY(espl_choices_source_encode(e->source, e->t, p, e->o->start, &e->ids, &scored));
    int64_t n = e->ids.len - 1, cut = espl_max_i64(n - context, 0);
    if (scored < 1 || n < 1)
        return ESPL_FAIL(ESPL_FORMAT, "%s: line %" PRId64 ": a choice adds no token to its context", e->o->path,
                         q->line);
    if (scored > context)
        return ESPL_FAIL(ESPL_CONFIG,
                         "%s: line %" PRId64 ": a choice of %" PRId64 " tokens does not fit a context of %" PRId64,
                         e->o->path, q->line, scored, context);
    q->cut = (int32_t)espl_max_i64(q->cut, cut);
    ESPL_TRY(espl_ids_append(&e->last, &e->ids.data[n], 1));
    ESPL_TRY(espl_ids_append(&e->scored, &(int32_t){(int32_t)scored}, 1));
    return espl_prompt_builder_add(&e->prompts, e->ids.data + cut, n - cut, scored, family);
}

/* Samples the questions and encodes their choices; `first` of each then counts prompts instead of pairs. */
static espl_status choices_encode_all(choices_encoder *e, espl_choices *out) {
    int64_t *chosen, n = 0, at = 0;
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&chosen, e->source->n, sizeof *chosen, "questions"));
    out->n = espl_sample_questions(e->source->n, e->o->questions, e->o->seed, chosen);
    ESPL_CHECK(st, done, espl_mem_alloc(&out->questions, out->n, sizeof *out->questions, "questions"));
    for (int64_t i = 0; i < out->n; i++) n += e->source->questions[chosen[i]].count;
    ESPL_CHECK(st, done, espl_mem_alloc(&out->characters, n, sizeof *out->characters, "choices"));
    for (int64_t i = 0; i < out->n; i++) {
        espl_choice_question *q = &out->questions[i];
        *q = e->source->questions[chosen[i]];
        const espl_choice_pair *pairs = &e->source->pairs[q->first];
        q->first = at;
        for (int64_t k = 0; k < q->count; k++) {
            const char *text = e->source->text.data + pairs[k].choice;
            out->characters[at++] = (int32_t)espl_text_characters(text, (int64_t)strlen(text));
            ESPL_CHECK(st, done, choices_encode_choice(e, &pairs[k], i, q));
        }
    }
    st = espl_prompt_builder_finish(&e->prompts, &out->prompts);
done:
    espl_mem_free(&chosen);
    return st;
}

/* Rank 0's part of espl_choices_read. */
static espl_status choices_read_and_encode(const espl_tokenizer *t, const espl_choices_options *o, espl_choices *out) {
    espl_choices_source source = {0};
    choices_encoder e = {.t = t, .source = &source, .o = o};
    const espl_prompts *p = &out->prompts;
    espl_status st;
    ESPL_CHECK(st, done, espl_choices_source_read(o->path, &source));
    ESPL_CHECK(st, done, choices_encode_all(&e, out));
    ESPL_CHECK(st, done, espl_mem_alloc(&out->targets, p->n_ids, sizeof *out->targets, "targets"));
    for (int64_t i = 0; i < p->n_ids; i++) out->targets[i] = -1;
    if (e.scored.len != p->n || e.last.len != p->n) {
        st = ESPL_FAIL(ESPL_INTERNAL, "%" PRId64 " prompts for %" PRId64 " choices", p->n, e.scored.len);
        goto done;
    }
    /* A scored position predicts the next id; the last one predicts the final token, which is not read. */
    for (int64_t i = 0; i < p->n; i++) {
        int64_t end = p->prompts[i].at + p->prompts[i].n;
        for (int64_t k = end - e.scored.data[i]; k < end; k++)
            out->targets[k] = k + 1 < end ? p->ids[k + 1] : e.last.data[i];
    }
done:
    espl_prompt_builder_free(&e.prompts);
    espl_ids_free(&e.last);
    espl_ids_free(&e.scored);
    espl_ids_free(&e.ids);
    espl_choices_source_free(&source);
    return st;
}

espl_status espl_choices_read(espl_comm *c, const espl_tokenizer *t, const espl_choices_options *o, espl_choices *out) {
    ESPL_REGION_SCOPE(ESPL_REGION_TOKENIZE);
    espl_status st;
    *out = (espl_choices){0};
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_comm_rank(c) == 0 ? choices_read_and_encode(t, o, out) : ESPL_OK));
    espl_comm_broadcast(c, &out->n, sizeof out->n, 0);
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->questions, out->n, sizeof *out->questions, "questions"));
    ESPL_CHECK(st, done, espl_prompts_broadcast(c, &out->prompts));
    ESPL_CHECK(st, done,
               espl_eval_broadcast_array(c, &out->targets, out->prompts.n_ids, sizeof *out->targets, "targets"));
    st = espl_eval_broadcast_array(c, &out->characters, out->prompts.n, sizeof *out->characters, "choices");
done:
    if (st != ESPL_OK) espl_choices_free(out);
    return st;
}
