/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the matches of a pattern in a text: the spans of the text from left to right, matches and what lies between.
 */
#ifndef ESPL_TOKENIZER_MATCHER_H
#define ESPL_TOKENIZER_MATCHER_H

#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "json.h"
#include "unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

typedef enum espl_matcher_kind {
    ESPL_MATCH_LITERAL,
    ESPL_MATCH_REGEX,
    ESPL_MATCH_CLASS, /* every character of a class is one match */
    ESPL_MATCH_WORDS  /* \w+|[^\w\s]+ with the classes of Rust's regex crate */
} espl_matcher_kind;

/* Zero-initialise; free with espl_matcher_free. Read-only once made: threads share it. */
typedef struct espl_matcher {
    espl_matcher_kind kind;
    espl_char_class cls; /* ESPL_MATCH_CLASS */
    espl_bytes literal;  /* ESPL_MATCH_LITERAL */
    pcre2_code *code;    /* ESPL_MATCH_REGEX */
    bool jit;
    espl_where where;
} espl_matcher;

/* regex.c: an Oniguruma pattern (default syntax) in PCRE2's syntax. ESPL_UNSUPPORTED names a construct without
 * equivalent. */
espl_status espl_tok_regex_translate(const char *pattern, int64_t len, const espl_where *where, espl_str *out);

espl_status espl_matcher_compile(espl_matcher *m, const char *pattern, const espl_where *where);
/* Reads member "pattern" of node: {"String": s} or {"Regex": r}. */
espl_status espl_matcher_parse(espl_matcher *m, const struct cJSON *node, const espl_where *where);
void espl_matcher_free(espl_matcher *m);

/* What a search needs beside the pattern: one per call of the public functions, never shared between threads. */
typedef struct espl_match_state {
    pcre2_match_data *data;
    pcre2_match_context *limits;
} espl_match_state;
espl_status espl_match_state_open(espl_match_state *s);
void espl_match_state_close(espl_match_state *s); /* also after a failed open */

typedef struct espl_span {
    int64_t start, end;
    bool match;
} espl_span;

/* A search under way. Text, matcher and state are borrowed. */
typedef struct espl_spans {
    const espl_matcher *m;
    const espl_match_state *state;
    const char *p;
    int64_t n;
    espl_str shadow;    /* what the regex sees, when some code points need proxies */
    int64_t at;         /* where the next search starts; n + 1: there are no more matches */
    int64_t last_match; /* end of the last match, -1 before the first */
    int64_t done;       /* everything before it has been returned */
    espl_span found;    /* the next match, once searched for */
    bool pending;       /* `found` has not been returned yet */
} espl_spans;
espl_status espl_spans_open(espl_spans *s, const espl_matcher *m, const char *p, int64_t n,
                            const espl_match_state *state);
/* The next span; together they cover the text. *more is false behind the last: *out is empty then. ESPL_FAILED: the
 * pattern ran into its match limit. */
espl_status espl_spans_next(espl_spans *s, espl_span *out, bool *more);
void espl_spans_close(espl_spans *s); /* also after a failed open */

/* Appends p[0..n) with each match replaced by `content`. *head: length of the match that the text begins with, 0
 * without one. An empty text stays empty. ESPL_UNSUPPORTED as soon as *out is longer than `limit`. */
espl_status espl_matcher_replace(const espl_matcher *m, const espl_match_state *state, const char *p, int64_t n,
                                 const espl_bytes *content, int64_t limit, espl_str *out, int64_t *head);
/* How long the steps of a tokenizer may make a text of n bytes, and the failure of one that goes beyond. */
int64_t espl_tok_growth_limit(int64_t n);
espl_status espl_tok_refuse_growth(void);

#endif
