/* SPDX-License-Identifier: Apache-2.0 */
/* espalier eval: what was asked for, and what was measured. */
#ifndef ESPL_CLI_EVAL_H
#define ESPL_CLI_EVAL_H

#include "espalier/eval/choices.h"
#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/mmlu.h"
#include "espalier/eval/perplexity.h"
#include "options.h"

/* Texts are borrowed from argv. NULL and 0: not given. */
typedef struct cli_eval_options {
    cli_shared shared;
    const char *text, *mmlu, *freebaseqa, *choices; /* what to measure */
    espl_mmlu_split mmlu_split;
    espl_mmlu_style mmlu_style;
    espl_freebaseqa_mode freebaseqa_mode;
    const char *freebaseqa_examples, *details;
    espl_arithmetic arithmetic;
    int64_t shots, context, questions, limit, seed;
} cli_eval_options;

/* Question sets and their results; those not asked for are zero. */
typedef struct cli_eval_results {
    espl_perplexity perplexity;
    espl_mmlu mmlu;
    espl_mmlu_result mmlu_result;
    espl_freebaseqa freebaseqa;
    espl_freebaseqa_result freebaseqa_result;
    espl_choices choices;
    espl_choices_result choices_result;
} cli_eval_results;

/* Rank 0 only. Prints the results as one JSON object, or as tables for people. ESPL_NOMEM. */
espl_status cli_eval_print(const espl_comm *c, const cli_eval_options *o, const cli_eval_results *r);

#endif
