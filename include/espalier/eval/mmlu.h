/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/mmlu: Massive Multitask Language Understanding (Hendrycks et al. 2021, arXiv 2009.03300).
 *
 * A question is answered by the largest of the four logits of " A" .. " D" after "Answer:". docs/evaluation.md
 * describes the protocol and how it relates to hendrycks/test and to lm-evaluation-harness.
 */
#ifndef ESPALIER_EVAL_MMLU_H
#define ESPALIER_EVAL_MMLU_H

#include "espalier/eval/part.h"
#include "espalier/eval/prompts.h"
#include "espalier/eval/proportion.h"
#include "espalier/model/model.h"
#include "espalier/tokenizer.h"

enum { ESPL_MMLU_CHOICES = 4 };

/* Which files hold the questions. X(name, label, which is also the directory's name) */
#define ESPL_MMLU_SPLIT_LIST(X)                                                                                        \
    X(VAL, "val")                                                                                                      \
    X(TEST, "test")                                                                                                    \
    X(DEV, "dev")
typedef enum espl_mmlu_split {
#define X(name, label) ESPL_MMLU_SPLIT_##name,
    ESPL_MMLU_SPLIT_LIST(X)
#undef X
        ESPL_MMLU_SPLIT_COUNT
} espl_mmlu_split;

/* Wording of the prompt. X(name, label) */
#define ESPL_MMLU_STYLE_LIST(X)                                                                                        \
    X(HENDRYCKS, "hendrycks")                                                                                          \
    X(LM_EVAL, "lm-eval")
typedef enum espl_mmlu_style {
#define X(name, label) ESPL_MMLU_##name,
    ESPL_MMLU_STYLE_LIST(X)
#undef X
        ESPL_MMLU_STYLE_COUNT
} espl_mmlu_style;

/* X(name, label) */
#define ESPL_MMLU_CATEGORY_LIST(X)                                                                                     \
    X(STEM, "STEM")                                                                                                    \
    X(HUMANITIES, "humanities")                                                                                        \
    X(SOCIAL, "social sciences")                                                                                       \
    X(OTHER, "other")
typedef enum espl_mmlu_category {
#define X(name, label) ESPL_MMLU_##name,
    ESPL_MMLU_CATEGORY_LIST(X)
#undef X
        ESPL_MMLU_CATEGORY_COUNT
} espl_mmlu_category;

/* Local. "val", "lm-eval", "social sciences"; "?" for other numbers. Static storage. */
const char *espl_mmlu_split_name(espl_mmlu_split s);
const char *espl_mmlu_style_name(espl_mmlu_style s);
const char *espl_mmlu_category_name(espl_mmlu_category c);
/* Local. False if nothing has this name; *out is then unchanged. */
bool espl_mmlu_split_parse(const char *name, espl_mmlu_split *out);
bool espl_mmlu_style_parse(const char *name, espl_mmlu_style *out);
/* Local. The category of a subject in hendrycks/test's categories.py; ESPL_MMLU_OTHER for unknown subjects. */
espl_mmlu_category espl_mmlu_category_of(const char *subject);

typedef struct espl_mmlu_options {
    const char *dir; /* holds dev/<subject>_dev.csv and <split>/<subject>_<split>.csv */
    espl_mmlu_split split;
    espl_mmlu_style style;
    int64_t shots;     /* maximum number of examples from dev; the last ones are dropped while the prompt is too long */
    int64_t context;   /* maximum prompt length in tokens; a prompt that is too long without shots is cut on the left */
    int64_t questions; /* 0: all; else a random sample of this size, drawn from `seed` */
    uint64_t seed;
    espl_question_part part; /* which questions there are to draw from */
} espl_mmlu_options;

enum { ESPL_MMLU_SUBJECT_MAX = 256 }; /* NAME_MAX and the NUL: a subject is part of a file name */

typedef struct espl_mmlu_subject {
    char name[ESPL_MMLU_SUBJECT_MAX];
    espl_mmlu_category category;
} espl_mmlu_subject;

typedef struct espl_mmlu_question {
    int64_t subject, row; /* index of the subject; row of its CSV file, from 0 */
    int32_t answer;       /* 0 .. 3 */
    int32_t shots;        /* examples in its prompt */
    int32_t dropped;      /* examples that did not fit */
    int32_t cut;          /* tokens cut on the left */
} espl_mmlu_question;

/* An encoded question set, the same on every rank. prompts.prompts[i] belongs to questions[i]. */
typedef struct espl_mmlu {
    espl_mmlu_subject *subjects;   /* [n_subjects] by name, owned */
    espl_mmlu_question *questions; /* [n], owned */
    espl_prompts prompts;
    int64_t n_subjects, n;
    int32_t letters[ESPL_MMLU_CHOICES]; /* ids of " A" .. " D" after a prompt */
} espl_mmlu;

/* Collective. Rank 0 reads and encodes the questions; t is used there only. Every rank returns the same status:
 * ESPL_IO; ESPL_FORMAT with file and line; ESPL_UNSUPPORTED: the tokenizer does not encode each letter as one distinct
 * final token; ESPL_CONFIG: the context is too short for any prompt. Free with espl_mmlu_free. */
espl_status espl_mmlu_read(espl_comm *c, const espl_tokenizer *t, const espl_mmlu_options *o, espl_mmlu *out);
/* Local. */
void espl_mmlu_free(espl_mmlu *m);

typedef struct espl_mmlu_answer {
    float logits[ESPL_MMLU_CHOICES]; /* of the four letters */
    int32_t choice;                  /* index of the largest, the first among equals; -1: a logit is NaN (wrong) */
} espl_mmlu_answer;

typedef struct espl_mmlu_result {
    espl_proportion micro; /* all questions */
    espl_proportion categories[ESPL_MMLU_CATEGORY_COUNT];
    espl_proportion *subjects;           /* [n_subjects], owned; n = 0 where a sample has no question */
    double macro, macro_low, macro_high; /* mean over subjects and the 95 % normal interval of that mean */
    int64_t near_ties;                   /* questions whose two largest logits differ by less than 1e-4 */
    int64_t dropped_shots, cut;          /* questions with fewer examples than asked; with tokens cut off */
    int64_t unanswered;                  /* questions with a NaN logit */
    espl_mmlu_answer *answers;           /* [n], owned */
    double seconds;
} espl_mmlu_result;

/* Collective. Evaluates the set; the result is the same on every rank. The model must have been opened with options
 * raised by espl_prompts_need. Free *out with espl_mmlu_result_free, which is also safe after a failure. */
espl_status espl_eval_mmlu(espl_comm *c, espl_model *m, const espl_mmlu *set, espl_mmlu_result *out);
/* Local. */
void espl_mmlu_result_free(espl_mmlu_result *r);
/* Local. Appends one JSON line per question to *out. */
void espl_mmlu_details(const espl_mmlu *set, const espl_mmlu_result *r, espl_str *out);

#endif
