/*
 * eval: corpora and the measures taken on them. Results are the same on every rank, whatever their number.
 */
#ifndef ESPALIER_EVAL_H
#define ESPALIER_EVAL_H

#include "espalier/comm.h"
#include "espalier/model.h"
#include "espalier/tokenizer.h"

/* A text as token ids, the same on every rank. */
typedef struct espl_corpus {
    int32_t *ids; /* [n], owned */
    int64_t n;
} espl_corpus;

/* Collective. Rank 0 reads the file (or "-") and encodes it with the directory's tokenizer, special tokens as the
 * tokenizer adds them by default; the ids go to all ranks. t is used on rank 0 only (NULL elsewhere).
 * ESPL_IO, ESPL_FORMAT. Free with espl_corpus_free. */
espl_status espl_corpus_read(espl_comm *c, const espl_tokenizer *t, const char *path, espl_corpus *out);
/* Collective. The same from bytes that rank 0 holds. */
espl_status espl_corpus_encode(espl_comm *c, const espl_tokenizer *t, const char *text, int64_t len, espl_corpus *out);
void espl_corpus_free(espl_corpus *c);

/* Collective. Log-probability of each token given the tokens before it in its window: the corpus is cut into
 * consecutive windows of `window` tokens, the last one shorter. out [n] (natural log, double); the first token of a
 * window has NAN. Micro-batches are the model's batch_tokens long. `what` names the work in the progress line. */
espl_status espl_eval_logprobs(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, const char *what,
                               double *out);

typedef struct espl_perplexity {
    int64_t window, windows, tokens; /* tokens = window * windows: what was evaluated */
    double nll;                      /* mean over windows of the mean negative log-likelihood, nats */
    double nll_stderr;               /* standard error of that mean over windows; NAN for one window */
    double perplexity;               /* exp(nll) */
    double perplexity_stderr;        /* delta method: perplexity * nll_stderr */
    double seconds, tokens_per_second;
} espl_perplexity;

/* Collective. WikiText-2 convention of the Wanda and SparseGPT code: n = tokens / window independent windows, the tail
 * dropped, `window - 1` predictions each, perplexity = exp(mean of window means). limit > 0: only the first `limit`
 * tokens. window_nll [corpus->n / window] takes each window's mean. ESPL_CONFIG: fewer tokens than one window. */
espl_status espl_eval_perplexity(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, int64_t limit,
                                 double *window_nll, espl_perplexity *out);

/* Called on rank 0 with the generated ids so far; false ends the generation (on every rank). */
typedef bool (*espl_on_token)(void *context, const int32_t *ids, int64_t n);

/* Collective. Continues `prompt` (n >= 1) by up to max_tokens tokens: greedy or sampled, KV-cached, ending after an
 * end-of-sequence token of the model, which is not appended. out [max_tokens]; *n_out on every rank. The model must be
 * opened with logits_rows >= 1 and context >= prompt + max_tokens. */
espl_status espl_eval_generate(espl_comm *c, espl_model *m, const espl_corpus *prompt, int64_t max_tokens,
                               const espl_sampling *s, uint64_t seed, espl_on_token on_token, void *context,
                               int32_t *out, int64_t *n_out);

/* ------------------------------------------------------- shares, samples */

/* hits of n with a 95 % Wilson score interval (Wilson 1927; z = 1.96). n = 0: rate NAN, interval [0, 1]. */
typedef struct espl_share {
    int64_t hits, n;
    double rate, low, high;
} espl_share;
espl_share espl_eval_share(int64_t hits, int64_t n); /* Local */

/* Local. Which of n questions a limited evaluation asks: `want` of them (all if want is 0 or >= n), drawn without
 * replacement from `seed`, in ascending order. chosen [n] takes the indices; returns their number. */
int64_t espl_eval_sample(int64_t n, int64_t want, uint64_t seed, int64_t *chosen);

/* -------------------------------------------------------------- prompts */

/* Prompts as token ids, grouped in families that begin alike. The common beginning of a family is stored, and computed,
 * once: prompt i is its family's prefix followed by its own ids. Plain data, the same on every rank. */
typedef struct espl_family_prefix {
    int64_t at, n;        /* ids[at .. at + n) */
    int64_t first, count; /* prompts first .. first + count - 1 */
} espl_family_prefix;

typedef struct espl_prompt {
    int64_t at, n; /* its own ids, n >= 1 */
} espl_prompt;

typedef struct espl_prompts {
    int32_t *ids; /* [n_ids], owned */
    espl_family_prefix *families;
    espl_prompt *prompts;
    int64_t n_ids, n_families, n;
} espl_prompts;

void espl_prompts_free(espl_prompts *p); /* Local */
/* Local. Tokens with the prefixes counted once, and as often as there are prompts: what caching saves. */
int64_t espl_prompts_tokens(const espl_prompts *p, bool recomputed);

/* ----------------------------------------------------------------- MMLU */

/* X(name, label) */
#define ESPL_MMLU_STYLE_LIST(X)                                                                                        \
    X(HENDRYCKS, "hendrycks")                                                                                          \
    X(LM_EVAL, "lm-eval")
typedef enum espl_mmlu_style {
#define X(name, label) ESPL_MMLU_##name,
    ESPL_MMLU_STYLE_LIST(X)
#undef X
        ESPL_MMLU_STYLE_COUNT
} espl_mmlu_style;

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

const char *espl_mmlu_style_name(espl_mmlu_style s);       /* "lm-eval" */
const char *espl_mmlu_category_name(espl_mmlu_category c); /* "social sciences" */
/* The category of a subject as hendrycks/test's categories.py has it; other for subjects it does not know. */
espl_mmlu_category espl_mmlu_category_of(const char *subject);

typedef struct espl_mmlu_options {
    const char *dir;   /* holds dev/<subject>_dev.csv, <split>/<subject>_<split>.csv */
    const char *split; /* "test", "val" or "dev" */
    espl_mmlu_style style;
    int64_t shots;     /* examples from dev at most; the last are dropped while the prompt is too long */
    int64_t context;   /* longest prompt in tokens; without shots still too long: cut from the left */
    int64_t questions; /* 0: all, else a sample of so many, by `seed` */
    uint64_t seed;
} espl_mmlu_options;

enum { ESPL_MMLU_SUBJECT_MAX = 256 }; /* a file name fits */

typedef struct espl_mmlu_subject {
    char name[ESPL_MMLU_SUBJECT_MAX];
    espl_mmlu_category category;
} espl_mmlu_subject;

typedef struct espl_mmlu_question {
    int64_t subject, row; /* row of its CSV file, from 0 */
    int32_t answer;       /* 0 .. 3 */
    int32_t shots;        /* examples in its prompt */
    int32_t dropped;      /* examples that did not fit */
    int32_t cut;          /* tokens cut from the left */
} espl_mmlu_question;

/* A question set, encoded; the same on every rank. prompts.prompts[i] belongs to questions[i]. */
typedef struct espl_mmlu {
    espl_mmlu_subject *subjects;
    espl_mmlu_question *questions;
    espl_prompts prompts;
    int64_t n_subjects, n;
    int32_t letters[4]; /* ids of " A" .. " D" after a prompt */
} espl_mmlu;

/* Collective. Rank 0 reads and encodes (t is used there only). ESPL_IO; ESPL_FORMAT naming file and line;
 * ESPL_UNSUPPORTED: the four letters do not end in one token each. Free with espl_mmlu_free. */
espl_status espl_mmlu_read(espl_comm *c, const espl_tokenizer *t, const espl_mmlu_options *o, espl_mmlu *out);
void espl_mmlu_free(espl_mmlu *m); /* Local */

typedef struct espl_mmlu_answer {
    float logits[4]; /* of the four letters */
    int32_t choice;  /* the largest, the first among equals; -1: one of them is not a number, which counts as wrong */
} espl_mmlu_answer;

typedef struct espl_mmlu_result {
    espl_share micro; /* all questions */
    espl_share categories[ESPL_MMLU_CATEGORY_COUNT];
    espl_share *subjects;                /* [n_subjects], owned */
    double macro, macro_low, macro_high; /* mean over subjects; 95 % normal interval of that mean */
    int64_t near_ties;                   /* questions whose two largest logits differ by less than 1e-4 */
    int64_t dropped_shots, cut;          /* questions whose examples did not all fit; with tokens cut off */
    int64_t unanswered;                  /* questions with a logit that is not a number */
    espl_mmlu_answer *answers;           /* [n], owned */
    double seconds;
} espl_mmlu_result;

/* Collective. The same on every rank. Free *out with espl_mmlu_result_free. */
espl_status espl_eval_mmlu(espl_comm *c, espl_model *m, const espl_mmlu *set, espl_mmlu_result *out);
void espl_mmlu_result_free(espl_mmlu_result *r); /* Local */
/* Local. One JSON line per question. */
void espl_mmlu_details(const espl_mmlu *set, const espl_mmlu_result *r, espl_str *out);

/* ----------------------------------------------------------- FreebaseQA */

#define ESPL_FREEBASEQA_MODE_LIST(X)                                                                                   \
    X(STANDARD, "standard")                                                                                            \
    X(LLM_KICK, "llm-kick")
typedef enum espl_freebaseqa_mode {
#define X(name, label) ESPL_FREEBASEQA_##name,
    ESPL_FREEBASEQA_MODE_LIST(X)
#undef X
        ESPL_FREEBASEQA_MODE_COUNT
} espl_freebaseqa_mode;
const char *espl_freebaseqa_mode_name(espl_freebaseqa_mode m);

typedef struct espl_freebaseqa_options {
    const char *path;
    const char *shots_path; /* file the examples come from; NULL: the first questions of `path`, which are not asked */
    espl_freebaseqa_mode mode;
    int64_t shots;      /* standard mode: examples */
    int64_t max_tokens; /* standard mode: longest continuation */
    int64_t context;   /* longest prompt and continuation in tokens; shots are dropped, then tokens cut from the left */
    int64_t questions; /* 0: all, else a sample of so many, by `seed` */
    uint64_t seed;
} espl_freebaseqa_options;

/* The texts, on rank 0: offsets into `text`, each NUL-terminated. */
typedef struct espl_freebaseqa_question {
    int64_t id, question;   /* offsets in text */
    int64_t alias, aliases; /* first and number in alias_at: all parses and answers */
    int64_t first_aliases;  /* how many of them belong to the first answer of the first parse */
    int64_t max_tokens;     /* longest continuation */
} espl_freebaseqa_question;

typedef struct espl_freebaseqa {
    espl_freebaseqa_mode mode;
    espl_prompts prompts; /* one family */
    int64_t n;
    espl_freebaseqa_question *questions; /* [n] */
    uint8_t *stops;                      /* [n_stops], by token id: ESPL_STOP_* */
    int64_t n_stops, shots;              /* examples in the prompts */
    char *text;                          /* rank 0 */
    int64_t *alias_at;                   /* rank 0 */
    const espl_tokenizer *tokenizer;     /* rank 0; borrowed */
} espl_freebaseqa;

/* Collective. Rank 0 reads and encodes; t is used there only, and must outlive the set. ESPL_IO; ESPL_FORMAT naming
 * file and question. Free with espl_freebaseqa_free. */
espl_status espl_freebaseqa_read(espl_comm *c, const espl_tokenizer *t, const espl_freebaseqa_options *o,
                                 espl_freebaseqa *out);
void espl_freebaseqa_free(espl_freebaseqa *f); /* Local */

typedef struct espl_freebaseqa_answer {
    int32_t exact;    /* the normalised continuation is a normalised alias; llm-kick: 0 */
    int32_t contains; /* it contains one as whole words; llm-kick: that benchmark's match */
    int64_t text;     /* rank 0: offset of the continuation in espl_freebaseqa_result.text */
} espl_freebaseqa_answer;

typedef struct espl_freebaseqa_result {
    espl_share exact, contains;
    espl_freebaseqa_answer *answers; /* [n], owned */
    espl_str text;                   /* rank 0: the continuations, each NUL-terminated */
    int64_t tokens;                  /* generated */
    double seconds;
} espl_freebaseqa_result;

/* Collective. Greedy continuations, batched across questions; scored on rank 0; the same on every rank. */
espl_status espl_eval_freebaseqa(espl_comm *c, espl_model *m, const espl_freebaseqa *set, espl_freebaseqa_result *out);
void espl_freebaseqa_result_free(espl_freebaseqa_result *r); /* Local */
/* Local, on rank 0. One JSON line per question. */
void espl_freebaseqa_details(const espl_freebaseqa *set, const espl_freebaseqa_result *r, espl_str *out);

/* Local. SQuAD's normalisation (Rajpurkar et al. 2016): lower case, no ASCII punctuation, no articles, single spaces;
 * appended to *out. Lower case for ASCII, Latin, Greek, Cyrillic and Armenian letters. */
void espl_text_normalise(const char *text, int64_t len, espl_str *out);
/* Local. Does normalised text a contain normalised text b as whole words? Never if b is empty. */
bool espl_text_has_words(const char *a, const char *b);

/* -------------------------------------------------------------- choices */

typedef struct espl_choices_options {
    const char *path;
    int64_t context;   /* longest context and continuation in tokens; cut from the left */
    int32_t start;     /* stands for an empty context: the model's BOS, else its EOS */
    int64_t questions; /* 0: all, else a sample of so many, by `seed` */
    uint64_t seed;
} espl_choices_options;

typedef struct espl_choice_question {
    int64_t line;         /* of the file, from 1 */
    int64_t first, count; /* its choices: prompts first .. first + count - 1 */
    int32_t answer;
    int32_t cut; /* tokens cut from the left of its longest choice */
} espl_choice_question;

/* Multiple choice by likelihood; the same on every rank. */
typedef struct espl_choices {
    espl_choice_question *questions;
    espl_prompts prompts;
    int32_t *targets;    /* [prompts.n_ids]: the id to score after this one, -1: none */
    int32_t *characters; /* [prompts.n]: length of the choice's text in code points */
    int64_t n;
} espl_choices;

/* Collective. JSON Lines: {"context": "...", "choices": ["..."], "answer": 0, "delimiter": " "}; `context` may be a
 * list of as many contexts as choices; `delimiter` (a space unless given) stands between. Pairs are encoded as
 * lm-evaluation-harness does: white space at the end of a context moves to the continuation, whose tokens are those
 * that the whole text has beyond the context's. ESPL_IO; ESPL_FORMAT naming file and line. */
espl_status espl_choices_read(espl_comm *c, const espl_tokenizer *t, const espl_choices_options *o, espl_choices *out);
void espl_choices_free(espl_choices *s); /* Local */

typedef struct espl_choices_result {
    espl_share acc, acc_norm;      /* most likely choice; most likely per character */
    double *logprob;               /* [prompts.n] of each choice, owned */
    int32_t *choice, *choice_norm; /* [n], owned; -1: a log-probability is not a number, the question counts as wrong */
    int64_t unanswered;            /* such questions */
    double seconds;
} espl_choices_result;

/* Collective. The same on every rank. */
espl_status espl_eval_choices(espl_comm *c, espl_model *m, const espl_choices *set, espl_choices_result *out);
void espl_choices_result_free(espl_choices_result *r); /* Local */
/* Local. One JSON line per question. */
void espl_choices_details(const espl_choices *set, const espl_choices_result *r, espl_str *out);

/* ----------------------------------------------------- batched evaluation */

/* Local. Raises *o (context, slots, logits_rows) so that a model opened with it can evaluate these sets;
 * o->batch_tokens is set by the caller and lowered by nobody. */
void espl_prompts_need(const espl_prompts *p, espl_model_options *o);
void espl_freebaseqa_need(const espl_freebaseqa *set, const espl_model_config *c, int ranks, espl_model_options *o);

enum { ESPL_STOP_DROP = 1, ESPL_STOP_KEEP = 2 };

typedef struct espl_decoding {
    const int64_t *most;  /* [prompts.n] longest continuation of each, >= 1 */
    const uint8_t *stops; /* [n_stops], by id: ESPL_STOP_DROP ends without the token, ESPL_STOP_KEEP with it */
    int64_t n_stops;
    int64_t width; /* sequences in one micro-batch at most; 0: the default */
} espl_decoding;

/* Collective. Greedy continuations of all prompts (of one family): out[at[i] .. at[i] + n_out[i]) on every rank, where
 * at[i] is the sum of most[0 .. i). Sequences that end make room for the next, and several groups of sequences are
 * under way, so that no rank waits for a token to come round. How many at once: as many as the model was opened for.
 * The same bits on 1 to 4 ranks; on more, tokens may differ where the two best are as good as equal. ESPL_FORMAT:
 * logits that are not numbers. */
espl_status espl_eval_decode(espl_comm *c, espl_model *m, const espl_prompts *p, const espl_decoding *d, int32_t *out,
                             int64_t *n_out);
/* Local. Raises *o so that a model opened with it can decode these prompts, 64 in a micro-batch (d->width) as long as
 * the cache for it stays below 4 GiB over all ranks. */
void espl_decode_need(const espl_prompts *p, const espl_decoding *d, const espl_model_config *c, int ranks,
                      espl_model_options *o);

#endif
