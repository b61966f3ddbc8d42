/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoders: each maps a list of strings, at first one for each token, to a list of strings; the result is their
 * concatenation. A step may look at one string at a time or at the whole list.
 */
#include "decoder.h"

#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <string.h>

/* ------------------------------------------------------------ parsing */

/* All types have a row in the table below; REPLACE, STRIP and METASPACE have members beside "type". */
static espl_status decoder_add(void *target, const struct cJSON *node, const espl_where *where, int kind) {
    espl_tok_decoder *d = target;
    const char *key = kind == ESPL_DEC_METASPACE ? "replacement" : "content", *scheme = NULL;
    bool prefix = true;
    if (d->n == ESPL_TOK_MAX_STEPS)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: more than %d decoders", where->text, ESPL_TOK_MAX_STEPS);
    espl_dec_step *step = &d->steps[d->n++];
    *step = (espl_dec_step){.kind = (espl_dec_kind)kind};
    if (kind != ESPL_DEC_REPLACE && kind != ESPL_DEC_STRIP && kind != ESPL_DEC_METASPACE) return ESPL_OK;
    ESPL_TRY(espl_tok_get_text(node, key, where, &step->content));
    if (kind == ESPL_DEC_REPLACE) return espl_matcher_parse(&step->pattern, node, where);
    if (kind == ESPL_DEC_STRIP) {
        ESPL_TRY(espl_json_get_i64(node, "start", where->text, true, 0, INT32_MAX, &step->start));
        ESPL_TRY(espl_json_get_i64(node, "stop", where->text, true, 0, INT32_MAX, &step->stop));
    } else {
        ESPL_TRY(espl_json_get_str(node, "prepend_scheme", where->text, false, &scheme));
        ESPL_TRY(espl_json_get_bool(node, "add_prefix_space", where->text, false, &prefix)); /* of older files */
        /* What the pre-tokeniser has put in front of the text must vanish again. */
        step->drop_first = scheme ? strcmp(scheme, "never") != 0 : prefix;
    }
    if (espl_tok_is_one_char(&step->content)) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s.%s must be one character", where->text, key);
}

espl_status espl_tok_decoder_parse(espl_tok_decoder *d, const struct cJSON *node, const char *file) {
    static const espl_component known[] = {
        {"ByteLevel", ESPL_TOK_BYTE_LEVEL_KEYS, decoder_add, ESPL_DEC_BYTES}, /* its options are a pre-tokeniser's */
        {"ByteFallback", "type", decoder_add, ESPL_DEC_BYTE_FALLBACK},
        {"Fuse", "type", decoder_add, ESPL_DEC_FUSE},
        {"Replace", "type|pattern|content", decoder_add, ESPL_DEC_REPLACE},
        {"Strip", "type|content|start|stop", decoder_add, ESPL_DEC_STRIP},
        {"Metaspace", ESPL_TOK_METASPACE_KEYS, decoder_add, ESPL_DEC_METASPACE},
    };
    static const espl_component_place place = {"decoder", "decoders", known, sizeof known / sizeof *known};
    d->given = node != NULL;
    return espl_tok_components_parse(&place, d, node, file);
}

void espl_tok_decoder_free(espl_tok_decoder *d) {
    for (int64_t i = 0; i < d->n; i++) {
        espl_matcher_free(&d->steps[i].pattern);
        espl_tok_bytes_free(&d->steps[i].content);
    }
}

/* ------------------------------------------------------------ lists of strings */

void espl_tok_strings_free(espl_tok_strings *s) {
    espl_str_free(&s->text);
    espl_mem_free(&s->end);
}

espl_status espl_tok_strings_close(espl_tok_strings *s) {
    if (s->n == s->capacity) {
        int64_t capacity = espl_max_i64(32, 2 * s->capacity);
        ESPL_TRY(espl_mem_resize(&s->end, capacity, sizeof *s->end, "decoded text"));
        s->capacity = capacity;
    }
    s->end[s->n++] = s->text.len;
    return espl_str_status(&s->text);
}

/* The i-th string: a view, until the list changes. */
static espl_bytes strings_at(const espl_tok_strings *s, int64_t i) {
    int64_t from = i ? s->end[i - 1] : 0;
    return (espl_bytes){.p = s->text.data + from, .n = s->end[i] - from};
}

/* ------------------------------------------------------------ the steps, on one string */

/* Appends s with the byte alphabet undone, or as it is when it has other characters in it (added tokens do). The copy
 * that comes first makes room, and is right in the second case. */
static void put_raw(espl_bytes s, espl_str *out) {
    int64_t before = out->len;
    espl_str_put(out, s.p, s.n);
    if (out->failed) return;
    int64_t n = espl_tok_undo_byte_chars(s.p, s.n, out->data + before);
    if (n >= 0) out->len = before + n;
    out->data[out->len] = '\0';
}

/* The byte of "<0xNN>", -1 for any other string. Twice 16 digits: an index mod 16 is the value. */
static int fallback_byte(espl_bytes s) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    char first = s.p[3] == '+' ? '0' : s.p[3]; /* Rust reads "+N" as a number too */
    const char *hi = memchr(digits, first, sizeof digits - 1), *lo = memchr(digits, s.p[4], sizeof digits - 1);
    return hi && lo ? (int)((hi - digits) % 16 * 16 + (lo - digits) % 16) : -1;
}

/* True when s has c at `at`, which may lie outside s. */
static bool has_at(espl_bytes s, int64_t at, const espl_bytes *c) {
    return at >= 0 && at + c->n <= s.n && memcmp(s.p + at, c->p, (size_t)c->n) == 0;
}

/* Appends s as REPLACE, STRIP or METASPACE leaves it; `first`: the string begins the text. */
static espl_status string_put_step(const espl_dec_step *step, espl_bytes s, bool first, const espl_match_state *match,
                                   espl_str *out) {
    const espl_bytes *c = &step->content;
    int64_t from = 0, to = s.n, head;
    const char *hit;
    switch (step->kind) {
    case ESPL_DEC_REPLACE:
        return espl_matcher_replace(&step->pattern, match, s.p, s.n, c, out->len + espl_tok_growth_limit(s.n), out,
                                    &head);
    case ESPL_DEC_STRIP:
        for (int64_t i = 0; i < step->start && has_at(s, from, c); i++) from += c->n;
        for (int64_t i = 0; i < step->stop && has_at(s, to - c->n, c); i++) to -= c->n;
        break;
    case ESPL_DEC_METASPACE:
        while ((hit = memmem(s.p + from, (size_t)(s.n - from), c->p, (size_t)c->n))) {
            espl_str_put(out, s.p + from, hit - s.p - from);
            if (!first || !step->drop_first) espl_str_puts(out, " ");
            from = hit - s.p + c->n;
        }
        break;
    default: /* the others work on the whole list */
        break;
    }
    if (to > from) espl_str_put(out, s.p + from, to - from);
    return ESPL_OK;
}

/* ------------------------------------------------------------ the steps, on a list */

/* A run of byte tokens becomes one string; one U+FFFD for each token when it is not UTF-8 as a whole, even if parts of
 * it are: so does the library. */
static espl_status list_undo_fallback(const espl_tok_strings *in, espl_tok_strings *out) {
    espl_str run = {0};
    espl_status st = ESPL_OK;
    for (int64_t i = 0; i <= in->n; i++) {
        espl_bytes s = i < in->n ? strings_at(in, i) : (espl_bytes){0};
        int byte = fallback_byte(s);
        if (byte >= 0) {
            char c = (char)byte;
            espl_str_put(&run, &c, 1);
            continue;
        }
        /* The run ends here, or the list does. */
        ESPL_CHECK(st, done, espl_str_status(&run));
        bool valid = run.len > 0 && espl_tok_valid_prefix(run.data, run.len) == run.len;
        if (valid) {
            espl_str_put(&out->text, run.data, run.len);
            ESPL_CHECK(st, done, espl_tok_strings_close(out));
        }
        for (int64_t k = 0; !valid && k < run.len; k++) {
            espl_str_puts(&out->text, ESPL_TOK_REPLACEMENT);
            ESPL_CHECK(st, done, espl_tok_strings_close(out));
        }
        run.len = 0;
        if (i == in->n) break;
        espl_str_put(&out->text, s.p, s.n);
        ESPL_CHECK(st, done, espl_tok_strings_close(out));
    }
done:
    espl_str_free(&run);
    return st;
}

/* Each step makes a new list from the whole one before it. */
espl_status espl_tok_decoder_run(const espl_tok_decoder *d, espl_tok_strings *s) {
    espl_match_state match = {0};
    espl_tok_strings out = {0};
    espl_str raw = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_match_state_open(&match));
    for (int64_t k = 0; k < d->n; k++) {
        const espl_dec_step *step = &d->steps[k];
        espl_str_put(&out.text, "", 0); /* never NULL */
        switch (step->kind) {
        case ESPL_DEC_BYTES: /* into one string: a character may have its bytes in several tokens */
            raw.len = 0;
            for (int64_t i = 0; i < s->n; i++) put_raw(strings_at(s, i), &raw);
            ESPL_CHECK(st, done, espl_str_status(&raw));
            if (raw.len > 0) espl_tok_put_repaired(&out.text, raw.data, raw.len);
            ESPL_CHECK(st, done, espl_tok_strings_close(&out));
            break;
        case ESPL_DEC_BYTE_FALLBACK:
            ESPL_CHECK(st, done, list_undo_fallback(s, &out));
            break;
        case ESPL_DEC_FUSE:
            espl_str_put(&out.text, s->text.data, s->text.len);
            ESPL_CHECK(st, done, espl_tok_strings_close(&out));
            break;
        default: /* string by string */
            for (int64_t i = 0; i < s->n; i++) {
                ESPL_CHECK(st, done, string_put_step(step, strings_at(s, i), i == 0, &match, &out.text));
                ESPL_CHECK(st, done, espl_tok_strings_close(&out));
            }
        }
        espl_tok_strings_free(s);
        *s = out;
        out = (espl_tok_strings){0};
    }
done:
    espl_tok_strings_free(&out);
    espl_str_free(&raw);
    espl_match_state_close(&match);
    return st;
}

/* The same steps on one string, but for three: bytes are not repaired, fallback needs no run, and nothing is stripped,
 * since the ends of a token are not the ends of the text. */
espl_status espl_tok_decoder_run_token(const espl_tok_decoder *d, espl_str *token) {
    espl_match_state match = {0};
    espl_str next = {0};
    bool utf8 = true; /* a token may be part of a character: then it takes no more steps, which rely on UTF-8 */
    espl_status st;
    ESPL_CHECK(st, done, espl_match_state_open(&match));
    for (int64_t i = 0; i < d->n && utf8; i++) {
        const espl_dec_step *step = &d->steps[i];
        espl_bytes s = {.p = token->data, .n = token->len};
        int byte = step->kind == ESPL_DEC_BYTE_FALLBACK ? fallback_byte(s) : -1;
        char c = (char)byte;
        next = (espl_str){0};
        espl_str_put(&next, "", 0);
        if (step->kind == ESPL_DEC_BYTES)
            put_raw(s, &next);
        else if (byte >= 0)
            espl_str_put(&next, &c, 1);
        else if (step->kind == ESPL_DEC_STRIP)
            espl_str_put(&next, s.p, s.n);
        else
            ESPL_CHECK(st, done, string_put_step(step, s, false, &match, &next));
        ESPL_CHECK(st, done, espl_str_status(&next));
        espl_str_free(token);
        *token = next;
        next = (espl_str){0};
        utf8 = step->kind != ESPL_DEC_BYTES && espl_tok_valid_prefix(token->data, token->len) == token->len;
    }
done:
    espl_str_free(&next);
    espl_match_state_close(&match);
    return st;
}
