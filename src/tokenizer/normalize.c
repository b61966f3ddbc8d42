/* Normalisers: a tree of sequences in the file, one flat list of steps here. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ------------------------------------------------------------ parsing */

static espl_status new_step(espl_tokenizer *t, const espl_where *where, espl_norm_kind kind, espl_norm_step **out) {
    if (t->n_norm == ESPL_TOK_MAX_STEPS)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: more than %d normalizers", where->text, ESPL_TOK_MAX_STEPS);
    *out = &t->norm[t->n_norm++];
    **out = (espl_norm_step){.kind = kind};
    return ESPL_OK;
}

static espl_status parse_plain(espl_tokenizer *t, const cJSON *node, const espl_where *where, espl_norm_kind kind) {
    espl_norm_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type"));
    return new_step(t, where, kind, &step);
}

static espl_status parse_prepend(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_norm_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|prepend"));
    ESPL_TRY(new_step(t, where, ESPL_NORM_PREPEND, &step));
    return espl_tok_get_text(node, "prepend", where, &step->content);
}

static espl_status parse_replace(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_norm_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|pattern|content"));
    ESPL_TRY(new_step(t, where, ESPL_NORM_REPLACE, &step));
    ESPL_TRY(espl_tok_get_text(node, "content", where, &step->content));
    return espl_tok_matcher_parse(&step->pattern, espl_json_member(node, "pattern"), where);
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth);

static espl_status parse_sequence(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const cJSON *items;
    int64_t index = 0;
    if (depth == ESPL_TOK_MAX_NESTING) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: nested too deep", where->text);
    ESPL_TRY(espl_tok_check_keys(node, where, "type|normalizers"));
    ESPL_TRY(espl_tok_get_array(node, "normalizers", where, true, &items));
    for (const cJSON *i = items->child; i; i = i->next) {
        espl_where w = espl_tok_where_item(where, index++);
        ESPL_TRY(parse_node(t, i, &w, depth + 1));
    }
    return ESPL_OK;
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const char *type = NULL;
    if (!cJSON_IsObject(node)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where->text);
    ESPL_TRY(espl_json_get_str(node, "type", where->text, true, &type));
    if (strcmp(type, "Sequence") == 0) return parse_sequence(t, node, where, depth);
    if (strcmp(type, "Prepend") == 0) return parse_prepend(t, node, where);
    if (strcmp(type, "Replace") == 0) return parse_replace(t, node, where);
    if (strcmp(type, "Lowercase") == 0) return parse_plain(t, node, where, ESPL_NORM_LOWERCASE);
    if (strcmp(type, "NFC") == 0) return parse_plain(t, node, where, ESPL_NORM_NFC);
    if (strcmp(type, "NFD") == 0) return parse_plain(t, node, where, ESPL_NORM_NFD);
    if (strcmp(type, "NFKC") == 0) return parse_plain(t, node, where, ESPL_NORM_NFKC);
    if (strcmp(type, "NFKD") == 0) return parse_plain(t, node, where, ESPL_NORM_NFKD);
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where->text, type);
}

espl_status espl_tok_norm_parse(espl_tokenizer *t, const struct cJSON *node, const char *file) {
    espl_where where = espl_tok_where(file, "normalizer");
    return node ? parse_node(t, node, &where, 0) : ESPL_OK;
}

void espl_tok_norm_free(espl_tokenizer *t) {
    for (int64_t i = 0; i < t->n_norm; i++) {
        espl_tok_matcher_free(&t->norm[i].pattern);
        espl_tok_bytes_free(&t->norm[i].content);
    }
}

/* ------------------------------------------------------------ Unicode forms */

/* Common code points that NFC leaves alone unless something outside these ranges follows: starters in composed form
 * that never join what precedes them. What is missing here only costs time. */
static const struct {
    int32_t lo, hi;
} nfc_keeps[] = {
    {0x0, 0x2FF},     {0x388, 0x482},   {0x48A, 0x52F},   {0x5D0, 0x5EA},   {0x620, 0x64A},     {0x2002, 0x20CF},
    {0x2190, 0x2328}, {0x232B, 0x2ADB}, {0x3000, 0x3029}, {0x3041, 0x3096}, {0x309D, 0x30FF},   {0x4E00, 0x9FFF},
    {0xAC00, 0xD7A3}, {0xFE00, 0xFE0F}, {0xFF00, 0xFFEE}, {0xFFF9, 0xFFFF}, {0x1F000, 0x1FAFF},
};

static bool keeps(espl_norm_kind kind, int32_t c) {
    if (kind == ESPL_NORM_NFD) return c < 0xC0 || (c >= 0x4E00 && c <= 0x9FFF);
    if (kind != ESPL_NORM_NFC) return c < 0xA0 || (c >= 0x4E00 && c <= 0x9FFF);
    for (size_t i = 0; i < sizeof nfc_keeps / sizeof *nfc_keeps && c >= nfc_keeps[i].lo; i++)
        if (c <= nfc_keeps[i].hi) return true;
    return false;
}

static int utf8proc_options(espl_norm_kind kind) {
    bool compose = kind == ESPL_NORM_NFC || kind == ESPL_NORM_NFKC;
    bool compat = kind == ESPL_NORM_NFKC || kind == ESPL_NORM_NFKD;
    return UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compat ? UTF8PROC_COMPAT : 0);
}

static espl_status put_form(espl_norm_kind kind, const char *p, int64_t n, espl_str *out) {
    utf8proc_uint8_t *text = NULL;
    if (n == 0) return ESPL_OK;
    utf8proc_ssize_t len =
        utf8proc_map((const utf8proc_uint8_t *)p, n, &text, (utf8proc_option_t)utf8proc_options(kind));
    if (len < 0)
        return ESPL_FAIL(ESPL_NOMEM, "normalising a text of %lld bytes: %s", (long long)n, utf8proc_errmsg(len));
    espl_str_put(out, text, len);
    free(text);
    return ESPL_OK;
}

/* A stretch between two starters: code points that the library's older Unicode does not know pass through as such. */
static espl_status put_stretch(espl_norm_kind kind, const char *p, int64_t n, espl_str *out) {
    int64_t from = 0;
    int len;
    for (int64_t i = 0; i < n; i += len) {
        int32_t c = espl_tok_decode_char(p + i, &len);
        if (!espl_tok_norm_inert(c)) continue;
        ESPL_TRY(put_form(kind, p + from, i - from, out));
        espl_str_put(out, p + i, len);
        from = i + len;
    }
    return put_form(kind, p + from, n - from, out);
}

/* An ASCII character never joins what precedes it, so the text is cut before each; a stretch of characters that all
 * stay as they are is copied, and only the others go to utf8proc. */
static espl_status unicode_form(espl_norm_kind kind, const espl_piece *in, espl_str *out) {
    const char *p = in->p;
    for (int64_t i = 0, end; i < in->n; i = end) {
        bool same = true;
        int len;
        end = i + 1;
        while (end < in->n && (unsigned char)p[end] < 0x80) end++;
        int64_t ascii = end < in->n && end > i + 1 ? end - 1 : i; /* the last one goes with what follows */
        if (end < in->n || (unsigned char)p[i] >= 0x80)
            for (end = ascii; end < in->n && (end == ascii || (unsigned char)p[end] >= 0x80); end += len)
                same &= keeps(kind, espl_tok_decode_char(p + end, &len));
        espl_str_put(out, p + i, ascii - i);
        if (same)
            espl_str_put(out, p + ascii, end - ascii);
        else
            ESPL_TRY(put_stretch(kind, p + ascii, end - ascii, out));
    }
    return ESPL_OK;
}

static bool all_keep(espl_norm_kind kind, const espl_piece *in) {
    int len;
    for (int64_t i = 0; i < in->n; i += len) {
        uint64_t eight;
        if (i + 8 <= in->n && (memcpy(&eight, in->p + i, 8), (eight & 0x8080808080808080u) == 0))
            len = 8;
        else if (!keeps(kind, espl_tok_decode_char(in->p + i, &len)))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------ the other steps */

static void lowercase(const espl_piece *in, espl_str *out) {
    int len;
    for (int64_t i = 0; i < in->n; i += len) {
        int32_t lower[2];
        int n = espl_tok_lower(espl_tok_decode_char(in->p + i, &len), lower);
        for (int k = 0; k < n; k++) {
            char c[4];
            espl_str_put(out, c, espl_tok_encode_char(lower[k], c));
        }
    }
}

static void prepend(const espl_norm_step *step, const espl_piece *in, espl_str *out) {
    espl_str_put(out, step->content.p, step->content.n);
    espl_str_put(out, in->p, in->n);
}

static espl_status replace(espl_work *w, const espl_norm_step *step, espl_piece *in, espl_str *out) {
    espl_spans s;
    bool more, match;
    int64_t from, to;
    espl_status st = espl_tok_spans_open(&s, &step->pattern, in->p, in->n, &w->match);
    while (st == ESPL_OK && (st = espl_tok_spans_next(&s, &more, &from, &to, &match)) == ESPL_OK && more) {
        const char *p = match ? step->content.p : in->p + from;
        espl_str_put(out, p, match ? step->content.n : to - from);
        /* What now comes first stood further right in the text, unless one character was replaced. */
        if (match && from == 0 && to > 0 && (step->content.n == 0 || espl_tok_last_char(in->p, to) > 0))
            in->first = false;
    }
    espl_tok_spans_close(&s);
    return st;
}

static espl_status run_step(espl_work *w, const espl_norm_step *step, espl_piece *in, espl_str *out) {
    out->len = 0;
    espl_str_put(out, "", 0);
    switch (step->kind) {
    case ESPL_NORM_REPLACE:
        ESPL_TRY(replace(w, step, in, out));
        break;
    case ESPL_NORM_PREPEND:
        prepend(step, in, out);
        break;
    case ESPL_NORM_LOWERCASE:
        lowercase(in, out);
        break;
    case ESPL_NORM_NFC:
    case ESPL_NORM_NFD:
    case ESPL_NORM_NFKC:
    case ESPL_NORM_NFKD:
        ESPL_TRY(unicode_form(step->kind, in, out));
        break;
    }
    return espl_str_status(out);
}

espl_status espl_tok_normalize(espl_work *w, espl_piece *piece) {
    const espl_tokenizer *t = w->t;
    int turn = 0;
    for (int64_t i = 0; i < t->n_norm && piece->n > 0; i++) {
        const espl_norm_step *step = &t->norm[i];
        if (step->kind <= ESPL_NORM_NFKD && all_keep(step->kind, piece)) continue;
        espl_str *out = &w->norm[turn];
        turn = !turn;
        ESPL_TRY(run_step(w, step, piece, out));
        piece->p = out->data;
        piece->n = out->len;
    }
    return ESPL_OK;
}
