/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Normalisers. The Unicode forms come from utf8proc, whose Unicode is newer than that of the library's normaliser: code
 * points that the library does not know pass through as they are. Most texts are in the form already, and are only
 * looked at.
 */
#include "normalizer.h"

#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utf8proc.h>

/* ------------------------------------------------------------ parsing */

/* All types have a row in the table below; PREPEND and REPLACE have members beside "type". */
static espl_status normalizer_add(void *target, const struct cJSON *node, const espl_where *where, int kind) {
    espl_normalizer *z = target;
    if (z->n == ESPL_TOK_MAX_STEPS)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: more than %d normalizers", where->text, ESPL_TOK_MAX_STEPS);
    espl_norm_step *step = &z->steps[z->n++];
    *step = (espl_norm_step){.kind = (espl_norm_kind)kind};
    if (kind == ESPL_NORM_PREPEND) return espl_tok_get_text(node, "prepend", where, &step->content);
    if (kind != ESPL_NORM_REPLACE) return ESPL_OK;
    ESPL_TRY(espl_tok_get_text(node, "content", where, &step->content));
    return espl_matcher_parse(&step->pattern, node, where);
}

espl_status espl_normalizer_parse(espl_normalizer *z, const struct cJSON *node, const char *file) {
    static const espl_component known[] = {
        {"NFC", "type", normalizer_add, ESPL_NORM_NFC},
        {"NFD", "type", normalizer_add, ESPL_NORM_NFD},
        {"NFKC", "type", normalizer_add, ESPL_NORM_NFKC},
        {"NFKD", "type", normalizer_add, ESPL_NORM_NFKD},
        {"Lowercase", "type", normalizer_add, ESPL_NORM_LOWERCASE},
        {"Prepend", "type|prepend", normalizer_add, ESPL_NORM_PREPEND},
        {"Replace", "type|pattern|content", normalizer_add, ESPL_NORM_REPLACE},
    };
    static const espl_component_place place = {"normalizer", "normalizers", known, sizeof known / sizeof *known};
    return espl_tok_components_parse(&place, z, node, file);
}

void espl_normalizer_free(espl_normalizer *z) {
    for (int64_t i = 0; i < z->n; i++) {
        espl_matcher_free(&z->steps[i].pattern);
        espl_tok_bytes_free(&z->steps[i].content);
    }
}

/* ------------------------------------------------------------ Unicode forms */

/* True when the form leaves c alone whatever precedes it. False says nothing. */
static bool form_keeps(espl_norm_kind kind, int32_t c) {
    if (kind == ESPL_NORM_NFC) return espl_tok_nfc_keeps(c);
    /* Below: the first code point with a decomposition, canonical or compatible; and the ideographs, which have none.
     */
    return c < (kind == ESPL_NORM_NFD ? 0xC0 : 0xA0) || (c >= 0x4E00 && c <= 0x9FFF);
}

/* Appends p[0..n) in the form. UTF8PROC_STABLE: Unicode's stability policy for normalisation is kept. */
static espl_status form_put(espl_norm_kind kind, const char *p, int64_t n, espl_str *out) {
    bool compose = kind == ESPL_NORM_NFC || kind == ESPL_NORM_NFKC;
    bool compat = kind == ESPL_NORM_NFKC || kind == ESPL_NORM_NFKD;
    int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compat ? UTF8PROC_COMPAT : 0);
    utf8proc_uint8_t *text = NULL;
    if (n == 0) return ESPL_OK;
    utf8proc_ssize_t len = utf8proc_map((const utf8proc_uint8_t *)p, n, &text, (utf8proc_option_t)options);
    if (len < 0) return ESPL_FAIL(ESPL_NOMEM, "normalising a text of %" PRId64 " bytes: %s", n, utf8proc_errmsg(len));
    espl_str_put(out, text, len);
    free(text);
    return ESPL_OK;
}

/* An ASCII character never joins what precedes it, so the text is cut into stretches: the ASCII before, which is
 * copied, and the last ASCII character with all others that follow it. A stretch whose characters all stay as they are
 * is copied too; only the rest goes to utf8proc. */
static espl_status form_apply(espl_norm_kind kind, const espl_piece *in, espl_str *out) {
    const char *p = in->p;
    int len;
    for (int64_t i = 0, end; i < in->n; i = end) {
        end = i + 1;
        while (end < in->n && (unsigned char)p[end] < 0x80) end++;
        int64_t from = end < in->n && end > i + 1 ? end - 1 : i;
        bool same = true;
        if (end < in->n || (unsigned char)p[i] >= 0x80)
            for (end = from; end < in->n && (end == from || (unsigned char)p[end] >= 0x80); end += len)
                same &= form_keeps(kind, espl_tok_decode_char(p + end, &len));
        espl_str_put(out, p + i, from - i);
        if (same) {
            espl_str_put(out, p + from, end - from);
            continue;
        }
        /* Between code points that the library does not know, which are copied, the form is made piece by piece. */
        for (int64_t k = from; k < end; k += len) {
            if (!espl_tok_is_norm_inert(espl_tok_decode_char(p + k, &len))) continue;
            ESPL_TRY(form_put(kind, p + from, k - from, out));
            espl_str_put(out, p + k, len);
            from = k + len;
        }
        ESPL_TRY(form_put(kind, p + from, end - from, out));
    }
    return ESPL_OK;
}

/* True when the whole text is in the form already. Most texts are, and are then not copied. */
static bool form_keeps_all(espl_norm_kind kind, const espl_piece *in) {
    int len;
    for (int64_t i = 0; i < in->n; i += len) {
        if (i + 8 <= in->n && espl_tok_is_ascii8(in->p + i))
            len = 8;
        else if (!form_keeps(kind, espl_tok_decode_char(in->p + i, &len)))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------ steps */

/* Appends the piece as the step leaves it to *out. */
static espl_status step_apply(const espl_norm_step *step, const espl_match_state *match, int64_t limit,
                              espl_piece *piece, espl_str *out) {
    int len;
    int64_t head;
    switch (step->kind) {
    case ESPL_NORM_REPLACE:
        ESPL_TRY(espl_matcher_replace(&step->pattern, match, piece->p, piece->n, &step->content, limit, out, &head));
        /* What now comes first stood further right in the text, unless one character was replaced. */
        if (head > 0 && (step->content.n == 0 || espl_tok_last_char(piece->p, head) > 0)) piece->first = false;
        break;
    case ESPL_NORM_PREPEND:
        espl_str_put(out, step->content.p, step->content.n);
        espl_str_put(out, piece->p, piece->n);
        break;
    case ESPL_NORM_LOWERCASE:
        for (int64_t i = 0; i < piece->n; i += len) {
            int32_t lower[2];
            int n = espl_tok_lower(espl_tok_decode_char(piece->p + i, &len), lower);
            for (int k = 0; k < n; k++) {
                char c[4];
                espl_str_put(out, c, espl_tok_encode_char(lower[k], c));
            }
        }
        break;
    default:
        ESPL_TRY(form_apply(step->kind, piece, out));
    }
    if (out->len > limit) return espl_tok_refuse_growth();
    return espl_str_status(out);
}

/* Two buffers are enough: each step reads the one that the step before it has written. */
espl_status espl_normalizer_apply(const espl_normalizer *z, const espl_match_state *match, espl_str buffers[2],
                                  espl_piece *piece) {
    int64_t limit = espl_tok_growth_limit(piece->n); /* of all steps together: each could double what is there */
    int turn = 0;                                    /* the buffer that *piece is not a view of */
    for (int64_t i = 0; i < z->n && piece->n > 0; i++) {
        const espl_norm_step *step = &z->steps[i];
        if (step->kind <= ESPL_NORM_NFKD && form_keeps_all(step->kind, piece)) continue;
        espl_str *out = &buffers[turn];
        turn = !turn;
        out->len = 0;
        espl_str_put(out, "", 0); /* never NULL, even for an empty result */
        ESPL_TRY(step_apply(step, match, limit, piece, out));
        piece->p = out->data;
        piece->n = out->len;
    }
    return ESPL_OK;
}
