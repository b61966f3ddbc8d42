/* Finding the matches of a pattern: PCRE2, a literal, or a class of characters. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

/* A search that backtracks this often (a run of spaces alone costs a step per byte), or that needs this much memory
 * once it has left the JIT's stack, is given up. */
enum { MATCH_LIMIT = 20000000, MATCH_LIMIT_PER_BYTE = 16, HEAP_LIMIT_KIB = 256 << 10 };

/* ------------------------------------------------------------ compiling */

static espl_status compile(espl_matcher *m, const espl_str *pcre) {
    int code = 0;
    size_t at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return ESPL_FAIL(ESPL_NOMEM, "%s: no memory for a pattern", m->where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    m->code = pcre2_compile((PCRE2_SPTR)pcre->data, (size_t)pcre->len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code,
                            &at, context);
    pcre2_compile_context_free(context);
    if (!m->code) {
        char text[160];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return ESPL_FAIL(ESPL_FORMAT, "%s: the pattern does not compile: %s", m->where, text);
    }
    m->jit = pcre2_jit_compile(m->code, PCRE2_JIT_COMPLETE) == 0; /* without, matching is only slower */
    return ESPL_OK;
}

static void set_where(espl_matcher *m, const espl_where *where) { memcpy(m->where, where->text, sizeof m->where); }

espl_status espl_tok_matcher_regex(espl_matcher *m, const char *pattern, const espl_where *where) {
    espl_bytes text = {0};
    espl_str pcre = {0};
    m->kind = ESPL_MATCH_REGEX;
    set_where(m, where);
    ESPL_TRY(espl_tok_text_dup(pattern, &text));
    espl_status st = espl_tok_regex_translate(text.p, text.n, where, &pcre);
    if (st == ESPL_OK) st = compile(m, &pcre);
    espl_str_free(&pcre);
    espl_tok_bytes_free(&text);
    return st;
}

espl_status espl_tok_matcher_parse(espl_matcher *m, const struct cJSON *pattern, const espl_where *where) {
    espl_where w = espl_tok_where_key(where, "pattern");
    ESPL_TRY(espl_tok_check_keys(pattern, &w, "String|Regex"));
    const char *literal = NULL, *regex = NULL;
    ESPL_TRY(espl_json_get_str(pattern, "String", w.text, false, &literal));
    ESPL_TRY(espl_json_get_str(pattern, "Regex", w.text, false, &regex));
    if (!literal == !regex) return ESPL_FAIL(ESPL_FORMAT, "%s must be one of \"String\" and \"Regex\"", w.text);
    if (!literal || !*literal) return espl_tok_matcher_regex(m, literal ? literal : regex, &w);
    m->kind = ESPL_MATCH_LITERAL;
    set_where(m, &w);
    return espl_tok_text_dup(literal, &m->literal);
}

void espl_tok_matcher_free(espl_matcher *m) {
    espl_tok_bytes_free(&m->literal);
    pcre2_code_free(m->code);
    m->code = NULL;
}

/* ------------------------------------------------------------ matching */

/* A copy of s->p with proxies, made at the first code point that needs one; most texts need none. */
static espl_status make_shadow(espl_spans *s) {
    int64_t from = 0;
    int n;
    for (int64_t i = 0; i < s->n; i += n) {
        if ((unsigned char)s->p[i] < 0xE0) { /* all proxies are for 3 and 4 byte sequences */
            n = 1;
            continue;
        }
        int32_t cp = espl_tok_decode_char(s->p + i, &n), proxy = espl_tok_proxy(cp);
        if (proxy == cp) continue;
        espl_str_put(&s->shadow, s->p + from, i - from);
        char c[4];
        espl_str_put(&s->shadow, c, espl_tok_encode_char(proxy, c));
        from = i + n;
    }
    if (from > 0) espl_str_put(&s->shadow, s->p + from, s->n - from);
    return espl_str_status(&s->shadow);
}

espl_status espl_tok_spans_open(espl_spans *s, const espl_matcher *m, const char *p, int64_t n,
                                const espl_match_state *match) {
    *s = (espl_spans){.m = m, .p = p, .n = n, .last_match = -1, .match = match};
    return m->kind == ESPL_MATCH_REGEX ? make_shadow(s) : ESPL_OK;
}

void espl_tok_spans_close(espl_spans *s) { espl_str_free(&s->shadow); }

espl_status espl_tok_match_open(espl_match_state *s) {
    s->data = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    if (!s->data || !s->limits) return ESPL_FAIL(ESPL_NOMEM, "no memory to match patterns");
    pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
    return ESPL_OK;
}

void espl_tok_match_close(espl_match_state *s) {
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->limits);
}

/* The JIT runs on 32 KiB of stack; what needs more goes to the interpreter, which uses the heap. */
static int run_pcre(const espl_spans *s, int64_t at) {
    PCRE2_SPTR p = (PCRE2_SPTR)(s->shadow.len ? s->shadow.data : s->p);
    const espl_match_state *m = s->match;
    int64_t limit = MATCH_LIMIT + MATCH_LIMIT_PER_BYTE * s->n;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    pcre2_set_match_limit(m->limits, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
    if (s->m->jit) rc = pcre2_jit_match(s->m->code, p, (size_t)s->n, (size_t)at, 0, m->data, m->limits);
    if (rc != PCRE2_ERROR_JIT_STACKLIMIT) return rc;
    return pcre2_match(s->m->code, p, (size_t)s->n, (size_t)at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->limits);
}

static espl_status regex_search(espl_spans *s, int64_t at, bool *found) {
    int rc = run_pcre(s, at);
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return ESPL_OK;
    char text[160];
    pcre2_get_error_message(rc, (PCRE2_UCHAR *)text, sizeof text);
    return ESPL_FAIL(ESPL_FAILED, "%s: matching a text of %lld bytes failed: %s", s->m->where, (long long)s->n, text);
}

/* As the library iterates: an empty match where the last match ended does not count. */
static espl_status find_regex(espl_spans *s, bool *found) {
    for (*found = false; s->at <= s->n;) {
        ESPL_TRY(regex_search(s, s->at, found));
        if (!*found) return ESPL_OK;
        const size_t *ov = pcre2_get_ovector_pointer(s->match->data);
        s->next_start = (int64_t)ov[0];
        s->next_end = (int64_t)ov[1];
        if (s->next_end > s->next_start || s->last_match != s->next_end) {
            s->at = s->last_match = s->next_end;
            return ESPL_OK;
        }
        *found = false;
        int n = 1;
        if (s->at < s->n) espl_tok_decode_char(s->p + s->at, &n);
        s->at += n;
    }
    return ESPL_OK;
}

static bool find_literal(espl_spans *s) {
    const char *hit = memmem(s->p + s->at, (size_t)(s->n - s->at), s->m->literal.p, (size_t)s->m->literal.n);
    if (!hit) return false;
    s->next_start = hit - s->p;
    s->next_end = s->at = s->next_start + s->m->literal.n;
    return true;
}

static bool find_class(espl_spans *s) {
    int n;
    for (; s->at < s->n; s->at += n) {
        if (!espl_tok_char_is(s->m->cls, espl_tok_decode_char(s->p + s->at, &n))) continue;
        s->next_start = s->at;
        s->next_end = s->at += n;
        return true;
    }
    return false;
}

/* \w+|[^\w\s]+ */
static bool find_words(espl_spans *s) {
    int kind = 0, n;
    for (s->next_start = s->at; s->at < s->n; s->at += n) {
        int32_t c = espl_tok_decode_char(s->p + s->at, &n);
        int k = espl_tok_char_is(ESPL_CHAR_WORD, c) ? 1 : espl_tok_char_is(ESPL_CHAR_SPACE, c) ? 0 : 2;
        if (kind && k != kind) break;
        if (!kind) s->next_start = s->at;
        kind = k;
    }
    s->next_end = s->at;
    return kind != 0;
}

static espl_status find(espl_spans *s, bool *found) {
    switch (s->m->kind) {
    case ESPL_MATCH_REGEX:
        return find_regex(s, found);
    case ESPL_MATCH_LITERAL:
        *found = find_literal(s);
        break;
    case ESPL_MATCH_CLASS:
        *found = find_class(s);
        break;
    case ESPL_MATCH_WORDS:
        *found = find_words(s);
        break;
    }
    return ESPL_OK;
}

espl_status espl_tok_spans_next(espl_spans *s, bool *more, int64_t *start, int64_t *end, bool *is_match) {
    if (!s->pending && s->at <= s->n) {
        ESPL_TRY(find(s, &s->pending));
        if (!s->pending) s->at = s->n + 1;
    }
    *start = s->done;
    if (s->pending && s->next_start == s->done) {
        s->pending = false;
        *end = s->done = s->next_end;
        return *is_match = *more = true, ESPL_OK;
    }
    *end = s->done = s->pending ? s->next_start : s->n;
    *is_match = false;
    *more = *end > *start;
    return ESPL_OK;
}
