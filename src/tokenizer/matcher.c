/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four kinds of matchers behind one iterator. Two rules of the tokenizers library shape it: an empty match directly
 * behind a match does not count, and text between matches is returned as spans too, because a splitter needs both.
 */
#include "matcher.h"

#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

/* Bounds a search: patterns come with the model, and some backtrack exponentially. A run of spaces alone costs a step
 * per byte, hence the part that grows with the text. */
enum { MATCH_LIMIT = 20000000, MATCH_LIMIT_PER_BYTE = 16 };
/* Memory of a search that has left the JIT's 32 KiB of stack. */
enum { HEAP_LIMIT_KIB = 256 << 10 };
enum { PCRE_MESSAGE_BYTES = 160 }; /* PCRE2's longest message has less than 128 */

/* ------------------------------------------------------------ making */

/* Compiles with Oniguruma's default options, as far as PCRE2 has them. */
espl_status espl_matcher_compile(espl_matcher *m, const char *pattern, const espl_where *where) {
    pcre2_compile_context *context = NULL;
    espl_bytes text = {0};
    espl_str pcre = {0};
    int code = 0;
    size_t at = 0;
    espl_status st;
    m->kind = ESPL_MATCH_REGEX;
    m->where = *where;
    ESPL_CHECK(st, done, espl_tok_text_dup(pattern, &text));
    ESPL_CHECK(st, done, espl_tok_regex_translate(text.p, text.n, where, &pcre));
    context = pcre2_compile_context_create(NULL);
    if (!context) {
        st = ESPL_FAIL(ESPL_NOMEM, "%s: no memory for a pattern", where->text);
        goto done;
    }
    /* Oniguruma's default syntax: ^ and $ match at every line, and only LF ends one. */
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    m->code = pcre2_compile((PCRE2_SPTR)pcre.data, (size_t)pcre.len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code,
                            &at, context);
    if (!m->code) {
        char message[PCRE_MESSAGE_BYTES];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        st = ESPL_FAIL(ESPL_FORMAT, "%s: the pattern does not compile: %s", where->text, message);
        goto done;
    }
    m->jit = pcre2_jit_compile(m->code, PCRE2_JIT_COMPLETE) == 0; /* without it matching is only slower */
done:
    pcre2_compile_context_free(context);
    espl_str_free(&pcre);
    espl_tok_bytes_free(&text);
    return st;
}

espl_status espl_matcher_parse(espl_matcher *m, const struct cJSON *node, const espl_where *where) {
    espl_where at = espl_tok_where(where->text, ".", "pattern");
    const cJSON *pattern = espl_json_member(node, "pattern");
    const char *literal = NULL, *regex = NULL;
    ESPL_TRY(espl_tok_check_keys(pattern, &at, "String|Regex"));
    ESPL_TRY(espl_json_get_str(pattern, "String", at.text, false, &literal));
    ESPL_TRY(espl_json_get_str(pattern, "Regex", at.text, false, &regex));
    if (!literal == !regex) return ESPL_FAIL(ESPL_FORMAT, "%s must be one of \"String\" and \"Regex\"", at.text);
    /* An empty literal matches between all characters, as the empty regex does. */
    if (regex || !*literal) return espl_matcher_compile(m, regex ? regex : literal, &at);
    m->kind = ESPL_MATCH_LITERAL;
    m->where = at;
    return espl_tok_text_dup(literal, &m->literal);
}

void espl_matcher_free(espl_matcher *m) {
    espl_tok_bytes_free(&m->literal);
    pcre2_code_free(m->code);
    m->code = NULL;
}

/* One pair of offsets is enough: patterns have no captures (regex.c). */
espl_status espl_match_state_open(espl_match_state *s) {
    s->data = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    if (!s->data || !s->limits) return ESPL_FAIL(ESPL_NOMEM, "no memory to match patterns");
    pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
    return ESPL_OK;
}

void espl_match_state_close(espl_match_state *s) {
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->limits);
}

/* ------------------------------------------------------------ searching: each sets s->found and moves s->at behind it
 */

/* The JIT searches first; the interpreter, which uses the heap, takes over what needs more stack. */
static espl_status find_regex(espl_spans *s, bool *found) {
    PCRE2_SPTR p = (PCRE2_SPTR)(s->shadow.len ? s->shadow.data : s->p);
    const espl_match_state *m = s->state;
    size_t n = (size_t)s->n;
    /* Set for each search: the state is used for texts of all lengths. */
    pcre2_set_match_limit(m->limits, (uint32_t)espl_min_i64(MATCH_LIMIT + MATCH_LIMIT_PER_BYTE * s->n, UINT32_MAX));
    for (*found = false; s->at <= s->n;) {
        int rc = PCRE2_ERROR_JIT_STACKLIMIT, step = 1;
        if (s->m->jit) rc = pcre2_jit_match(s->m->code, p, n, (size_t)s->at, 0, m->data, m->limits);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(s->m->code, p, n, (size_t)s->at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->limits);
        if (rc == PCRE2_ERROR_NOMATCH) return ESPL_OK;
        if (rc < 0) {
            char message[PCRE_MESSAGE_BYTES];
            pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof message);
            return ESPL_FAIL(ESPL_FAILED, "%s: matching a text of %" PRId64 " bytes failed: %s", s->m->where.text, s->n,
                             message);
        }
        const size_t *ov = pcre2_get_ovector_pointer(m->data);
        s->found.start = (int64_t)ov[0];
        s->found.end = (int64_t)ov[1];
        if (s->found.end > s->found.start || s->last_match != s->found.end) {
            *found = true;
            s->at = s->last_match = s->found.end;
            return ESPL_OK;
        }
        /* Empty, where the last match ended: it does not count. Go on behind the next character. */
        if (s->at < s->n) espl_tok_decode_char(s->p + s->at, &step);
        s->at += step;
    }
    return ESPL_OK;
}

/* The next character of the class. */
static bool find_class(espl_spans *s) {
    int n;
    for (; s->at < s->n; s->at += n) {
        if (!espl_tok_char_is(s->m->cls, espl_tok_decode_char(s->p + s->at, &n))) continue;
        s->found.start = s->at;
        s->found.end = s->at += n;
        return true;
    }
    return false;
}

/* A run of characters of words, or of neither words nor spaces. */
static bool find_words(espl_spans *s) {
    enum { SPACE, WORD, OTHER } run = SPACE, kind;
    int n;
    for (; s->at < s->n; s->at += n) {
        int32_t c = espl_tok_decode_char(s->p + s->at, &n);
        kind = espl_tok_char_is(ESPL_CHAR_WORD, c) ? WORD : espl_tok_char_is(ESPL_CHAR_SPACE, c) ? SPACE : OTHER;
        if (run != SPACE && kind != run) break;
        if (run == SPACE) s->found.start = s->at;
        run = kind;
    }
    s->found.end = s->at;
    return run != SPACE;
}

/* ------------------------------------------------------------ spans */

espl_status espl_spans_open(espl_spans *s, const espl_matcher *m, const char *p, int64_t n,
                            const espl_match_state *state) {
    *s = (espl_spans){.m = m, .state = state, .p = p, .n = n, .last_match = -1};
    if (m->kind != ESPL_MATCH_REGEX) return ESPL_OK;
    /* The shadow is a copy with proxies, made at the first code point that needs one; most texts need none. */
    int64_t from = 0;
    int len;
    for (int64_t i = 0; i < n; i += len) {
        len = 1;
        if ((unsigned char)p[i] < 0xE0) continue; /* all proxies are for sequences of 3 and 4 bytes */
        int32_t cp = espl_tok_decode_char(p + i, &len), proxy = espl_tok_proxy(cp);
        if (proxy == cp) continue;
        char c[4];
        espl_str_put(&s->shadow, p + from, i - from);
        espl_str_put(&s->shadow, c, espl_tok_encode_char(proxy, c));
        from = i + len;
    }
    /* Proxies have the length of what they stand for, so offsets into the shadow are offsets into the text. */
    if (from > 0) espl_str_put(&s->shadow, p + from, n - from);
    return espl_str_status(&s->shadow);
}

void espl_spans_close(espl_spans *s) { espl_str_free(&s->shadow); }

/* The match found last waits while the text before it is returned. */
espl_status espl_spans_next(espl_spans *s, espl_span *out, bool *more) {
    const espl_bytes *literal = &s->m->literal;
    const char *hit;
    if (!s->pending && s->at <= s->n) {
        switch (s->m->kind) {
        case ESPL_MATCH_REGEX:
            ESPL_TRY(find_regex(s, &s->pending));
            break;
        case ESPL_MATCH_LITERAL:
            hit = memmem(s->p + s->at, (size_t)(s->n - s->at), literal->p, (size_t)literal->n);
            s->pending = hit != NULL;
            if (!hit) break;
            s->found.start = hit - s->p;
            s->found.end = s->at = s->found.start + literal->n;
            break;
        case ESPL_MATCH_CLASS:
            s->pending = find_class(s);
            break;
        case ESPL_MATCH_WORDS:
            s->pending = find_words(s);
            break;
        }
        if (!s->pending) s->at = s->n + 1;
    }
    bool match = s->pending && s->found.start == s->done;
    int64_t end = match ? s->found.end : s->pending ? s->found.start : s->n;
    *out = (espl_span){.start = s->done, .end = end, .match = match};
    *more = match || end > s->done; /* a match may be empty, text between matches not */
    if (match) s->pending = false;
    s->done = end;
    return ESPL_OK;
}

/* A few steps that each make a text a hundred times longer would fill any memory. NFKD, the longest of real steps,
 * makes a character 11 times longer. */
int64_t espl_tok_growth_limit(int64_t n) {
    enum { GROWTH = 256, GROWTH_OF_SHORT = 65536 };
    return n > INT64_MAX / GROWTH - GROWTH_OF_SHORT ? INT64_MAX : n * GROWTH + GROWTH_OF_SHORT;
}

espl_status espl_tok_refuse_growth(void) {
    return ESPL_FAIL(ESPL_UNSUPPORTED, "tokenizer.json: its steps make a text more than 256 times longer");
}

/* Shared by the normaliser's Replace and the decoder's. */
espl_status espl_matcher_replace(const espl_matcher *m, const espl_match_state *state, const char *p, int64_t n,
                                 const espl_bytes *content, int64_t limit, espl_str *out, int64_t *head) {
    espl_spans spans;
    espl_span span;
    bool more = n > 0;
    espl_status st;
    *head = 0;
    ESPL_CHECK(st, done, espl_spans_open(&spans, m, p, n, state));
    while (more) {
        ESPL_CHECK(st, done, espl_spans_next(&spans, &span, &more));
        if (!more) break;
        if (span.match)
            espl_str_put(out, content->p, content->n);
        else
            espl_str_put(out, p + span.start, span.end - span.start);
        if (span.match && span.start == 0) *head = span.end;
        if (out->len > limit) {
            st = espl_tok_refuse_growth();
            goto done;
        }
    }
done:
    espl_spans_close(&spans);
    return st;
}
