/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/choices: multiple choice by likelihood, as lm-evaluation-harness's output type "multiple_choice" (ARC,
 * HellaSwag, PIQA, ... in one JSON Lines format; docs/evaluation.md).
 */
#ifndef ESPALIER_EVAL_CHOICES_H
#define ESPALIER_EVAL_CHOICES_H

#include "espalier/eval/prompts.h"
#include "espalier/eval/proportion.h"
#include "espalier/model/model.h"
#include "espalier/tokenizer.h"

typedef struct espl_choices_options {
    const char *path;
    int64_t context;   /* maximum length of context and continuation in tokens; cut on the left */
    int32_t start;     /* token that stands for an empty context: the model's BOS, else its EOS */
    int64_t questions; /* 0: all; else a random sample of this size, drawn from `seed` */
    uint64_t seed;
} espl_choices_options;

typedef struct espl_choice_question {
    int64_t line;         /* of the file, from 1 */
    int64_t first, count; /* its choices: prompts first .. first + count - 1 */
    int32_t answer;       /* 0 .. count - 1 */
    int32_t cut;          /* tokens cut on the left of its longest choice */
} espl_choice_question;

/* An encoded question set, the same on every rank. */
typedef struct espl_choices {
    espl_choice_question *questions; /* [n], owned */
    espl_prompts prompts;
    int32_t *targets;    /* [prompts.n_ids] the token to score after this one, -1: none; owned */
    int32_t *characters; /* [prompts.n] length of the choice's text in code points; owned */
    int64_t n;
} espl_choices;

/* Collective. Reads JSON Lines: {"context": "...", "choices": ["..."], "answer": 0, "delimiter": " "}. "context" may
 * be a list with one context per choice; "delimiter", a space by default, stands between context and choice. Context
 * and choice are encoded as lm-evaluation-harness does: white space at the end of the context moves to the
 * continuation, whose tokens are those of the whole text beyond the number of tokens of the context. Rank 0 reads and
 * encodes; t is used there only. Every rank returns the same status: ESPL_IO; ESPL_FORMAT with file and line;
 * ESPL_CONFIG: a choice is longer than the context. Free with espl_choices_free. */
espl_status espl_choices_read(espl_comm *c, const espl_tokenizer *t, const espl_choices_options *o, espl_choices *out);
/* Local. */
void espl_choices_free(espl_choices *s);

typedef struct espl_choices_result {
    espl_proportion acc, acc_norm; /* by the largest log-probability; by the largest per character */
    double *logprob;               /* [prompts.n] of each choice, owned */
    int32_t *choice, *choice_norm; /* [n], owned; -1: a log-probability is NaN, counted as wrong */
    int64_t unanswered;            /* number of such questions */
    double seconds;
} espl_choices_result;

/* Collective. Evaluates the set; the result is the same on every rank. The model must have been opened with options
 * raised by espl_prompts_need. Free *out with espl_choices_result_free, which is also safe after a failure. */
espl_status espl_eval_choices(espl_comm *c, espl_model *m, const espl_choices *set, espl_choices_result *out);
/* Local. */
void espl_choices_result_free(espl_choices_result *r);
/* Local. Appends one JSON line per question to *out. */
void espl_choices_details(const espl_choices *set, const espl_choices_result *r, espl_str *out);

#endif
