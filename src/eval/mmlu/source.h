/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: MMLU's files and prompts, on rank 0. All functions are Local. */
#ifndef ESPL_EVAL_MMLU_SOURCE_H
#define ESPL_EVAL_MMLU_SOURCE_H

#include "espalier/eval/mmlu.h"
#include "mmlu/csv.h"

/* Columns of every file: question, four choices, letter of the answer. */
enum { MMLU_COLUMN_QUESTION = 0, MMLU_COLUMN_CHOICES = 1, MMLU_COLUMN_ANSWER = 5, MMLU_COLUMNS = 6 };

typedef struct espl_mmlu_source_subject {
    char name[ESPL_MMLU_SUBJECT_MAX];
    espl_csv asked, dev; /* questions; examples (empty without shots) */
} espl_mmlu_source_subject;

typedef struct espl_mmlu_source {
    espl_mmlu_source_subject *subjects; /* [n] in alphabetical order */
    int64_t n;
    espl_mmlu_style style;
} espl_mmlu_source;

/* ESPL_IO; ESPL_FORMAT with file and line. Call espl_mmlu_source_free also after a failure. */
espl_status espl_mmlu_source_read(const espl_mmlu_options *o, espl_mmlu_source *out);
void espl_mmlu_source_free(espl_mmlu_source *s);

/* The parts of a prompt: the line that names the subject, with an empty line; a question of a file, up to and including
 * "Answer:". */
void espl_mmlu_source_header(const espl_mmlu_source *s, int64_t subject, espl_str *out);
void espl_mmlu_source_question(const espl_mmlu_source *s, const espl_csv *file, int64_t row, espl_str *out);
/* Appends the prompt of a question, with the first `shots` examples, up to and including "Answer:". */
void espl_mmlu_source_prompt(const espl_mmlu_source *s, int64_t subject, int64_t row, int64_t shots, espl_str *out);

/* The tokens of " A" .. " D" after "Answer:": the last token of each into `letters`; the tokens before it, equal for
 * all four and usually none, into *lead, which belongs to the end of the prompt. ESPL_UNSUPPORTED if the tokenizer does
 * not separate the letters this way. */
espl_status espl_mmlu_letters(const espl_tokenizer *t, int32_t letters[ESPL_MMLU_CHOICES], espl_ids *lead);

#endif
