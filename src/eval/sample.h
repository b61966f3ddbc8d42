/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: the random sample of questions that a limited evaluation asks. */
#ifndef ESPL_EVAL_SAMPLE_H
#define ESPL_EVAL_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/eval/part.h"

/* Local. Draws `want` of n questions without replacement (all of them if want is 0 or >= n). chosen [n] receives their
 * indices in ascending order; returns how many. The same seed gives the same sample. */
int64_t espl_sample_questions(int64_t n, int64_t want, uint64_t seed, int64_t *chosen);
/* The same among the questions of a part. */
int64_t espl_sample_part(int64_t n, espl_question_part part, int64_t want, uint64_t seed, int64_t *chosen);

/* Local. Puts n indices into a random order. `stream` tells orders of the same seed apart. */
void espl_sample_shuffle(int64_t *indices, int64_t n, uint64_t seed, uint64_t stream);

#endif
