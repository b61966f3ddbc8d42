/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-tokenisers: the components of the file become a flat list of four primitive steps. A piece runs through the rest
 * of the list as soon as a step has cut it off, depth first, so no list of pieces is ever stored.
 */
#include "pretokenizer.h"

#include "espalier/base/json.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <string.h>

/* ByteLevel's own pattern: https://github.com/openai/gpt-2/blob/master/src/encoder.py */
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* ------------------------------------------------------------ parsing */

/* A new step at the end of the list; ESPL_UNSUPPORTED when the list is full. */
static espl_status pre_new_step(espl_pretokenizer *z, const espl_where *where, espl_pre_kind kind,
                                espl_pre_step **out) {
    *out = NULL;
    if (z->n == ESPL_TOK_MAX_STEPS)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: more than %d steps", where->text, ESPL_TOK_MAX_STEPS);
    *out = &z->steps[z->n++];
    **out = (espl_pre_step){.kind = kind};
    return ESPL_OK;
}

/* Member "behavior"; when it is missing and not required, *out keeps its value. */
static espl_status pre_get_behavior(const struct cJSON *node, const espl_where *where, bool required,
                                    espl_split_behavior *out) {
    static const char *const names[] = {[ESPL_SPLIT_ISOLATED] = "Isolated",
                                        [ESPL_SPLIT_REMOVED] = "Removed",
                                        [ESPL_SPLIT_PREVIOUS] = "MergedWithPrevious",
                                        [ESPL_SPLIT_NEXT] = "MergedWithNext",
                                        [ESPL_SPLIT_CONTIGUOUS] = "Contiguous"};
    const char *s = NULL;
    ESPL_TRY(espl_json_get_str(node, "behavior", where->text, required, &s));
    if (!s) return ESPL_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i]) == 0) return *out = (espl_split_behavior)i, ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.behavior \"%.64s\" is not supported", where->text, s);
}

/* Split: at a pattern of the file's own. */
static espl_status pre_add_split(void *target, const struct cJSON *node, const espl_where *where, int kind) {
    espl_pre_step *step;
    ESPL_TRY(pre_new_step(target, where, (espl_pre_kind)kind, &step));
    ESPL_TRY(pre_get_behavior(node, where, true, &step->behavior));
    ESPL_TRY(espl_json_get_bool(node, "invert", where->text, false, &step->invert));
    return espl_matcher_parse(&step->matcher, node, where);
}

/* Digits, Punctuation, WhitespaceSplit: a split at the characters of a class. Whitespace, given as the class of words:
 * a split into \w+|[^\w\s]+, where what lies between them vanishes. */
static espl_status pre_add_class(void *target, const struct cJSON *node, const espl_where *where, int cls) {
    espl_pre_step *step;
    bool individual = false;
    ESPL_TRY(pre_new_step(target, where, ESPL_PRE_SPLIT, &step));
    step->matcher.kind = cls == ESPL_CHAR_WORD ? ESPL_MATCH_WORDS : ESPL_MATCH_CLASS;
    step->matcher.cls = (espl_char_class)cls;
    step->invert = cls == ESPL_CHAR_WORD;
    step->behavior = cls == ESPL_CHAR_SPACE || cls == ESPL_CHAR_WORD ? ESPL_SPLIT_REMOVED : ESPL_SPLIT_ISOLATED;
    if (cls == ESPL_CHAR_PUNCT) return pre_get_behavior(node, where, false, &step->behavior);
    if (cls == ESPL_CHAR_NUMERIC) {
        ESPL_TRY(espl_json_get_bool(node, "individual_digits", where->text, true, &individual));
        if (!individual) step->behavior = ESPL_SPLIT_CONTIGUOUS;
    }
    return ESPL_OK;
}

/* ByteLevel is up to three steps: a space in front, GPT-2's split, and bytes as characters. */
static espl_status pre_add_byte_level(void *target, const struct cJSON *node, const espl_where *where, int kind) {
    espl_pre_step *step;
    bool prefix = true, regex = true;
    ESPL_TRY(espl_json_get_bool(node, "add_prefix_space", where->text, true, &prefix));
    ESPL_TRY(espl_json_get_bool(node, "use_regex", where->text, false, &regex));
    if (prefix) ESPL_TRY(pre_new_step(target, where, ESPL_PRE_PREFIX_SPACE, &step));
    if (regex) {
        ESPL_TRY(pre_new_step(target, where, ESPL_PRE_SPLIT, &step));
        ESPL_TRY(espl_matcher_compile(&step->matcher, GPT2_PATTERN, where));
    }
    return pre_new_step(target, where, (espl_pre_kind)kind, &step);
}

/* Metaspace is one or two: spaces become the replacement, and each word begins with one. */
static espl_status pre_add_metaspace(void *target, const struct cJSON *node, const espl_where *where, int kind) {
    static const char *const schemes[] = {
        [ESPL_PREPEND_ALWAYS] = "always", [ESPL_PREPEND_NEVER] = "never", [ESPL_PREPEND_FIRST] = "first"};
    espl_pre_step *step;
    const char *scheme = NULL;
    bool prefix = true, split = true;
    ESPL_TRY(pre_new_step(target, where, (espl_pre_kind)kind, &step));
    ESPL_TRY(espl_tok_get_text(node, "replacement", where, &step->replacement));
    if (!espl_tok_is_one_char(&step->replacement))
        return ESPL_FAIL(ESPL_FORMAT, "%s.replacement must be one character", where->text);
    ESPL_TRY(espl_json_get_str(node, "prepend_scheme", where->text, false, &scheme));
    ESPL_TRY(espl_json_get_bool(node, "add_prefix_space", where->text, false, &prefix)); /* of older files */
    if (!scheme) scheme = prefix ? "always" : "never";
    /* The library refuses the contradiction too. */
    if (!prefix && strcmp(scheme, "never") != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: add_prefix_space contradicts prepend_scheme", where->text);
    size_t i = 0, n = sizeof schemes / sizeof *schemes;
    while (i < n && strcmp(scheme, schemes[i]) != 0) i++;
    if (i == n) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.prepend_scheme \"%.64s\" is not supported", where->text, scheme);
    step->prepend = (espl_prepend)i;
    ESPL_TRY(espl_json_get_bool(node, "split", where->text, false, &split));
    if (!split) return ESPL_OK;
    ESPL_TRY(pre_new_step(target, where, ESPL_PRE_SPLIT, &step));
    step->behavior = ESPL_SPLIT_NEXT;
    return espl_tok_get_text(node, "replacement", where, &step->matcher.literal);
}

espl_status espl_pretokenizer_parse(espl_pretokenizer *z, const struct cJSON *node, const char *file) {
    static const espl_component known[] = {
        {"Split", "type|pattern|behavior|invert", pre_add_split, ESPL_PRE_SPLIT},
        {"ByteLevel", ESPL_TOK_BYTE_LEVEL_KEYS, pre_add_byte_level, ESPL_PRE_BYTES},
        {"Metaspace", ESPL_TOK_METASPACE_KEYS, pre_add_metaspace, ESPL_PRE_METASPACE},
        {"Digits", "type|individual_digits", pre_add_class, ESPL_CHAR_NUMERIC},
        {"Punctuation", "type|behavior", pre_add_class, ESPL_CHAR_PUNCT},
        {"WhitespaceSplit", "type", pre_add_class, ESPL_CHAR_SPACE},
        {"Whitespace", "type", pre_add_class, ESPL_CHAR_WORD},
    };
    static const espl_component_place place = {"pre_tokenizer", "pretokenizers", known, sizeof known / sizeof *known};
    ESPL_TRY(espl_tok_components_parse(&place, z, node, file));
    /* To spell bytes as characters last of all is the same as to leave them alone and spell the vocabulary in bytes. */
    if (z->n > 0 && z->steps[z->n - 1].kind == ESPL_PRE_BYTES) {
        z->byte_mode = true;
        z->n--;
    }
    return ESPL_OK;
}

void espl_pretokenizer_free(espl_pretokenizer *z) {
    for (int64_t i = 0; i < z->n; i++) {
        espl_matcher_free(&z->steps[i].matcher);
        espl_tok_bytes_free(&z->steps[i].replacement);
    }
}

void espl_pretokenizing_free(espl_pretokenizing *r) {
    for (int i = 0; i < ESPL_TOK_MAX_STEPS; i++) espl_str_free(&r->rewritten[i]);
}

/* ------------------------------------------------------------ running */

/* Runs the piece through the steps from `index` on. Depth is bounded by the number of steps. */
static espl_status pre_run(espl_pretokenizing *r, int64_t index, const espl_piece *piece);

/* PREFIX_SPACE, METASPACE and BYTES: what comes out goes on to the next step. Each step has a buffer of its own,
 * because later steps still look at what earlier ones have written. */
static espl_status pre_rewrite(espl_pretokenizing *r, int64_t index, const espl_piece *piece) {
    const espl_pre_step *step = &r->z->steps[index];
    const espl_bytes *c = &step->replacement;
    const char *p = piece->p;
    espl_str *out = &r->rewritten[index];
    bool first = step->prepend == ESPL_PREPEND_ALWAYS || (step->prepend == ESPL_PREPEND_FIRST && piece->first);
    out->len = 0;
    switch (step->kind) {
    case ESPL_PRE_PREFIX_SPACE:
        if (p[0] == ' ') return pre_run(r, index + 1, piece);
        espl_str_puts(out, " ");
        espl_str_put(out, p, piece->n);
        break;
    case ESPL_PRE_METASPACE:
        /* A text that begins with a space or the replacement needs no other in front. */
        if (first && p[0] != ' ' && (piece->n < c->n || memcmp(p, c->p, (size_t)c->n) != 0))
            espl_str_put(out, c->p, c->n);
        for (int64_t i = 0; i < piece->n;) {
            const char *space = memchr(p + i, ' ', (size_t)(piece->n - i));
            int64_t end = space ? space - p : piece->n;
            espl_str_put(out, p + i, end - i);
            if (space) espl_str_put(out, c->p, c->n);
            i = end + 1;
        }
        break;
    default: /* BYTES */
        for (int64_t i = 0; i < piece->n; i++) {
            char spelt[4];
            espl_str_put(out, spelt, espl_tok_encode_char(espl_tok_byte_to_char((uint8_t)p[i]), spelt));
        }
    }
    ESPL_TRY(espl_str_status(out));
    espl_piece rewritten = {.p = out->data, .n = out->len, .first = piece->first};
    return pre_run(r, index + 1, &rewritten);
}

/* Cuts the piece at the matches, joins them as the behavior says, and hands each word to the next step. */
static espl_status pre_split(espl_pretokenizing *r, int64_t index, const espl_piece *piece) {
    const espl_pre_step *step = &r->z->steps[index];
    espl_piece word = {.p = piece->p, .n = 0, .first = piece->first}; /* grows until a span does not join it */
    espl_spans spans;
    espl_span span;
    bool more = true, before = false, open = false;
    espl_status st;
    ESPL_CHECK(st, done, espl_spans_open(&spans, &step->matcher, piece->p, piece->n, r->match));
    while (more) {
        ESPL_CHECK(st, done, espl_spans_next(&spans, &span, &more));
        bool match = span.match != step->invert;
        /* Does this span continue the word that is open? The names of the library: a match joins what is before it
         * (PREVIOUS), what is between joins the match before it (NEXT), or like joins like (CONTIGUOUS). */
        bool joins = (step->behavior == ESPL_SPLIT_CONTIGUOUS && match == before) ||
                     (step->behavior == ESPL_SPLIT_PREVIOUS && match && !before) ||
                     (step->behavior == ESPL_SPLIT_NEXT && !match && before);
        if (!more || !open || !joins) {
            if (open && word.n > 0) ESPL_CHECK(st, done, pre_run(r, index + 1, &word));
            word = (espl_piece){.p = piece->p + span.start, .first = piece->first && span.start == 0};
        }
        word.n = piece->p + span.end - word.p;
        /* A removed match is no word, and ends the one before it. */
        open = !(step->behavior == ESPL_SPLIT_REMOVED && match);
        before = match;
    }
done:
    espl_spans_close(&spans);
    return st;
}

static espl_status pre_run(espl_pretokenizing *r, int64_t index, const espl_piece *piece) {
    if (index == r->z->n) return r->word(r->ctx, piece);
    return r->z->steps[index].kind == ESPL_PRE_SPLIT ? pre_split(r, index, piece) : pre_rewrite(r, index, piece);
}

espl_status espl_pretokenizer_run(void *run, const espl_piece *piece) {
    return piece->n > 0 ? pre_run(run, 0, piece) : ESPL_OK;
}
