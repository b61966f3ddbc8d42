/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: FreebaseQA's questions and prompts, on rank 0. All functions are Local. */
#ifndef ESPL_EVAL_FREEBASEQA_SOURCE_H
#define ESPL_EVAL_FREEBASEQA_SOURCE_H

#include "espalier/eval/freebaseqa.h"

typedef struct espl_freebaseqa_source {
    espl_freebaseqa_question *questions; /* [n]; max_tokens is not set */
    int64_t n;
    int64_t *alias_at; /* [n_aliases] offsets in text */
    int64_t n_aliases, cap_aliases;
    espl_str text; /* NUL-terminated strings */
} espl_freebaseqa_source;

/* ESPL_IO; ESPL_FORMAT with file and question. Call espl_freebaseqa_source_free also after a failure. */
espl_status espl_freebaseqa_source_parse(const char *text, int64_t len, const char *name, espl_freebaseqa_source *out);
espl_status espl_freebaseqa_source_read(const char *path, espl_freebaseqa_source *out);
void espl_freebaseqa_source_free(espl_freebaseqa_source *s);

/* Standard mode: appends question i with its answer, the first alias. */
void espl_freebaseqa_source_example(const espl_freebaseqa_source *s, int64_t i, espl_str *out);
/* Appends question i, to be answered. */
void espl_freebaseqa_source_prompt(const espl_freebaseqa_source *s, espl_freebaseqa_mode mode, int64_t i,
                                   espl_str *out);

#endif
