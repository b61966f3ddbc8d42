/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selects the questions, encodes their prompts with as many examples as fit, and sends the set to all ranks.
 *
 * Dropping examples from the last on follows hendrycks/test (lm-evaluation-harness cuts tokens on the left instead):
 * questions with equally many examples then still share their prefix.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broadcast.h"
#include "espalier/tokenizer.h"
#include "mmlu/source.h"
#include "prompt_builder.h"
#include "sample.h"

void espl_mmlu_free(espl_mmlu *m) {
    espl_mem_free(&m->subjects);
    espl_mem_free(&m->questions);
    espl_prompts_free(&m->prompts);
    *m = (espl_mmlu){0};
}

/* Copies the subjects, and the sampled questions of all of them, to *out. Subjects without a sampled question stay in
 * the list, so that their index does not depend on the sample. */
static espl_status mmlu_choose_questions(const espl_mmlu_source *s, const espl_mmlu_options *o, espl_mmlu *out) {
    int64_t all = 0, subject = 0, before = 0, *chosen;
    espl_status st;
    for (int64_t i = 0; i < s->n; i++) all += s->subjects[i].asked.rows;
    ESPL_TRY(espl_mem_alloc(&chosen, all, sizeof *chosen, "questions"));
    out->n = espl_sample_part(all, o->part, o->questions, o->seed, chosen);
    ESPL_CHECK(st, done, espl_mem_alloc(&out->questions, out->n, sizeof *out->questions, "questions"));
    ESPL_CHECK(st, done, espl_mem_alloc(&out->subjects, s->n, sizeof *out->subjects, "subjects"));
    out->n_subjects = s->n;
    for (int64_t i = 0; i < s->n; i++) {
        memcpy(out->subjects[i].name, s->subjects[i].name, sizeof out->subjects[i].name);
        out->subjects[i].category = espl_mmlu_category_of(s->subjects[i].name);
    }
    for (int64_t i = 0; i < out->n; i++) { /* `chosen` counts through all subjects, in ascending order */
        while (chosen[i] >= before + s->subjects[subject].asked.rows) before += s->subjects[subject++].asked.rows;
        int64_t row = chosen[i] - before;
        int32_t answer = espl_csv_cell(&s->subjects[subject].asked, row, MMLU_COLUMN_ANSWER)[0] - 'A';
        out->questions[i] = (espl_mmlu_question){.subject = subject, .row = row, .answer = answer};
    }
    if (out->n == 0) st = ESPL_FAIL(ESPL_FORMAT, "%s/%s: no questions", o->dir, espl_mmlu_split_name(o->split));
done:
    espl_mem_free(&chosen);
    return st;
}

/* What encoding the prompts needs, on rank 0. */
typedef struct mmlu_encoder {
    const espl_tokenizer *t;
    const espl_mmlu_source *source;
    const espl_mmlu_options *o;
    espl_ids ids;  /* of the newest prompt */
    espl_ids lead; /* what all letters have in common, at the end of every prompt */
    espl_str text; /* scratch */
} mmlu_encoder;

/* Encodes the prompt of *q with the first `shots` examples into e->ids, not yet cut and without the lead. */
static espl_status mmlu_encode_prompt(mmlu_encoder *e, const espl_mmlu_question *q, int64_t shots) {
    e->text.len = e->ids.len = 0;
    espl_mmlu_source_prompt(e->source, q->subject, q->row, shots, &e->text);
    ESPL_TRY(espl_str_status(&e->text));
    return espl_tokenizer_encode(e->t, e->text.data, e->text.len, true, &e->ids);
}

/* By subject, then from many examples to few, then by row: questions that share a prefix are adjacent. */
static int mmlu_compare_families(const void *a, const void *b) {
    const espl_mmlu_question *x = a, *y = b;
    if (x->subject != y->subject) return x->subject < y->subject ? -1 : 1;
    if (x->shots != y->shots) return x->shots > y->shots ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Encodes all questions in their current order, each with as many examples as fit, and notes in each what was left out.
 * *sorted: questions that share a prefix were adjacent. */
static espl_status mmlu_encode_in_order(mmlu_encoder *e, espl_mmlu *out, espl_prompt_builder *b, bool *sorted) {
    int64_t room = e->o->context - e->lead.len;
    *sorted = true;
    for (int64_t i = 0; i < out->n; i++) {
        espl_mmlu_question *q = &out->questions[i];
        int64_t wanted = espl_min_i64(e->o->shots, e->source->subjects[q->subject].dev.rows), shots = wanted;
        ESPL_TRY(mmlu_encode_prompt(e, q, shots));
        while (e->ids.len > room && shots > 0) ESPL_TRY(mmlu_encode_prompt(e, q, --shots));
        q->shots = (int32_t)shots;
        q->dropped = (int32_t)(wanted - shots);
        q->cut = (int32_t)espl_max_i64(e->ids.len - room, 0);
        ESPL_TRY(espl_ids_append(&e->ids, e->lead.data, e->lead.len));
        int64_t family = q->subject * (e->o->shots + 1) + shots;
        ESPL_TRY(espl_prompt_builder_add(b, e->ids.data + q->cut, e->ids.len - q->cut, 1, family));
        *sorted = *sorted && (i == 0 || mmlu_compare_families(q - 1, q) <= 0);
    }
    return ESPL_OK;
}

/* Rank 0's part of espl_mmlu_read. */
static espl_status mmlu_read_and_encode(const espl_tokenizer *t, const espl_mmlu_options *o, espl_mmlu *out) {
    espl_mmlu_source source = {0};
    mmlu_encoder e = {.t = t, .source = &source, .o = o};
    espl_prompt_builder b = {0};
    bool sorted;
    espl_status st;
    ESPL_CHECK(st, done, espl_mmlu_source_read(o, &source));
    ESPL_CHECK(st, done, espl_mmlu_letters(t, out->letters, &e.lead));
    if (o->context <= e.lead.len + 1) {
        st = ESPL_FAIL(ESPL_CONFIG, "a context of %" PRId64 " tokens has no room for a prompt", o->context);
        goto done;
    }
    ESPL_CHECK(st, done, mmlu_choose_questions(&source, o, out));
    ESPL_CHECK(st, done, mmlu_encode_in_order(&e, out, &b, &sorted));
    if (!sorted) { /* only where examples were dropped, which a first pass must find out: seldom */
        qsort(out->questions, (size_t)out->n, sizeof *out->questions, mmlu_compare_families);
        espl_prompt_builder_free(&b);
        ESPL_CHECK(st, done, mmlu_encode_in_order(&e, out, &b, &sorted));
    }
    st = espl_prompt_builder_finish(&b, &out->prompts);
done:
    espl_prompt_builder_free(&b);
    espl_ids_free(&e.ids);
    espl_ids_free(&e.lead);
    espl_str_free(&e.text);
    espl_mmlu_source_free(&source);
    return st;
}

espl_status espl_mmlu_read(espl_comm *c, const espl_tokenizer *t, const espl_mmlu_options *o, espl_mmlu *out) {
    ESPL_REGION_SCOPE(ESPL_REGION_TOKENIZE);
    espl_status st;
    *out = (espl_mmlu){0};
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_comm_rank(c) == 0 ? mmlu_read_and_encode(t, o, out) : ESPL_OK));
    int64_t counts[2] = {out->n_subjects, out->n};
    espl_comm_broadcast(c, counts, sizeof counts, 0);
    espl_comm_broadcast(c, out->letters, sizeof out->letters, 0);
    out->n_subjects = counts[0];
    out->n = counts[1];
    ESPL_CHECK(st, done,
               espl_eval_broadcast_array(c, &out->subjects, out->n_subjects, sizeof *out->subjects, "subjects"));
    ESPL_CHECK(st, done, espl_eval_broadcast_array(c, &out->questions, out->n, sizeof *out->questions, "questions"));
    st = espl_prompts_broadcast(c, &out->prompts);
done:
    if (st != ESPL_OK) espl_mmlu_free(out);
    return st;
}
