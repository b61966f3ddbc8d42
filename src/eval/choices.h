/* Private to the eval room: multiple-choice questions as read, on rank 0. */
#ifndef ESPL_EVAL_CHOICES_H
#define ESPL_EVAL_CHOICES_H

#include "internal.h"

/* Offsets of NUL-terminated texts. */
typedef struct choice_pair {
    int64_t context, delimiter, choice;
} choice_pair;

typedef struct choices_source {
    espl_choice_question *questions; /* first: of pairs */
    choice_pair *pairs;
    int64_t n, cap, n_pairs, cap_pairs;
    espl_str text;
} choices_source;

/* ESPL_IO; ESPL_FORMAT naming file and line. Call choices_source_free in any case. */
espl_status choices_source_parse(const char *text, int64_t len, const char *name, choices_source *out);
espl_status choices_source_read(const char *path, choices_source *out);
void choices_source_free(choices_source *s);
/* Ids of context and continuation; the last *scored of them are the continuation. start: the token before an empty
 * context. */
espl_status choices_encode(const espl_tokenizer *t, const choices_source *s, const choice_pair *p, int32_t start,
                           espl_ids *out, int64_t *scored);

#endif
