/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the BPE model: vocabulary and merges are copied out of the JSON tree once, into one arena and hash tables. A
 * vocabulary has 10,000s to 100,000s of entries and as many merges, so nothing here may take quadratic time or an
 * allocation for each.
 */
#include "bpe.h"

#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bytes, not characters: an entry may hold NUL. */
int32_t espl_bpe_model_find(const espl_bpe_model *m, const char *s, int64_t n) {
    int64_t id = -1;
    return espl_map_get(m->vocab, s, n, &id) ? (int32_t)id : -1;
}

/* ------------------------------------------------------------ parsing */

/* Everything but vocabulary, merges and unk_token. Options that would change ids and are not implemented must have the
 * value that switches them off. */
static espl_status bpe_parse_options(espl_bpe_model *m, const cJSON *model) {
    static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = "BPE", *where = m->where.text; /* files of old have no type */
    double dropout = 0;
    ESPL_TRY(espl_json_get_str(model, "type", where, false, &type));
    if (strcmp(type, "BPE") != 0) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where, type);
    ESPL_TRY(espl_tok_check_keys(model, &m->where,
                                 "type|dropout|unk_token|continuing_subword_prefix|end_of_word_suffix|fuse_unk|"
                                 "byte_fallback|ignore_merges|vocab|merges"));
    ESPL_TRY(espl_json_get_f64(model, "dropout", where, false, 0, 1, &dropout));
    if (dropout != 0) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.dropout %g is not supported", where, dropout);
    for (size_t i = 0; i < sizeof must_be_empty / sizeof *must_be_empty; i++) {
        const char *text = "";
        ESPL_TRY(espl_json_get_str(model, must_be_empty[i], where, false, &text));
        if (*text)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.%s \"%.64s\" is not supported", where, must_be_empty[i], text);
    }
    ESPL_TRY(espl_json_get_bool(model, "fuse_unk", where, false, &m->fuse_unk));
    ESPL_TRY(espl_json_get_bool(model, "byte_fallback", where, false, &m->byte_fallback));
    return espl_json_get_bool(model, "ignore_merges", where, false, &m->ignore_merges);
}

/* {"a": 0, "b": 1, ...} into an arena of strings, a table by id and a map by string. Ids may have holes. */
static espl_status bpe_parse_vocab(espl_bpe_model *m, const cJSON *model) {
    espl_where where = espl_tok_where(m->where.text, ".", "vocab");
    const cJSON *vocab = espl_json_member(model, "vocab");
    if (!cJSON_IsObject(vocab)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where.text);
    int64_t bytes = 0, count = 0, id;
    for (const cJSON *i = vocab->child; i; i = i->next) {
        if (!espl_tok_get_id(i, &id))
            return ESPL_FAIL(ESPL_FORMAT, "%s: the id of \"%.64s\" must be an integer from 0 to %d", where.text,
                             i->string, ESPL_TOK_MAX_ID);
        m->n_ids = espl_max_i64(m->n_ids, id + 1);
        bytes += (int64_t)strlen(i->string) + 1;
        count++;
    }
    /* n_ids is at most ESPL_TOK_MAX_ID + 1, however few entries there are: 64 MiB. */
    ESPL_TRY(espl_mem_alloc(&m->arena, bytes, 1, "vocabulary"));
    ESPL_TRY(espl_mem_alloc(&m->tokens, m->n_ids, sizeof *m->tokens, "vocabulary"));
    ESPL_TRY(espl_map_create(&m->vocab, count));

    /* A key given twice has its last id, as in the library; its earlier id then names no token. So all keys go into the
     * map first. Both passes copy the same bytes to the same places. */
    char *p = m->arena;
    for (const cJSON *i = vocab->child; i; i = i->next) {
        ESPL_TRY(espl_map_put(m->vocab, p, espl_tok_text(i->string, p), (int64_t)i->valuedouble));
        p += strlen(i->string) + 1;
    }
    m->count = espl_map_count(m->vocab);
    p = m->arena;
    for (const cJSON *i = vocab->child; i; i = i->next) {
        int64_t len = espl_tok_text(i->string, p);
        id = espl_bpe_model_find(m, p, len);
        espl_bpe_token *t = &m->tokens[id];
        if (t->s && (t->n != len || memcmp(t->s, p, (size_t)len) != 0))
            return ESPL_FAIL(ESPL_FORMAT, "%s: id %" PRId64 " is given to \"%.64s\" and to \"%.64s\"", where.text, id,
                             t->s, i->string);
        *t = (espl_bpe_token){.s = p, .n = (int32_t)len};
        m->max_bytes = espl_max_i64(m->max_bytes, len);
        p += strlen(i->string) + 1;
    }
    return ESPL_OK;
}

/* Adds merges[index]: tokens a[0..na) and a[na..n) become the token spelt a[0..n). The last rank of a pair counts, as
 * in the library. */
static espl_status bpe_add_merge(espl_bpe_model *m, const char *a, int64_t na, int64_t n, int64_t index,
                                 uint32_t rank) {
    /* Left, right and both together, which is also the order of the messages. */
    const struct {
        const char *s;
        int64_t n;
    } parts[3] = {{a, na}, {a + na, n - na}, {a, n}};
    int32_t id[3];
    for (int k = 0; k < 3; k++) {
        id[k] = espl_bpe_model_find(m, parts[k].s, parts[k].n);
        if (id[k] < 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s.merges[%" PRId64 "] names \"%.*s\", which is not in the vocabulary",
                             m->where.text, index, (int)espl_min_i64(parts[k].n, 64), parts[k].s);
    }
    uint64_t pair = (uint64_t)id[0] << 32 | (uint64_t)id[1], slot = espl_bpe_merge_slot(m, pair);
    while (m->merges[slot].pair != ESPL_BPE_NO_PAIR && m->merges[slot].pair != pair) slot = (slot + 1) & m->merge_mask;
    m->merges[slot] = (espl_bpe_merge){.pair = pair, .rank = rank, .id = (uint32_t)id[2]};
    return ESPL_OK;
}

/* merges[index] is "a b" or ["a", "b"]: *text becomes ab, *na the length of a. Newer files have pairs, because tokens
 * of the first form cannot hold a space. */
static espl_status bpe_read_merge(const espl_bpe_model *m, const cJSON *item, int64_t index, espl_str *text,
                                  int64_t *na) {
    const char *both = cJSON_GetStringValue(item);
    text->len = 0;
    if (both) {
        const char *gap = strchr(both, ' ');
        if (!gap || strchr(gap + 1, ' '))
            return ESPL_FAIL(ESPL_FORMAT, "%s.merges[%" PRId64 "] must be two tokens with a space between them",
                             m->where.text, index);
        espl_str_puts(text, both); /* for its room: NUL escapes are still to be undone */
        ESPL_TRY(espl_str_status(text));
        int64_t n = espl_tok_text(both, text->data);
        *na = (const char *)memchr(text->data, ' ', (size_t)n) - text->data;
        memmove(text->data + *na, text->data + *na + 1, (size_t)(n - *na - 1));
        text->len = n - 1;
        return ESPL_OK;
    }
    const cJSON *a = item->child, *b = a ? a->next : NULL;
    if (!cJSON_IsArray(item) || !b || b->next || !cJSON_IsString(a) || !cJSON_IsString(b))
        return ESPL_FAIL(ESPL_FORMAT, "%s.merges[%" PRId64 "] must be two strings", m->where.text, index);
    espl_str_puts(text, a->valuestring);
    espl_str_puts(text, b->valuestring);
    ESPL_TRY(espl_str_status(text));
    *na = espl_tok_text(a->valuestring, text->data);
    text->len = *na + espl_tok_text(b->valuestring, text->data + *na);
    return ESPL_OK;
}

/* Into a hash table from pairs of ids. The order in the file is the rank. */
static espl_status bpe_parse_merges(espl_bpe_model *m, const cJSON *model) {
    espl_str text = {0};
    const cJSON *merges;
    int64_t n = 0, na, index = 0;
    uint32_t rank = 0;
    int bits = 4;
    espl_status st;
    ESPL_CHECK(st, done, espl_tok_get_array(model, "merges", &m->where, &merges));
    for (const cJSON *i = merges->child; i; i = i->next) n++;
    while ((int64_t)1 << bits < n * 2) bits++; /* at most half full, so that searches stay short */
    m->merge_mask = ((uint64_t)1 << bits) - 1;
    m->merge_shift = 64 - bits;
    ESPL_CHECK(st, done, espl_mem_alloc(&m->merges, (int64_t)1 << bits, sizeof *m->merges, "merges"));
    for (uint64_t i = 0; i <= m->merge_mask; i++) m->merges[i].pair = ESPL_BPE_NO_PAIR;
    for (const cJSON *i = merges->child; i; i = i->next, index++) {
        if (cJSON_IsString(i) && strncmp(i->valuestring, "#version", 8) == 0) continue; /* a comment, without a rank */
        ESPL_CHECK(st, done, bpe_read_merge(m, i, index, &text, &na));
        ESPL_CHECK(st, done, bpe_add_merge(m, text.data, na, text.len, index, rank++));
    }
done:
    espl_str_free(&text);
    return st;
}

/* The vocabulary first: merges and unk_token name its entries. */
espl_status espl_bpe_model_parse(espl_bpe_model *m, const struct cJSON *model, const char *file) {
    const char *unk = NULL;
    m->where = espl_tok_where(file, ": ", "model");
    m->unk_id = -1;
    if (!cJSON_IsObject(model)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", m->where.text);
    ESPL_TRY(bpe_parse_options(m, model));
    ESPL_TRY(bpe_parse_vocab(m, model));
    ESPL_TRY(bpe_parse_merges(m, model));

    ESPL_TRY(espl_json_get_str(model, "unk_token", m->where.text, false, &unk));
    if (unk) {
        espl_bytes text = {0};
        ESPL_TRY(espl_tok_text_dup(unk, &text));
        m->has_unk = true; /* a name without an entry is an error only once a text needs it */
        m->unk_id = espl_bpe_model_find(m, text.p, text.n);
        espl_tok_bytes_free(&text);
    }

    /* What encoding starts from: ids by character and by byte, without a look in the map for each. */
    ESPL_TRY(espl_mem_alloc(&m->char_id, ESPL_BPE_CHARS, sizeof *m->char_id, "character table"));
    memset(m->char_id, 0xFF, ESPL_BPE_CHARS * sizeof *m->char_id); /* -1 */
    for (int64_t id = 0; id < m->n_ids; id++) {
        const espl_bpe_token *t = &m->tokens[id];
        int n;
        if (!t->s || t->n == 0) continue;
        int32_t cp = espl_tok_decode_char(t->s, &n);
        if (n == t->n && cp < ESPL_BPE_CHARS) m->char_id[cp] = (int32_t)id;
    }
    for (int b = 0; b < 256; b++) {
        char s[8];
        m->byte_id[b] = espl_bpe_model_find(m, s, espl_tok_encode_char(espl_tok_byte_to_char((uint8_t)b), s));
        snprintf(s, sizeof s, "<0x%02X>", (unsigned)b);
        m->fallback_id[b] = espl_bpe_model_find(m, s, 6);
    }
    return ESPL_OK;
}

/* ------------------------------------------------------------ what depends on the other components */

/* The marker must be a token itself: an unknown one would fuse with unknown characters before it. And byte mode and
 * ignore_merges look at whole words. */
static bool bpe_can_cut_at_marker(const espl_bpe_model *m) {
    const size_t len = sizeof ESPL_BPE_MARKER - 1;
    if (m->byte_mode || m->ignore_merges || espl_bpe_model_find(m, ESPL_BPE_MARKER, (int64_t)len) < 0) return false;
    for (uint64_t i = 0; i <= m->merge_mask; i++) {
        if (m->merges[i].pair == ESPL_BPE_NO_PAIR) continue;
        const espl_bpe_token *t = &m->tokens[m->merges[i].id];
        int64_t head = espl_bpe_markers(t->s, t->n);
        if (memmem(t->s + head, (size_t)(t->n - head), ESPL_BPE_MARKER, len)) return false;
    }
    return true;
}

/* An entry spells bytes in the alphabet; two entries never spell the same bytes, so raw_vocab is as exact as vocab. */
espl_status espl_bpe_model_finish(espl_bpe_model *m, bool byte_mode) {
    int64_t bytes = 0;
    m->byte_mode = byte_mode;
    m->cuts_at_marker = bpe_can_cut_at_marker(m); /* needs byte_mode */
    ESPL_TRY(espl_mem_alloc(&m->whole, m->n_ids, sizeof *m->whole, "vocabulary"));
    if (!byte_mode) return ESPL_OK;
    for (int64_t id = 0; id < m->n_ids; id++) bytes += m->tokens[id].n;
    ESPL_TRY(espl_mem_alloc(&m->raw_arena, bytes, 1, "vocabulary"));
    ESPL_TRY(espl_map_create(&m->raw_vocab, m->count));
    char *p = m->raw_arena;
    for (int64_t id = 0; id < m->n_ids; id++) {
        const espl_bpe_token *t = &m->tokens[id];
        int64_t len = t->s ? espl_tok_undo_byte_chars(t->s, t->n, p) : -1;
        if (len < 0) continue; /* no word of raw bytes can be this entry */
        ESPL_TRY(espl_map_put(m->raw_vocab, p, len, id));
        p += len;
    }
    return ESPL_OK;
}

void espl_bpe_model_free(espl_bpe_model *m) {
    espl_mem_free(&m->arena);
    espl_mem_free(&m->raw_arena);
    espl_mem_free(&m->tokens);
    espl_mem_free(&m->merges);
    espl_mem_free(&m->char_id);
    espl_mem_free(&m->whole);
    espl_map_destroy(&m->vocab);
    espl_map_destroy(&m->raw_vocab);
}
