/* Private to the eval room: MMLU's files and prompts, on rank 0. */
#ifndef ESPL_EVAL_MMLU_H
#define ESPL_EVAL_MMLU_H

#include "internal.h"

typedef struct mmlu_subject {
    char name[ESPL_MMLU_SUBJECT_MAX];
    csv asked, dev;
} mmlu_subject;

typedef struct mmlu_source {
    mmlu_subject *subjects; /* by name */
    int64_t n;
    espl_mmlu_style style;
} mmlu_source;

/* ESPL_IO, ESPL_FORMAT. Call mmlu_source_free in any case. */
espl_status mmlu_source_read(const espl_mmlu_options *o, mmlu_source *out);
void mmlu_source_free(mmlu_source *s);
/* The prompt of a question up to "Answer:", appended to *out. */
void mmlu_prompt(const mmlu_source *s, int64_t subject, int64_t row, int64_t shots, espl_str *out);
/* Ids of the letters after "Answer:", and what comes between (a space of its own, for some tokenizers). */
espl_status mmlu_letters(const espl_tokenizer *t, int32_t letters[4], espl_ids *lead);

#endif
