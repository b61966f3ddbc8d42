/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/knowledge: the loss of the answers to probe questions.
 *
 * Right answers are counted by eval/mmlu and eval/freebaseqa. A count changes only when an answer flips; the loss of
 * the answer's tokens moves with every weight, has a gradient, and needs no generation. Questions with their answers
 * follow each other in windows, as in a few-shot prompt, so that one pass over a window serves many of them.
 */
#ifndef ESPALIER_EVAL_KNOWLEDGE_H
#define ESPALIER_EVAL_KNOWLEDGE_H

#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/mmlu.h"
#include "espalier/model/calibration.h"

typedef struct espl_knowledge_options {
    const char *mmlu; /* directory as in espl_mmlu_options; NULL: none */
    espl_mmlu_split split;
    espl_mmlu_style style;
    const char *freebaseqa; /* NULL: none */
    int64_t skip;           /* first questions of FreebaseQA, which are examples of prompts */
    int64_t window;         /* tokens */
    int64_t windows; /* at most so many for each of the two sets; those of MMLU in equal parts for its categories */
    uint64_t seed;
    espl_question_part part;
} espl_knowledge_options;

/* A question in its window: the tokens at at + 1 .. at + n are its answer (MMLU: the letter). */
typedef struct espl_knowledge_question {
    int64_t window, at, n;
} espl_knowledge_question;

/* Windows of questions, the same on every rank. A topic has windows first[t] .. first[t + 1] - 1. Zero-initialise; free
 * with espl_knowledge_free. */
typedef struct espl_knowledge {
    int64_t window, first[ESPL_TOPICS + 1];
    int32_t *ids;     /* [windows, window], owned; a window that is not full ends in padding */
    int32_t *targets; /* [windows, window] the answer's tokens where they are predicted, else -1; owned */
    int64_t *lengths; /* [windows] tokens before the padding, owned */
    espl_knowledge_question *questions; /* [n] by window, owned */
    int64_t n;
    int32_t letters[ESPL_MMLU_CHOICES]; /* MMLU's targets compete among these */
} espl_knowledge;

/* Collective. Rank 0 reads and encodes; t is used there only. Questions that do not fit a window are left out. Every
 * rank returns the same status: errors as espl_mmlu_read and espl_freebaseqa_read. A file without a question for this
 * part is noted. */
espl_status espl_knowledge_read(espl_comm *c, const espl_tokenizer *t, const espl_knowledge_options *o,
                                espl_knowledge *out);
/* Local. */
void espl_knowledge_free(espl_knowledge *k);
/* Local. The windows of each topic as samples for espl_model_calibrate_knowledge. Borrowed. */
void espl_knowledge_samples(const espl_knowledge *k, espl_topic_samples samples[ESPL_TOPICS]);
/* Local. The topic of a window. */
espl_topic espl_knowledge_topic(const espl_knowledge *k, int64_t window);

/* Collective. loss [k->n], written on every rank: the mean loss of each answer's tokens, in nats. Raise the model's
 * context to k->window before it is opened. */
espl_status espl_eval_knowledge(espl_comm *c, espl_model *m, const espl_knowledge *k, double *loss);

#endif
