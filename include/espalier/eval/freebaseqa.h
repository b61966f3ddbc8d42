/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/freebaseqa: FreebaseQA (Jiang et al. 2019, NAACL), factoid questions answered by greedy continuation.
 *
 * Two protocols: "standard" (few-shot, first line of the continuation, SQuAD normalisation) and "llm-kick" (the one of
 * VITA-Group/llm-kick, arXiv 2310.01382). docs/evaluation.md describes both.
 */
#ifndef ESPALIER_EVAL_FREEBASEQA_H
#define ESPALIER_EVAL_FREEBASEQA_H

#include "espalier/eval/part.h"
#include "espalier/eval/prompts.h"
#include "espalier/eval/proportion.h"
#include "espalier/model/config.h"
#include "espalier/model/model.h"
#include "espalier/tokenizer.h"

/* X(name, label) */
#define ESPL_FREEBASEQA_MODE_LIST(X)                                                                                   \
    X(STANDARD, "standard")                                                                                            \
    X(LLM_KICK, "llm-kick")
typedef enum espl_freebaseqa_mode {
#define X(name, label) ESPL_FREEBASEQA_##name,
    ESPL_FREEBASEQA_MODE_LIST(X)
#undef X
        ESPL_FREEBASEQA_MODE_COUNT
} espl_freebaseqa_mode;
/* Local. "llm-kick"; "?" for other numbers. Static storage. */
const char *espl_freebaseqa_mode_name(espl_freebaseqa_mode m);
/* Local. False if no mode has this name; *out is then unchanged. */
bool espl_freebaseqa_mode_parse(const char *name, espl_freebaseqa_mode *out);

typedef struct espl_freebaseqa_options {
    const char *path;
    const char *shots_path; /* file of the examples; NULL: the first questions of `path`, which are then not asked */
    espl_freebaseqa_mode mode;
    int64_t shots;      /* standard mode: number of examples */
    int64_t max_tokens; /* standard mode: maximum length of a continuation */
    int64_t context;    /* maximum length of prompt and continuation; shots are dropped, then tokens cut on the left */
    int64_t questions;  /* 0: all; else a random sample of this size, drawn from `seed` */
    uint64_t seed;
    espl_question_part part; /* which questions there are to draw from */
} espl_freebaseqa_options;

typedef struct espl_freebaseqa_question {
    int64_t id, question;   /* offsets in espl_freebaseqa.text */
    int64_t alias, aliases; /* first and number in alias_at: the names of all answers of all parses */
    int64_t first_aliases;  /* how many of them belong to the first answer of the first parse */
    int64_t max_tokens;     /* maximum length of the continuation */
} espl_freebaseqa_question;

/* An encoded question set. The texts are on rank 0 only, NUL-terminated; the rest is the same on every rank. */
typedef struct espl_freebaseqa {
    espl_freebaseqa_mode mode;
    espl_prompts prompts; /* one family */
    int64_t n;
    espl_freebaseqa_question *questions; /* [n], owned */
    uint8_t *stops;                      /* [n_stops] by token id: 0 or ESPL_STOP_*; owned */
    int64_t n_stops;
    int64_t shots;                   /* examples in every prompt */
    char *text;                      /* rank 0; owned */
    int64_t *alias_at;               /* rank 0: offsets in text; owned */
    const espl_tokenizer *tokenizer; /* rank 0; borrowed */
} espl_freebaseqa;

/* Collective. Rank 0 reads and encodes the questions; t is used there only and must outlive the set. Every rank returns
 * the same status: ESPL_IO; ESPL_FORMAT with file and question; ESPL_CONFIG: the context is too short. Free with
 * espl_freebaseqa_free. */
espl_status espl_freebaseqa_read(espl_comm *c, const espl_tokenizer *t, const espl_freebaseqa_options *o,
                                 espl_freebaseqa *out);
/* Local. */
void espl_freebaseqa_free(espl_freebaseqa *f);

typedef struct espl_freebaseqa_answer {
    int32_t exact;    /* the normalised continuation equals a normalised alias; 0 in llm-kick mode */
    int32_t contains; /* it contains an alias as whole words; llm-kick mode: the match of that benchmark */
    int64_t text;     /* rank 0: offset of the continuation in espl_freebaseqa_result.text */
} espl_freebaseqa_answer;

typedef struct espl_freebaseqa_result {
    espl_proportion exact, contains;
    espl_freebaseqa_answer *answers; /* [n], owned */
    espl_str text;                   /* rank 0: the continuations, each NUL-terminated; owned */
    int64_t tokens;                  /* tokens generated */
    double seconds;
} espl_freebaseqa_result;

/* Collective. Decodes all questions in batches and scores them on rank 0. The result, but for its text, is the same on
 * every rank. The model must have been opened with options raised by espl_freebaseqa_need. Free *out with
 * espl_freebaseqa_result_free, which is also safe after a failure. */
espl_status espl_eval_freebaseqa(espl_comm *c, espl_model *m, const espl_freebaseqa *set, espl_freebaseqa_result *out);
/* Local. */
void espl_freebaseqa_result_free(espl_freebaseqa_result *r);
/* Rank 0 only. Appends one JSON line per question to *out. */
void espl_freebaseqa_details(const espl_freebaseqa *set, const espl_freebaseqa_result *r, espl_str *out);

/* Local. Raises *o so that a model opened with it can evaluate the set; see espl_decode_need. */
void espl_freebaseqa_need(const espl_freebaseqa *set, const espl_model_config *c, espl_model_options *o);

#endif
