/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/part: which questions of a file serve what. Questions whose answers shape the pruning must not also judge it.
 */
#ifndef ESPALIER_EVAL_PART_H
#define ESPALIER_EVAL_PART_H

typedef enum espl_question_part {
    ESPL_PART_ALL,     /* every question */
    ESPL_PART_PROFILE, /* a third, drawn from the seed: their gradients go into the profile */
    ESPL_PART_JUDGE    /* the others: they judge a step */
} espl_question_part;

#endif
