/* Decoders: each maps a list of strings to a list of strings; the result is their concatenation. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

/* ------------------------------------------------------------ parsing */

static espl_status new_step(espl_tokenizer *t, const espl_where *where, espl_dec_kind kind, espl_dec_step **out) {
    if (t->n_dec == ESPL_TOK_MAX_STEPS)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: more than %d decoders", where->text, ESPL_TOK_MAX_STEPS);
    *out = &t->dec[t->n_dec++];
    **out = (espl_dec_step){.kind = kind};
    return ESPL_OK;
}

static espl_status parse_plain(espl_tokenizer *t, const cJSON *node, const espl_where *where, espl_dec_kind kind) {
    espl_dec_step *step = NULL;
    /* ByteLevel's options are for its life as a pre-tokenizer */
    ESPL_TRY(espl_tok_check_keys(node, where,
                                 kind == ESPL_DEC_BYTES ? "type|add_prefix_space|trim_offsets|use_regex" : "type"));
    return new_step(t, where, kind, &step);
}

static espl_status one_character(const espl_bytes *b, const char *key, const espl_where *where) {
    int n;
    if (b->n > 0 && (espl_tok_decode_char(b->p, &n), n == b->n)) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s.%s must be one character", where->text, key);
}

static espl_status parse_replace(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_dec_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|pattern|content"));
    ESPL_TRY(new_step(t, where, ESPL_DEC_REPLACE, &step));
    ESPL_TRY(espl_tok_get_text(node, "content", where, &step->content));
    return espl_tok_matcher_parse(&step->pattern, espl_json_member(node, "pattern"), where);
}

static espl_status parse_strip(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_dec_step *step = NULL;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|content|start|stop"));
    ESPL_TRY(new_step(t, where, ESPL_DEC_STRIP, &step));
    ESPL_TRY(espl_tok_get_text(node, "content", where, &step->content));
    ESPL_TRY(espl_json_get_i64(node, "start", where->text, true, 0, INT32_MAX, &step->start));
    ESPL_TRY(espl_json_get_i64(node, "stop", where->text, true, 0, INT32_MAX, &step->stop));
    return one_character(&step->content, "content", where);
}

static espl_status parse_metaspace(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_dec_step *step = NULL;
    const char *scheme = NULL;
    bool prefix = true;
    ESPL_TRY(espl_tok_check_keys(node, where, "type|replacement|add_prefix_space|prepend_scheme|split|str_rep"));
    ESPL_TRY(new_step(t, where, ESPL_DEC_METASPACE, &step));
    ESPL_TRY(espl_tok_get_text(node, "replacement", where, &step->content));
    ESPL_TRY(espl_json_get_str(node, "prepend_scheme", where->text, false, &scheme));
    ESPL_TRY(espl_json_get_bool(node, "add_prefix_space", where->text, false, &prefix));
    step->drop_first = scheme ? strcmp(scheme, "never") != 0 : prefix;
    return one_character(&step->content, "replacement", where);
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth);

static espl_status parse_sequence(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const cJSON *items;
    int64_t index = 0;
    if (depth == ESPL_TOK_MAX_NESTING) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: nested too deep", where->text);
    ESPL_TRY(espl_tok_check_keys(node, where, "type|decoders"));
    ESPL_TRY(espl_tok_get_array(node, "decoders", where, true, &items));
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
    if (strcmp(type, "ByteLevel") == 0) return parse_plain(t, node, where, ESPL_DEC_BYTES);
    if (strcmp(type, "ByteFallback") == 0) return parse_plain(t, node, where, ESPL_DEC_BYTE_FALLBACK);
    if (strcmp(type, "Fuse") == 0) return parse_plain(t, node, where, ESPL_DEC_FUSE);
    if (strcmp(type, "Replace") == 0) return parse_replace(t, node, where);
    if (strcmp(type, "Strip") == 0) return parse_strip(t, node, where);
    if (strcmp(type, "Metaspace") == 0) return parse_metaspace(t, node, where);
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where->text, type);
}

espl_status espl_tok_dec_parse(espl_tokenizer *t, const struct cJSON *node, const char *file) {
    espl_where where = espl_tok_where(file, "decoder");
    t->has_decoder = node != NULL;
    return node ? parse_node(t, node, &where, 0) : ESPL_OK;
}

void espl_tok_dec_free(espl_tokenizer *t) {
    for (int64_t i = 0; i < t->n_dec; i++) {
        espl_tok_matcher_free(&t->dec[i].pattern);
        espl_tok_bytes_free(&t->dec[i].content);
    }
}

/* ------------------------------------------------------------ lists of strings */

typedef struct strings {
    espl_str text;
    int64_t *end; /* [n] where each string ends in text */
    int64_t n, cap;
} strings;

static void strings_free(strings *s) {
    espl_str_free(&s->text);
    espl_mem_free(&s->end);
}

/* Ends the string that has been appended to s->text. */
static espl_status close_string(strings *s) {
    if (s->n == s->cap) {
        int64_t cap = s->cap < 16 ? 32 : 2 * s->cap;
        ESPL_TRY(espl_mem_resize(&s->end, cap, sizeof *s->end, "decoded text"));
        s->cap = cap;
    }
    s->end[s->n++] = s->text.len;
    return espl_str_status(&s->text);
}

static espl_bytes string_at(const strings *s, int64_t i) {
    int64_t from = i ? s->end[i - 1] : 0;
    return (espl_bytes){.p = s->text.data + from, .n = s->end[i] - from};
}

/* ------------------------------------------------------------ the steps, on one string */

/* Undoes the byte alphabet, or copies a string with other characters in it. */
static void put_raw(espl_str *out, espl_bytes s) {
    int64_t before = out->len;
    int n;
    for (int64_t i = 0; i < s.n; i += n) {
        int byte = espl_tok_char_byte(espl_tok_decode_char(s.p + i, &n));
        if (byte < 0) {
            out->len = before;
            espl_str_put(out, s.p, s.n);
            return;
        }
        char c = (char)byte;
        espl_str_put(out, &c, 1);
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of "<0xNN>", -1 for any other string. The library reads "+N" as a number too. */
static int fallback_byte(espl_bytes s) {
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    int hi = s.p[3] == '+' ? 0 : hex_digit(s.p[3]), lo = hex_digit(s.p[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static espl_status put_replaced(const espl_dec_step *step, espl_bytes s, const espl_match_state *match, espl_str *out) {
    espl_spans spans;
    bool more, hit;
    int64_t from, to;
    espl_status st = espl_tok_spans_open(&spans, &step->pattern, s.p, s.n, match);
    while (st == ESPL_OK && s.n > 0 && (st = espl_tok_spans_next(&spans, &more, &from, &to, &hit)) == ESPL_OK && more)
        espl_str_put(out, hit ? step->content.p : s.p + from, hit ? step->content.n : to - from);
    espl_tok_spans_close(&spans);
    return st;
}

static bool same_at(espl_bytes s, int64_t at, const espl_bytes *c) {
    return at >= 0 && at + c->n <= s.n && memcmp(s.p + at, c->p, (size_t)c->n) == 0;
}

static void put_stripped(const espl_dec_step *step, espl_bytes s, espl_str *out) {
    const espl_bytes *c = &step->content;
    int64_t from = 0, to = s.n;
    for (int64_t i = 0; i < step->start && same_at(s, from, c); i++) from += c->n;
    for (int64_t i = 0; i < step->stop && same_at(s, to - c->n, c); i++) to -= c->n;
    if (to > from) espl_str_put(out, s.p + from, to - from);
}

static void put_spaces(const espl_dec_step *step, espl_bytes s, bool drop, espl_str *out) {
    int64_t from = 0;
    for (const char *hit; (hit = memmem(s.p + from, (size_t)(s.n - from), step->content.p, (size_t)step->content.n));) {
        espl_str_put(out, s.p + from, hit - s.p - from);
        if (!drop) espl_str_puts(out, " ");
        from = hit - s.p + step->content.n;
    }
    espl_str_put(out, s.p + from, s.n - from);
}

/* ------------------------------------------------------------ the steps, on a list */

static espl_status bytes_step(const strings *in, strings *out) {
    espl_str raw = {0};
    for (int64_t i = 0; i < in->n; i++) put_raw(&raw, string_at(in, i));
    espl_status st = espl_str_status(&raw);
    if (st == ESPL_OK && raw.len > 0) espl_tok_put_repaired(&out->text, raw.data, raw.len);
    espl_str_free(&raw);
    ESPL_TRY(st);
    return close_string(out);
}

/* A run of byte tokens that is not UTF-8 as a whole becomes one U+FFFD per token. */
static espl_status put_byte_run(const espl_str *run, strings *out) {
    if (run->len == 0) return ESPL_OK;
    ESPL_TRY(espl_str_status(run));
    if (espl_tok_valid_prefix(run->data, run->len) == run->len) {
        espl_str_put(&out->text, run->data, run->len);
        return close_string(out);
    }
    for (int64_t i = 0; i < run->len; i++) {
        espl_str_puts(&out->text, "\xEF\xBF\xBD");
        ESPL_TRY(close_string(out));
    }
    return ESPL_OK;
}

static espl_status fallback_items(const strings *in, espl_str *run, strings *out) {
    for (int64_t i = 0; i < in->n; i++) {
        espl_bytes s = string_at(in, i);
        int byte = fallback_byte(s);
        if (byte >= 0) {
            char c = (char)byte;
            espl_str_put(run, &c, 1);
            continue;
        }
        ESPL_TRY(put_byte_run(run, out));
        run->len = 0;
        espl_str_put(&out->text, s.p, s.n);
        ESPL_TRY(close_string(out));
    }
    return put_byte_run(run, out);
}

static espl_status fallback_step(const strings *in, strings *out) {
    espl_str run = {0};
    espl_status st = fallback_items(in, &run, out);
    espl_str_free(&run);
    return st;
}

static espl_status map_string(const espl_dec_step *step, espl_bytes s, bool first, const espl_match_state *match,
                              espl_str *out) {
    switch (step->kind) {
    case ESPL_DEC_REPLACE:
        return put_replaced(step, s, match, out);
    case ESPL_DEC_STRIP:
        put_stripped(step, s, out);
        break;
    case ESPL_DEC_METASPACE:
        put_spaces(step, s, first && step->drop_first, out);
        break;
    default:
        espl_str_put(out, s.p, s.n); /* FUSE: the end is all that it removes */
    }
    return ESPL_OK;
}

static espl_status run_step(const espl_dec_step *step, const strings *in, strings *out, const espl_match_state *match) {
    if (step->kind == ESPL_DEC_BYTES) return bytes_step(in, out);
    if (step->kind == ESPL_DEC_BYTE_FALLBACK) return fallback_step(in, out);
    for (int64_t i = 0; i < in->n; i++) {
        ESPL_TRY(map_string(step, string_at(in, i), i == 0, match, &out->text));
        if (step->kind != ESPL_DEC_FUSE) ESPL_TRY(close_string(out));
    }
    return step->kind == ESPL_DEC_FUSE ? close_string(out) : ESPL_OK;
}

/* *s becomes what the steps make of it. */
static espl_status run_steps(const espl_tokenizer *t, strings *s) {
    espl_match_state match = {0};
    espl_status st = espl_tok_match_open(&match);
    for (int64_t i = 0; i < t->n_dec && st == ESPL_OK; i++) {
        strings out = {0};
        espl_str_put(&out.text, "", 0); /* never NULL */
        st = run_step(&t->dec[i], s, &out, &match);
        strings_free(s);
        *s = out;
    }
    espl_tok_match_close(&match);
    return st;
}

/* ------------------------------------------------------------ ids to text */

/* How a token reads: an added one as it is matched, others as the vocabulary spells them. */
static espl_status token_text(const espl_tokenizer *t, int32_t id, espl_bytes *out) {
    const espl_added_token *a = espl_tok_added_by_id(t, id);
    if (a)
        *out = a->normalized ? a->normal : a->content;
    else if (id >= 0 && id < t->model.n_ids && t->model.tokens[id].s)
        *out = (espl_bytes){.p = (char *)(uintptr_t)t->model.tokens[id].s, .n = t->model.tokens[id].s_len};
    else
        return ESPL_FAIL(ESPL_FORMAT, "%s: there is no token %d", t->name.p, id);
    return ESPL_OK;
}

static espl_status collect(const espl_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special, strings *s) {
    espl_str_put(&s->text, "", 0);
    for (int64_t i = 0; i < n; i++) {
        espl_bytes text = {0};
        ESPL_TRY(token_text(t, ids[i], &text));
        if (skip_special && espl_map_get(t->added.special, text.p, text.n, NULL)) continue;
        if (!t->has_decoder && s->n > 0) espl_str_puts(&s->text, " ");
        espl_str_put(&s->text, text.p, text.n);
        ESPL_TRY(close_string(s));
    }
    return espl_str_status(&s->text);
}

espl_status espl_tokenizer_decode(const espl_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                                  espl_str *out) {
    strings s = {0};
    espl_status st = collect(t, ids, n, skip_special, &s);
    if (st == ESPL_OK) st = run_steps(t, &s);
    if (st == ESPL_OK) espl_str_put(out, s.text.data, s.text.len);
    strings_free(&s);
    return st == ESPL_OK ? espl_str_status(out) : st;
}

static espl_status token_step(const espl_dec_step *step, espl_bytes s, const espl_match_state *match, espl_str *out) {
    int byte = step->kind == ESPL_DEC_BYTE_FALLBACK ? fallback_byte(s) : -1;
    char c = (char)byte;
    if (step->kind == ESPL_DEC_BYTES)
        put_raw(out, s);
    else if (byte >= 0)
        espl_str_put(out, &c, 1);
    else if (step->kind == ESPL_DEC_STRIP) /* strips the text's ends, not the token's */
        espl_str_put(out, s.p, s.n);
    else
        return map_string(step, s, false, match, out);
    return ESPL_OK;
}

static espl_status token_steps(const espl_tokenizer *t, espl_str *now, const espl_match_state *match) {
    for (int64_t i = 0; i < t->n_dec; i++) {
        espl_str next = {0};
        espl_str_put(&next, "", 0);
        espl_status st = token_step(&t->dec[i], (espl_bytes){.p = now->data, .n = now->len}, match, &next);
        espl_str_free(now);
        *now = next;
        ESPL_TRY(st);
        ESPL_TRY(espl_str_status(now));
        if (t->dec[i].kind == ESPL_DEC_BYTES) break; /* from here on it need not be UTF-8 */
    }
    return ESPL_OK;
}

espl_status espl_tokenizer_token_bytes(const espl_tokenizer *t, int32_t id, espl_str *out) {
    espl_bytes text = {0};
    espl_str now = {0};
    ESPL_TRY(token_text(t, id, &text));
    espl_str_put(&now, text.p, text.n);
    espl_status st = espl_str_status(&now);
    espl_match_state match = {0};
    if (st == ESPL_OK) st = espl_tok_match_open(&match);
    if (st == ESPL_OK) st = token_steps(t, &now, &match);
    if (st == ESPL_OK) espl_str_put(out, now.data, now.len);
    espl_tok_match_close(&match);
    espl_str_free(&now);
    return st == ESPL_OK ? espl_str_status(out) : st;
}
