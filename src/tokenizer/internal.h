/*
 * Inside the tokenizer room. Data flow of encode():
 *
 *   text ── added.c ──▶ added tokens | text ── normalize.c ──▶ added.c again (for tokens that match normalised text)
 *        ── pretokenize.c ──▶ words ── bpe.c ──▶ ids; encode.c repairs the text first and adds the template's tokens
 *
 * Byte-level pipelines never spell out GPT-2's byte alphabet: words stay raw bytes and the vocabulary is kept in raw
 * bytes too (token.raw), which is the same mapping applied to both sides.
 */
#ifndef ESPL_TOKENIZER_INTERNAL_H
#define ESPL_TOKENIZER_INTERNAL_H

#include "espalier/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct cJSON;

enum {
    ESPL_TOK_MAX_FILE = 100 << 20,   /* bytes of tokenizer.json */
    ESPL_TOK_MAX_ID = (1 << 22) - 1, /* 16 times the largest known vocabulary; tables are indexed by id */
    ESPL_TOK_MAX_STEPS = 32,         /* of a normalizer, pre_tokenizer or decoder, sequences flattened */
    ESPL_TOK_MAX_NESTING = 8,        /* sequences inside sequences */
    ESPL_TOK_MAX_ADDED_BYTES = 4096, /* of one added token: bounds the search at each byte of a text */
    ESPL_TOK_WHERE = 384
};

/* Bytes with a length; owned when it is a member of a tokenizer's struct. */
typedef struct espl_bytes {
    char *p;
    int64_t n;
} espl_bytes;

/* ------------------------------------------------------- JSON (json.c) */

/* "tokenizer.json: pre_tokenizer[2]" */
typedef struct espl_where {
    char text[ESPL_TOK_WHERE];
} espl_where;
espl_where espl_tok_where(const char *file, const char *component);
espl_where espl_tok_where_item(const espl_where *parent, int64_t index);
espl_where espl_tok_where_key(const espl_where *parent, const char *key);

/* Parses a tokenizer.json; \u0000 inside strings, which cJSON cannot carry, arrives as the bytes C0 80 and is turned
 * back by espl_tok_text. */
espl_status espl_tok_json_parse(const char *json, int64_t len, const char *name, struct cJSON **out);
/* Copies a JSON string's bytes, C0 80 turned into NUL, to dst (room for strlen(s)); returns the length. */
int64_t espl_tok_text(const char *s, char *dst);
/* An owned copy of the same. */
espl_status espl_tok_text_dup(const char *s, espl_bytes *out);
/* obj must be an object with no key but those in `keys` ("a|b|c"): ESPL_UNSUPPORTED names the first other one. */
espl_status espl_tok_check_keys(const struct cJSON *obj, const espl_where *where, const char *keys);
/* Member `key` as an array, or NULL when it is not required and missing. */
espl_status espl_tok_get_array(const struct cJSON *obj, const char *key, const espl_where *where, bool required,
                               const struct cJSON **out);
espl_status espl_tok_get_text(const struct cJSON *obj, const char *key, const espl_where *where, espl_bytes *out);
void espl_tok_bytes_free(espl_bytes *b);

/* ------------------------------------------------- Unicode (unicode.c) */

typedef enum espl_char_class { ESPL_CHAR_SPACE, ESPL_CHAR_NUMERIC, ESPL_CHAR_PUNCT, ESPL_CHAR_WORD } espl_char_class;

/* Decodes the code point at p (valid UTF-8), its length in *n. */
int32_t espl_tok_decode_char(const char *p, int *n);
/* Writes cp as UTF-8; returns the length. */
int espl_tok_encode_char(int32_t cp, char *dst);
/* Start of the last code point of p[0..n), n >= 1. */
int64_t espl_tok_last_char(const char *p, int64_t n);
bool espl_tok_char_is(espl_char_class c, int32_t cp);
/* A code point of the same general category and UTF-8 length that PCRE2 knows, for one that it classifies unlike
 * Oniguruma does; cp itself for nearly every code point. */
int32_t espl_tok_proxy(int32_t cp);
/* True when the reference's normaliser (Unicode 9) knows no decomposition, composition or combining class for cp. */
bool espl_tok_norm_inert(int32_t cp);
/* Lower case as 1 or 2 code points; returns how many. */
int espl_tok_lower(int32_t cp, int32_t out[2]);
/* Code point of GPT-2's byte alphabet for a byte, and back (-1: not in the alphabet). */
int32_t espl_tok_byte_char(uint8_t byte);
int espl_tok_char_byte(int32_t cp);
/* Appends s, each byte spelt in the byte alphabet. */
void espl_tok_put_byte_chars(espl_str *out, const char *s, int64_t n);
/* Appends s with each maximal ill-formed subsequence replaced by U+FFFD. */
void espl_tok_put_repaired(espl_str *out, const char *s, int64_t n);
/* Length of the longest valid UTF-8 prefix of s. */
int64_t espl_tok_valid_prefix(const char *s, int64_t n);

/* --------------------------------------------------- Patterns (translate.c, match.c) */

typedef enum espl_matcher_kind {
    ESPL_MATCH_LITERAL,
    ESPL_MATCH_REGEX,
    ESPL_MATCH_CLASS,
    ESPL_MATCH_WORDS
} espl_matcher_kind;

/* Something that finds matches in a text. */
typedef struct espl_matcher {
    espl_matcher_kind kind;
    espl_char_class cls; /* ESPL_MATCH_CLASS: every character of the class is one match */
    espl_bytes literal;
    pcre2_code *code;
    bool jit;
    char where[ESPL_TOK_WHERE];
} espl_matcher;

espl_status espl_tok_matcher_regex(espl_matcher *m, const char *pattern, const espl_where *where);
/* {"String": s} or {"Regex": r}. */
espl_status espl_tok_matcher_parse(espl_matcher *m, const struct cJSON *pattern, const espl_where *where);
void espl_tok_matcher_free(espl_matcher *m);
/* An Oniguruma pattern (default syntax) in PCRE2's syntax; ESPL_UNSUPPORTED names a construct without equivalent. */
espl_status espl_tok_regex_translate(const char *pattern, int64_t len, const espl_where *where, espl_str *out);

/* What a search needs beside the pattern; one per call, never shared between threads. */
typedef struct espl_match_state {
    pcre2_match_data *data;
    pcre2_match_context *limits;
} espl_match_state;
espl_status espl_tok_match_open(espl_match_state *s);
void espl_tok_match_close(espl_match_state *s); /* also after a failed open */

/* The spans of a text from left to right: matches and what lies between them, covering it all. */
typedef struct espl_spans {
    const espl_matcher *m;
    const char *p;
    int64_t n;
    int64_t at;                   /* where the next search starts */
    int64_t last_match;           /* end of the last match, -1 before the first */
    int64_t done;                 /* everything before it has been returned */
    int64_t next_start, next_end; /* a match found, not yet returned */
    bool pending;
    espl_str shadow; /* what the regex sees, when proxies were needed */
    const espl_match_state *match;
} espl_spans;
espl_status espl_tok_spans_open(espl_spans *s, const espl_matcher *m, const char *p, int64_t n,
                                const espl_match_state *match);
/* *more is false at the end. */
espl_status espl_tok_spans_next(espl_spans *s, bool *more, int64_t *start, int64_t *end, bool *is_match);
void espl_tok_spans_close(espl_spans *s);

/* --------------------------------------------------- Steps of the pipeline */

typedef enum espl_norm_kind {
    ESPL_NORM_NFC,
    ESPL_NORM_NFD,
    ESPL_NORM_NFKC,
    ESPL_NORM_NFKD,
    ESPL_NORM_LOWERCASE,
    ESPL_NORM_PREPEND,
    ESPL_NORM_REPLACE
} espl_norm_kind;

typedef struct espl_norm_step {
    espl_norm_kind kind;
    espl_matcher pattern; /* REPLACE */
    espl_bytes content;   /* REPLACE, PREPEND */
} espl_norm_step;

typedef enum espl_behavior {
    ESPL_SPLIT_ISOLATED,
    ESPL_SPLIT_REMOVED,
    ESPL_SPLIT_PREVIOUS,
    ESPL_SPLIT_NEXT,
    ESPL_SPLIT_CONTIGUOUS
} espl_behavior;
typedef enum espl_prepend { ESPL_PREPEND_ALWAYS, ESPL_PREPEND_NEVER, ESPL_PREPEND_FIRST } espl_prepend;
typedef enum espl_pre_kind { ESPL_PRE_SPLIT, ESPL_PRE_PREFIX_SPACE, ESPL_PRE_METASPACE, ESPL_PRE_BYTES } espl_pre_kind;

typedef struct espl_pre_step {
    espl_pre_kind kind;
    espl_matcher matcher; /* SPLIT */
    espl_behavior behavior;
    bool invert;
    espl_bytes replacement; /* METASPACE */
    espl_prepend prepend;
} espl_pre_step;

typedef enum espl_dec_kind {
    ESPL_DEC_BYTES,
    ESPL_DEC_REPLACE,
    ESPL_DEC_BYTE_FALLBACK,
    ESPL_DEC_FUSE,
    ESPL_DEC_STRIP,
    ESPL_DEC_METASPACE
} espl_dec_kind;

typedef struct espl_dec_step {
    espl_dec_kind kind;
    espl_matcher pattern; /* REPLACE */
    espl_bytes content;   /* REPLACE; STRIP and METASPACE: one character */
    int64_t start, stop;  /* STRIP */
    bool drop_first;      /* METASPACE: the first token's replacement characters vanish */
} espl_dec_step;

/* -------------------------------------------------------------- the tokenizer */

typedef struct espl_token {
    const char *s;   /* as the file spells it; NULL: no such id */
    const char *raw; /* the bytes it stands for when the byte alphabet is undone; s where that cannot be */
    int32_t s_len, raw_len;
} espl_token;

typedef struct espl_merge {
    uint64_t pair; /* left << 32 | right; ESPL_TOK_NO_PAIR: an empty slot */
    uint32_t rank, id;
} espl_merge;
#define ESPL_TOK_MARKER "\xE2\x96\x81" /* U+2581, SentencePiece's space */
#define ESPL_TOK_NO_PAIR UINT64_MAX
#define ESPL_TOK_NO_RANK UINT32_MAX

typedef struct espl_model {
    char *arena, *raw_arena;
    espl_token *tokens; /* [n_ids] */
    int64_t n_ids, count;
    espl_map *vocab, *raw_vocab; /* content -> id; raw bytes -> id, in byte mode only */
    espl_merge *merges;          /* [merge_mask + 1] */
    uint64_t merge_mask;
    int merge_shift;
    int32_t byte_id[256];     /* of a byte's character in the byte alphabet, -1 */
    int32_t *char_id;         /* [65536] of a one-character token, -1 */
    int32_t fallback_id[256]; /* of <0xNN>, -1 */
    int32_t unk_id;           /* -1: none */
    bool has_unk, fuse_unk, byte_fallback, ignore_merges, byte_mode;
    /* No merge makes a token with ESPL_TOK_MARKER behind anything but itself: a text without a pre-tokeniser (Llama-2)
     * can then be encoded word by word, with the same result. */
    bool cuts_at_marker;
    int64_t longest; /* bytes of the longest entry */
    /* What bpe makes of a vocabulary entry, found out when first met: 0 unknown, 1 the entry itself, 2 something else.
     * A cache that every thread would fill alike. */
    _Atomic uint8_t *whole; /* [n_ids] */
} espl_model;

typedef struct espl_added_token {
    espl_bytes content, normal; /* normal: its normalised form when it is matched in normalised text, else empty */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} espl_added_token;

/* Tokens sorted by bytes, for longest-match search. */
typedef struct espl_added_index {
    const espl_added_token **sorted; /* [n] */
    int64_t n;
    int32_t first[257]; /* sorted[first[b]..first[b + 1]) start with byte b */
} espl_added_index;

typedef struct espl_added {
    espl_added_token *tokens; /* [n] */
    int64_t n;
    espl_map *by_content; /* content -> index */
    espl_map *by_id;      /* id (its 4 bytes) -> index */
    int32_t *ids;         /* [n] the keys of by_id */
    espl_map *special;    /* contents of special tokens */
    espl_added_index raw, normal;
} espl_added;

typedef struct espl_template_item {
    int32_t id; /* -1: the text */
} espl_template_item;

struct espl_tokenizer {
    espl_bytes name;
    espl_model model;
    espl_added added;
    espl_norm_step norm[ESPL_TOK_MAX_STEPS];
    espl_pre_step pre[ESPL_TOK_MAX_STEPS];
    espl_dec_step dec[ESPL_TOK_MAX_STEPS];
    int64_t n_norm, n_pre, n_dec;
    bool has_decoder;
    espl_template_item *items; /* [n_items]; none: just the text */
    int64_t n_items;
    int64_t vocab_size;
};

/* What one encode call needs; never shared between threads. */
typedef struct espl_work {
    const espl_tokenizer *t;
    espl_ids *ids;
    espl_match_state match;
    espl_str norm[2];                   /* ping-pong of the normaliser */
    espl_str pre[ESPL_TOK_MAX_STEPS];   /* text rewritten by each pre-tokeniser step */
    uint32_t *sym, *rank, *next, *prev; /* [sym_cap] */
    int64_t n_sym, sym_cap;
    uint64_t *heap;
    int64_t n_heap, heap_cap;
    uint32_t unk_pending; /* 1: an unknown token waits to be added (fused with the next) */
} espl_work;

/* A piece of text on its way; `first` says that it starts where the text given to encode() starts. */
typedef struct espl_piece {
    const char *p;
    int64_t n;
    bool first;
} espl_piece;

espl_status espl_tok_push(espl_ids *ids, int32_t id);

/* vocab.c */
espl_status espl_tok_model_parse(espl_model *m, const struct cJSON *model, const char *file);
/* Builds what depends on whether words come as raw bytes (byte_mode), and on whether decoding undoes the alphabet. */
espl_status espl_tok_model_finish(espl_model *m, bool byte_mode, bool byte_decoder);
void espl_tok_model_free(espl_model *m);

/* bpe.c: appends the ids of one word. */
espl_status espl_tok_bpe(espl_work *w, const char *p, int64_t n);

/* normalize.c */
espl_status espl_tok_norm_parse(espl_tokenizer *t, const struct cJSON *node, const char *file);
void espl_tok_norm_free(espl_tokenizer *t);
/* *piece becomes its normalised form: unchanged, or a view of w->norm[]. */
espl_status espl_tok_normalize(espl_work *w, espl_piece *piece);

/* pretokenize.c */
espl_status espl_tok_pre_parse(espl_tokenizer *t, const struct cJSON *node, const char *file, bool *byte_mode);
void espl_tok_pre_free(espl_tokenizer *t);
espl_status espl_tok_pretokenize(espl_work *w, const espl_piece *piece);

/* added.c */
espl_status espl_tok_added_parse(espl_tokenizer *t, const struct cJSON *node, const char *file);
void espl_tok_added_free(espl_added *a);
/* Splits the piece at the tokens of `index`: pushes their ids, hands the text between to `text`. */
typedef espl_status (*espl_text_fn)(espl_work *w, const espl_piece *piece);
espl_status espl_tok_added_split(espl_work *w, const espl_added_index *index, const espl_piece *piece,
                                 espl_text_fn text);
const espl_added_token *espl_tok_added_by_id(const espl_tokenizer *t, int32_t id);

/* postprocess.c */
espl_status espl_tok_post_parse(espl_tokenizer *t, const struct cJSON *node, const char *file);

/* decode.c */
espl_status espl_tok_dec_parse(espl_tokenizer *t, const struct cJSON *node, const char *file);
void espl_tok_dec_free(espl_tokenizer *t);

/* encode.c */
espl_status espl_tok_work_open(espl_work *w, const espl_tokenizer *t, espl_ids *ids);
void espl_tok_work_close(espl_work *w);

#endif
