/* Private to the eval room: FreebaseQA's questions, on rank 0. */
#ifndef ESPL_EVAL_FREEBASEQA_H
#define ESPL_EVAL_FREEBASEQA_H

#include "internal.h"

typedef struct freebaseqa_source {
    espl_freebaseqa_question *questions;
    int64_t n;
    int64_t *alias_at; /* offsets in text */
    int64_t n_aliases, cap_aliases;
    espl_str text;
} freebaseqa_source;

/* ESPL_IO; ESPL_FORMAT naming file and question. Call freebaseqa_source_free in any case. */
espl_status freebaseqa_source_parse(const char *text, int64_t len, const char *name, freebaseqa_source *out);
espl_status freebaseqa_source_read(const char *path, freebaseqa_source *out);
void freebaseqa_source_free(freebaseqa_source *s);
const char *freebaseqa_text(const freebaseqa_source *s, int64_t at);
/* Standard mode: a question with its answer; a question to be answered. Appended to *out. */
void freebaseqa_example(const freebaseqa_source *s, int64_t i, espl_str *out);
void freebaseqa_prompt(const freebaseqa_source *s, espl_freebaseqa_mode mode, int64_t i, espl_str *out);

#endif
