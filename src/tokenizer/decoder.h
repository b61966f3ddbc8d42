/* SPDX-License-Identifier: Apache-2.0 */
/* The "decoder" of tokenizer.json: steps from the strings of the tokens to a text. */
#ifndef ESPL_TOKENIZER_DECODER_H
#define ESPL_TOKENIZER_DECODER_H

#include "component.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "matcher.h"

typedef enum espl_dec_kind {
    ESPL_DEC_BYTES,         /* ByteLevel: undoes GPT-2's byte alphabet */
    ESPL_DEC_REPLACE,       /* in each string */
    ESPL_DEC_BYTE_FALLBACK, /* <0xNN> becomes a byte */
    ESPL_DEC_FUSE,          /* all strings become one */
    ESPL_DEC_STRIP,         /* drops characters at both ends of each string */
    ESPL_DEC_METASPACE      /* a character becomes a space */
} espl_dec_kind;

typedef struct espl_dec_step {
    espl_dec_kind kind;
    espl_matcher pattern; /* REPLACE */
    espl_bytes content;   /* REPLACE; STRIP and METASPACE: one character */
    int64_t start, stop;  /* STRIP: at most so many */
    bool drop_first;      /* METASPACE: the first string's characters vanish */
} espl_dec_step;

/* Zero-initialise. */
typedef struct espl_tok_decoder {
    espl_dec_step steps[ESPL_TOK_MAX_STEPS];
    int64_t n;
    bool given; /* the file has a decoder, maybe one without effect */
} espl_tok_decoder;

/* node may be NULL: no steps. */
espl_status espl_tok_decoder_parse(espl_tok_decoder *d, const struct cJSON *node, const char *file);
void espl_tok_decoder_free(espl_tok_decoder *d);

/* A list of strings. Zero-initialise. */
typedef struct espl_tok_strings {
    espl_str text; /* all of them, end to end */
    int64_t *end;  /* [n] where each ends in text */
    int64_t n, capacity;
} espl_tok_strings;
/* Ends the string that has been appended to s->text. */
espl_status espl_tok_strings_close(espl_tok_strings *s);
void espl_tok_strings_free(espl_tok_strings *s);

/* *s becomes what the steps make of it; s->text is the decoded text. */
espl_status espl_tok_decoder_run(const espl_tok_decoder *d, espl_tok_strings *s);
/* *token, one string, becomes the bytes that it stands for inside a text: nothing is stripped or repaired. */
espl_status espl_tok_decoder_run_token(const espl_tok_decoder *d, espl_str *token);

#endif
