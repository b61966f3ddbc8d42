/* The BPE model of tokenizer.json: vocabulary and merges, copied out of the JSON tree into hash tables once. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

/* ------------------------------------------------------------ options */

static espl_status refuse_text(const cJSON *model, const char *key, const espl_where *where) {
    const char *s = NULL;
    ESPL_TRY(espl_json_get_str(model, key, where->text, false, &s));
    if (s && *s) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.%s \"%.64s\" is not supported", where->text, key, s);
    return ESPL_OK;
}

static espl_status parse_options(espl_model *m, const cJSON *model, const espl_where *where) {
    const char *type = "BPE"; /* files of old have no type */
    double dropout = 0;
    ESPL_TRY(espl_json_get_str(model, "type", where->text, false, &type));
    if (strcmp(type, "BPE") != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where->text, type);
    ESPL_TRY(espl_tok_check_keys(model, where,
                                 "type|dropout|unk_token|continuing_subword_prefix|end_of_word_suffix|fuse_unk|"
                                 "byte_fallback|ignore_merges|vocab|merges"));
    ESPL_TRY(espl_json_get_f64(model, "dropout", where->text, false, 0, 1, &dropout));
    if (dropout != 0) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.dropout %g is not supported", where->text, dropout);
    ESPL_TRY(refuse_text(model, "continuing_subword_prefix", where));
    ESPL_TRY(refuse_text(model, "end_of_word_suffix", where));
    ESPL_TRY(espl_json_get_bool(model, "fuse_unk", where->text, false, &m->fuse_unk));
    ESPL_TRY(espl_json_get_bool(model, "byte_fallback", where->text, false, &m->byte_fallback));
    return espl_json_get_bool(model, "ignore_merges", where->text, false, &m->ignore_merges);
}

/* ------------------------------------------------------------ vocabulary */

/* Bytes of all entries, and the highest id. */
static espl_status measure_vocab(const cJSON *vocab, const espl_where *where, int64_t *bytes, int64_t *max_id,
                                 int64_t *count) {
    *bytes = *count = 0;
    *max_id = -1;
    for (const cJSON *i = vocab->child; i; i = i->next) {
        double id = i->valuedouble;
        if (!cJSON_IsNumber(i) || !(id >= 0 && id <= ESPL_TOK_MAX_ID) || id != (double)(int64_t)id)
            return ESPL_FAIL(ESPL_FORMAT, "%s: the id of \"%.64s\" must be an integer from 0 to %d", where->text,
                             i->string, ESPL_TOK_MAX_ID);
        if ((int64_t)id > *max_id) *max_id = (int64_t)id;
        *bytes += (int64_t)strlen(i->string);
        (*count)++;
    }
    return ESPL_OK;
}

/* A key given twice has its last id, as in the library; its earlier id then names no token. */
static espl_status place_tokens(espl_model *m, const cJSON *vocab, const espl_where *where) {
    char *p = m->arena;
    for (const cJSON *i = vocab->child; i; i = i->next) {
        int64_t len = espl_tok_text(i->string, p), id = 0;
        espl_map_get(m->vocab, p, len, &id);
        espl_token *t = &m->tokens[id];
        bool same = t->s && t->s_len == len && memcmp(t->s, p, (size_t)len) == 0;
        if (t->s && !same)
            return ESPL_FAIL(ESPL_FORMAT, "%s: id %lld is given to \"%.64s\" and to \"%.64s\"", where->text,
                             (long long)id, t->s, i->string);
        *t = (espl_token){.s = p, .s_len = (int32_t)len, .raw = p, .raw_len = (int32_t)len};
        if (len > m->longest) m->longest = len;
        p += strlen(i->string) + 1;
    }
    return ESPL_OK;
}

static espl_status parse_vocab(espl_model *m, const cJSON *model, const espl_where *parent) {
    espl_where where = espl_tok_where_key(parent, "vocab");
    const cJSON *vocab = espl_json_member(model, "vocab");
    int64_t bytes, max_id, count;
    if (!cJSON_IsObject(vocab)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where.text);
    ESPL_TRY(measure_vocab(vocab, &where, &bytes, &max_id, &count));
    m->n_ids = max_id + 1;
    ESPL_TRY(espl_mem_alloc(&m->arena, bytes + count, 1, "vocabulary"));
    ESPL_TRY(espl_mem_alloc(&m->tokens, m->n_ids, sizeof *m->tokens, "vocabulary"));
    ESPL_TRY(espl_map_create(&m->vocab, count));
    char *p = m->arena;
    for (const cJSON *i = vocab->child; i; i = i->next) {
        ESPL_TRY(espl_map_put(m->vocab, p, espl_tok_text(i->string, p), (int64_t)i->valuedouble));
        p += strlen(i->string) + 1;
    }
    m->count = espl_map_count(m->vocab);
    return place_tokens(m, vocab, &where);
}

/* ------------------------------------------------------------ merges */

static uint64_t merge_slot(const espl_model *m, uint64_t pair) {
    return (pair * 0x9E3779B97F4A7C15u) >> m->merge_shift;
}

/* The last rank of a pair counts, as in the library. */
static void put_merge(espl_model *m, uint64_t pair, uint32_t rank, uint32_t id) {
    uint64_t i = merge_slot(m, pair);
    while (m->merges[i].pair != ESPL_TOK_NO_PAIR && m->merges[i].pair != pair) i = (i + 1) & m->merge_mask;
    m->merges[i] = (espl_merge){.pair = pair, .rank = rank, .id = id};
}

static espl_status create_merges(espl_model *m, int64_t n) {
    int bits = 4;
    while ((int64_t)1 << bits < n * 2) bits++;
    m->merge_mask = ((uint64_t)1 << bits) - 1;
    m->merge_shift = 64 - bits;
    ESPL_TRY(espl_mem_alloc(&m->merges, (int64_t)1 << bits, sizeof *m->merges, "merges"));
    for (uint64_t i = 0; i <= m->merge_mask; i++) m->merges[i].pair = ESPL_TOK_NO_PAIR;
    return ESPL_OK;
}

static espl_status merge_token(const espl_model *m, const char *s, int64_t n, const espl_where *where, int64_t index,
                               int64_t *id) {
    if (espl_map_get(m->vocab, s, n, id)) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s[%lld] names \"%.*s\", which is not in the vocabulary", where->text,
                     (long long)index, (int)(n < 64 ? n : 64), s);
}

/* The tokens a and b merge into the token spelt like both; `joined` is scratch space. */
static espl_status add_merge(espl_model *m, const char *a, int64_t na, const char *b, int64_t nb, espl_str *joined,
                             const espl_where *where, int64_t index, uint32_t rank) {
    int64_t left, right, id;
    ESPL_TRY(merge_token(m, a, na, where, index, &left));
    ESPL_TRY(merge_token(m, b, nb, where, index, &right));
    joined->len = 0;
    espl_str_put(joined, a, na);
    espl_str_put(joined, b, nb);
    ESPL_TRY(espl_str_status(joined));
    ESPL_TRY(merge_token(m, joined->data, joined->len, where, index, &id));
    put_merge(m, (uint64_t)left << 32 | (uint64_t)right, rank, (uint32_t)id);
    return ESPL_OK;
}

/* "a b" */
static espl_status parse_merge_text(espl_model *m, const char *item, espl_str scratch[2], const espl_where *where,
                                    int64_t index, uint32_t rank) {
    espl_str *text = &scratch[0];
    const char *gap = strchr(item, ' ');
    if (!gap || strchr(gap + 1, ' '))
        return ESPL_FAIL(ESPL_FORMAT, "%s[%lld] must be two tokens with a space between them", where->text,
                         (long long)index);
    text->len = 0;
    espl_str_puts(text, item);
    ESPL_TRY(espl_str_status(text));
    int64_t n = espl_tok_text(item, text->data);
    int64_t na = (const char *)memchr(text->data, ' ', (size_t)n) - text->data;
    return add_merge(m, text->data, na, text->data + na + 1, n - na - 1, &scratch[1], where, index, rank);
}

/* ["a", "b"] */
static espl_status parse_merge_pair(espl_model *m, const cJSON *item, espl_str scratch[2], const espl_where *where,
                                    int64_t index, uint32_t rank) {
    const cJSON *a = item->child, *b = a ? a->next : NULL;
    espl_str *text = &scratch[0];
    if (!cJSON_IsArray(item) || !b || b->next || !cJSON_IsString(a) || !cJSON_IsString(b))
        return ESPL_FAIL(ESPL_FORMAT, "%s[%lld] must be two strings", where->text, (long long)index);
    text->len = 0;
    espl_str_puts(text, a->valuestring);
    espl_str_puts(text, b->valuestring);
    ESPL_TRY(espl_str_status(text));
    int64_t na = espl_tok_text(a->valuestring, text->data);
    int64_t nb = espl_tok_text(b->valuestring, text->data + na);
    return add_merge(m, text->data, na, text->data + na, nb, &scratch[1], where, index, rank);
}

static espl_status parse_merge(espl_model *m, const cJSON *item, espl_str scratch[2], const espl_where *where,
                               int64_t index, uint32_t *rank) {
    if (!cJSON_IsString(item)) return parse_merge_pair(m, item, scratch, where, index, (*rank)++);
    if (strncmp(item->valuestring, "#version", 8) == 0) return ESPL_OK; /* a comment, without a rank */
    return parse_merge_text(m, item->valuestring, scratch, where, index, (*rank)++);
}

static espl_status parse_merges(espl_model *m, const cJSON *model, const espl_where *parent) {
    espl_where where = espl_tok_where_key(parent, "merges");
    const cJSON *merges;
    ESPL_TRY(espl_tok_get_array(model, "merges", parent, true, &merges));
    int64_t n = 0, index = 0;
    uint32_t rank = 0;
    for (const cJSON *i = merges->child; i; i = i->next) n++;
    ESPL_TRY(create_merges(m, n));
    espl_str scratch[2] = {{0}, {0}};
    espl_status st = ESPL_OK;
    for (const cJSON *i = merges->child; i && st == ESPL_OK; i = i->next)
        st = parse_merge(m, i, scratch, &where, index++, &rank);
    espl_str_free(&scratch[0]);
    espl_str_free(&scratch[1]);
    return st;
}

/* ------------------------------------------------------------ what bpe starts from */

static int32_t find_id(const espl_model *m, const char *s, int64_t n) {
    int64_t id = -1;
    return espl_map_get(m->vocab, s, n, &id) ? (int32_t)id : -1;
}

static espl_status index_characters(espl_model *m) {
    char s[8];
    ESPL_TRY(espl_mem_alloc(&m->char_id, 65536, sizeof *m->char_id, "character table"));
    memset(m->char_id, 0xFF, 65536 * sizeof *m->char_id);
    for (int64_t id = 0; id < m->n_ids; id++) {
        const espl_token *t = &m->tokens[id];
        int n;
        if (!t->s || t->s_len == 0) continue;
        int32_t cp = espl_tok_decode_char(t->s, &n);
        if (n == t->s_len && cp < 65536) m->char_id[cp] = (int32_t)id;
    }
    for (int b = 0; b < 256; b++) {
        m->byte_id[b] = find_id(m, s, espl_tok_encode_char(espl_tok_byte_char((uint8_t)b), s));
        snprintf(s, sizeof s, "<0x%02X>", (unsigned)b);
        m->fallback_id[b] = find_id(m, s, 6);
    }
    return ESPL_OK;
}

static espl_status parse_unk(espl_model *m, const cJSON *model, const espl_where *where) {
    const char *unk = NULL;
    espl_bytes text = {0};
    m->unk_id = -1;
    ESPL_TRY(espl_json_get_str(model, "unk_token", where->text, false, &unk));
    if (!unk) return ESPL_OK;
    ESPL_TRY(espl_tok_text_dup(unk, &text));
    m->has_unk = true;
    m->unk_id = find_id(m, text.p, text.n);
    espl_tok_bytes_free(&text);
    return ESPL_OK;
}

espl_status espl_tok_model_parse(espl_model *m, const struct cJSON *model, const char *file) {
    espl_where where = espl_tok_where(file, "model");
    if (!cJSON_IsObject(model)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where.text);
    ESPL_TRY(parse_options(m, model, &where));
    ESPL_TRY(parse_vocab(m, model, &where));
    ESPL_TRY(parse_merges(m, model, &where));
    ESPL_TRY(parse_unk(m, model, &where));
    return index_characters(m);
}

/* ------------------------------------------------------------ raw bytes */

/* Undoes the byte alphabet; false (and nothing written) when a character is not of it. */
static bool to_raw(const espl_token *t, char *dst, int32_t *len) {
    int n;
    *len = 0;
    for (int32_t i = 0; i < t->s_len; i += n) {
        int byte = t->s[i] ? espl_tok_char_byte(espl_tok_decode_char(t->s + i, &n)) : -1;
        if (byte < 0) return false;
        dst[(*len)++] = (char)byte;
    }
    return true;
}

static bool marker_inside(const espl_token *t) {
    const int32_t len = sizeof ESPL_TOK_MARKER - 1;
    int32_t i = 0;
    while (i + len <= t->s_len && memcmp(t->s + i, ESPL_TOK_MARKER, (size_t)len) == 0) i += len;
    return memmem(t->s + i, (size_t)(t->s_len - i), ESPL_TOK_MARKER, (size_t)len) != NULL;
}

/* The marker must be a token itself: an unknown one would fuse with unknown characters before it. */
static bool can_cut_at_marker(const espl_model *m) {
    if (m->byte_mode || m->ignore_merges || m->char_id[0x2581] < 0) return false;
    for (uint64_t i = 0; i <= m->merge_mask; i++)
        if (m->merges[i].pair != ESPL_TOK_NO_PAIR && marker_inside(&m->tokens[m->merges[i].id])) return false;
    return true;
}

espl_status espl_tok_model_finish(espl_model *m, bool byte_mode, bool byte_decoder) {
    m->byte_mode = byte_mode;
    m->cuts_at_marker = can_cut_at_marker(m);
    ESPL_TRY(espl_mem_alloc(&m->whole, m->n_ids, sizeof *m->whole, "vocabulary"));
    if (!byte_mode && !byte_decoder) return ESPL_OK;
    int64_t bytes = 0;
    for (int64_t id = 0; id < m->n_ids; id++) bytes += m->tokens[id].s_len;
    ESPL_TRY(espl_mem_alloc(&m->raw_arena, bytes, 1, "vocabulary"));
    if (byte_mode) ESPL_TRY(espl_map_create(&m->raw_vocab, m->count));
    char *p = m->raw_arena;
    for (int64_t id = 0; id < m->n_ids; id++) {
        espl_token *t = &m->tokens[id];
        int32_t len;
        if (!t->s || !to_raw(t, p, &len)) continue;
        t->raw = p;
        t->raw_len = len;
        if (byte_mode) ESPL_TRY(espl_map_put(m->raw_vocab, p, len, id));
        p += len;
    }
    return ESPL_OK;
}

void espl_tok_model_free(espl_model *m) {
    espl_mem_free(&m->arena);
    espl_mem_free(&m->raw_arena);
    espl_mem_free(&m->tokens);
    espl_mem_free(&m->merges);
    espl_mem_free(&m->char_id);
    espl_mem_free(&m->whole);
    espl_map_destroy(&m->vocab);
    espl_map_destroy(&m->raw_vocab);
}
