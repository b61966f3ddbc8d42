/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: multiple-choice questions as read, on rank 0. All functions are Local. */
#ifndef ESPL_EVAL_CHOICES_SOURCE_H
#define ESPL_EVAL_CHOICES_SOURCE_H

#include "espalier/eval/choices.h"

/* Offsets of NUL-terminated strings in espl_choices_source.text. */
typedef struct espl_choice_pair {
    int64_t context, delimiter, choice;
} espl_choice_pair;

typedef struct espl_choices_source {
    espl_choice_question *questions; /* [n]; `first` counts pairs, `cut` is not set */
    espl_choice_pair *pairs;         /* [n_pairs] */
    int64_t n, cap, n_pairs, cap_pairs;
    espl_str text;
} espl_choices_source;

/* ESPL_IO; ESPL_FORMAT with file and line. Call espl_choices_source_free also after a failure. */
espl_status espl_choices_source_parse(const char *text, int64_t len, const char *name, espl_choices_source *out);
espl_status espl_choices_source_read(const char *path, espl_choices_source *out);
void espl_choices_source_free(espl_choices_source *s);

/* Replaces *out by the ids of context and continuation; the last *scored of them are the continuation. `start` is the
 * token before an empty context. */
espl_status espl_choices_source_encode(const espl_choices_source *s, const espl_tokenizer *t, const espl_choice_pair *p,
                                       int32_t start, espl_ids *out, int64_t *scored);

#endif
