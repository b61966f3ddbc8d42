/*
 * Added tokens: searched in the text before anything else happens to it, those marked "normalized" in normalised text.
 * The search is leftmost-longest: at each byte that begins a token, walk down the sorted token list.
 */
#include "internal.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------ the search */

static int compare_bytes(const espl_bytes *a, const espl_bytes *b) {
    int64_t n = a->n < b->n ? a->n : b->n;
    int order = memcmp(a->p, b->p, (size_t)n);
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

static const espl_bytes *form(const espl_added_token *a) { return a->normalized ? &a->normal : &a->content; }

static int compare_tokens(const void *a, const void *b) {
    return compare_bytes(form(*(const espl_added_token *const *)a), form(*(const espl_added_token *const *)b));
}

static espl_status build_index(espl_added_index *x, const espl_added *added, bool normalized, const espl_where *where) {
    ESPL_TRY(espl_mem_alloc(&x->sorted, added->n, sizeof *x->sorted, "added tokens"));
    for (int64_t i = 0; i < added->n; i++)
        if (added->tokens[i].normalized == normalized) x->sorted[x->n++] = &added->tokens[i];
    qsort(x->sorted, (size_t)x->n, sizeof *x->sorted, compare_tokens);
    for (int64_t i = 0; i < x->n; i++) {
        const espl_bytes *f = form(x->sorted[i]);
        if (f->n == 0) return ESPL_FAIL(ESPL_FORMAT, "%s: a token is empty once normalised", where->text);
        if (i > 0 && compare_bytes(f, form(x->sorted[i - 1])) == 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s: two tokens are \"%.64s\" once normalised", where->text, f->p);
        x->first[(uint8_t)f->p[0] + 1]++;
    }
    for (int b = 0; b < 256; b++) x->first[b + 1] += x->first[b];
    return ESPL_OK;
}

/* First of sorted[lo..hi), which share their first `depth` bytes and are longer, whose next byte is >= byte. */
static int64_t lower_bound(const espl_added_index *x, int64_t lo, int64_t hi, int64_t depth, int byte) {
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if ((uint8_t)form(x->sorted[mid])->p[depth] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest token that p[0..n) starts with, NULL if none. n >= 1. */
static const espl_added_token *longest_at(const espl_added_index *x, const char *p, int64_t n) {
    const espl_added_token *best = NULL;
    int64_t lo = x->first[(uint8_t)p[0]], hi = x->first[(uint8_t)p[0] + 1];
    for (int64_t depth = 1; lo < hi; depth++) {
        if (form(x->sorted[lo])->n == depth) best = x->sorted[lo++];
        if (depth == n) break;
        lo = lower_bound(x, lo, hi, depth, (uint8_t)p[depth]);
        hi = lower_bound(x, lo, hi, depth, (uint8_t)p[depth] + 1);
    }
    return best;
}

/* ------------------------------------------------------------ splitting */

static bool word_before(const espl_piece *t, int64_t at) {
    int n;
    return at > 0 && espl_tok_char_is(ESPL_CHAR_WORD, espl_tok_decode_char(t->p + espl_tok_last_char(t->p, at), &n));
}

static bool word_after(const espl_piece *t, int64_t at) {
    int n;
    return at < t->n && espl_tok_char_is(ESPL_CHAR_WORD, espl_tok_decode_char(t->p + at, &n));
}

static int64_t skip_spaces_back(const espl_piece *t, int64_t at, int64_t stop) {
    int n;
    while (at > stop) {
        int64_t before = espl_tok_last_char(t->p, at);
        if (!espl_tok_char_is(ESPL_CHAR_SPACE, espl_tok_decode_char(t->p + before, &n))) break;
        at = before;
    }
    return at;
}

static int64_t skip_spaces(const espl_piece *t, int64_t at) {
    int n;
    while (at < t->n && espl_tok_char_is(ESPL_CHAR_SPACE, espl_tok_decode_char(t->p + at, &n))) at += n;
    return at;
}

static espl_status emit_text(espl_work *w, const espl_piece *t, int64_t from, int64_t to, espl_text_fn text) {
    espl_piece part = {.p = t->p + from, .n = to - from, .first = t->first && from == 0};
    return to > from ? text(w, &part) : ESPL_OK;
}

/* The search goes on behind the token itself, even when rstrip has swallowed more: so does the library. */
espl_status espl_tok_added_split(espl_work *w, const espl_added_index *x, const espl_piece *t, espl_text_fn text) {
    int64_t done = 0;
    for (int64_t at = 0; at < t->n && x->n > 0;) {
        const espl_added_token *a = longest_at(x, t->p + at, t->n - at);
        if (!a) {
            at++;
            continue;
        }
        int64_t start = at, stop = at + form(a)->n;
        at = stop;
        if (a->single_word && (word_before(t, start) || word_after(t, stop))) continue;
        if (a->lstrip && start > done) start = skip_spaces_back(t, start, done);
        if (a->rstrip) stop = skip_spaces(t, stop);
        ESPL_TRY(emit_text(w, t, done, start, text));
        ESPL_TRY(espl_tok_push(w->ids, a->id));
        done = stop;
    }
    return emit_text(w, t, done, t->n, text);
}

const espl_added_token *espl_tok_added_by_id(const espl_tokenizer *t, int32_t id) {
    int64_t i;
    return espl_map_get(t->added.by_id, (const char *)&id, sizeof id, &i) ? &t->added.tokens[i] : NULL;
}

/* ------------------------------------------------------------ parsing */

static espl_status parse_token(const cJSON *node, const espl_where *where, espl_added_token *a) {
    int64_t id = 0; /* what the file says counts for nothing in the library, see assign_id */
    a->normalized = true;
    ESPL_TRY(espl_tok_check_keys(node, where, "id|content|single_word|lstrip|rstrip|normalized|special"));
    ESPL_TRY(espl_json_get_i64(node, "id", where->text, true, 0, ESPL_TOK_MAX_ID, &id));
    ESPL_TRY(espl_json_get_bool(node, "single_word", where->text, true, &a->single_word));
    ESPL_TRY(espl_json_get_bool(node, "lstrip", where->text, true, &a->lstrip));
    ESPL_TRY(espl_json_get_bool(node, "rstrip", where->text, true, &a->rstrip));
    ESPL_TRY(espl_json_get_bool(node, "normalized", where->text, true, &a->normalized));
    ESPL_TRY(espl_json_get_bool(node, "special", where->text, true, &a->special));
    ESPL_TRY(espl_tok_get_text(node, "content", where, &a->content));
    a->id = (int32_t)id;
    if (a->content.n > ESPL_TOK_MAX_ADDED_BYTES)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.content: more than %d bytes", where->text, ESPL_TOK_MAX_ADDED_BYTES);
    return ESPL_OK;
}

/* The library ignores the id in the file: a token that the vocabulary has keeps that id, others are numbered on from
 * the number of entries (not from the highest id). A file where that comes out differently has been edited by hand, or
 * its model counts on ids that the library would not give: refused, since either reading may be wrong. */
static espl_status assign_id(const espl_tokenizer *t, const espl_where *where, int64_t *next, espl_added_token *a) {
    int64_t id;
    if (espl_map_get(t->added.by_content, a->content.p, a->content.n, NULL))
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"%.64s\" is added twice", where->text, a->content.p);
    if (!espl_map_get(t->model.vocab, a->content.p, a->content.n, &id)) id = (*next)++;
    if (id == a->id) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: \"%.64s\" has id %d in the file, but the tokenizers library gives it %lld",
                     where->text, a->content.p, a->id, (long long)id);
}

static espl_status normalize_content(espl_work *w, espl_added_token *a) {
    espl_piece p = {.p = a->content.p, .n = a->content.n, .first = true};
    if (!a->normalized) return ESPL_OK;
    ESPL_TRY(espl_tok_normalize(w, &p));
    if (p.n > ESPL_TOK_MAX_ADDED_BYTES) p.n = 0; /* reported as empty */
    ESPL_TRY(espl_mem_alloc(&a->normal.p, p.n + 1, 1, "added token"));
    memcpy(a->normal.p, p.p, (size_t)p.n);
    a->normal.n = p.n;
    return ESPL_OK;
}

static espl_status register_token(espl_added *d, int64_t i) {
    espl_added_token *a = &d->tokens[i];
    d->ids[i] = a->id;
    ESPL_TRY(espl_map_put(d->by_content, a->content.p, a->content.n, i));
    ESPL_TRY(espl_map_put(d->by_id, (const char *)&d->ids[i], sizeof d->ids[i], i));
    return a->special ? espl_map_put(d->special, a->content.p, a->content.n, i) : ESPL_OK;
}

static espl_status create_tables(espl_added *d, const cJSON *list) {
    int64_t n = 0;
    for (const cJSON *i = list ? list->child : NULL; i; i = i->next) n++;
    ESPL_TRY(espl_mem_alloc(&d->tokens, n, sizeof *d->tokens, "added tokens"));
    ESPL_TRY(espl_mem_alloc(&d->ids, n, sizeof *d->ids, "added tokens"));
    ESPL_TRY(espl_map_create(&d->by_content, n));
    ESPL_TRY(espl_map_create(&d->by_id, n));
    return espl_map_create(&d->special, n);
}

static espl_status parse_tokens(espl_tokenizer *t, const cJSON *list, const espl_where *where, espl_work *w) {
    espl_added *d = &t->added;
    int64_t next = t->model.count, index = 0;
    for (const cJSON *i = list ? list->child : NULL; i; i = i->next) {
        espl_where item = espl_tok_where_item(where, index++);
        espl_added_token *a = &d->tokens[d->n];
        d->n++;
        ESPL_TRY(parse_token(i, &item, a));
        if (a->content.n == 0) { /* ignored, as the library does */
            espl_tok_bytes_free(&a->content);
            d->n--;
            continue;
        }
        ESPL_TRY(assign_id(t, &item, &next, a));
        ESPL_TRY(normalize_content(w, a));
        ESPL_TRY(register_token(d, d->n - 1));
    }
    return ESPL_OK;
}

espl_status espl_tok_added_parse(espl_tokenizer *t, const struct cJSON *node, const char *file) {
    espl_where where = espl_tok_where(file, "added_tokens");
    espl_work w;
    if (node && !cJSON_IsArray(node)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an array", where.text);
    ESPL_TRY(create_tables(&t->added, node));
    espl_status st = espl_tok_work_open(&w, t, NULL);
    if (st == ESPL_OK) st = parse_tokens(t, node, &where, &w);
    espl_tok_work_close(&w);
    ESPL_TRY(st);
    ESPL_TRY(build_index(&t->added.raw, &t->added, false, &where));
    return build_index(&t->added.normal, &t->added, true, &where);
}

void espl_tok_added_free(espl_added *d) {
    for (int64_t i = 0; i < d->n; i++) {
        espl_tok_bytes_free(&d->tokens[i].content);
        espl_tok_bytes_free(&d->tokens[i].normal);
    }
    espl_mem_free(&d->tokens);
    espl_mem_free(&d->ids);
    espl_mem_free(&d->raw.sorted);
    espl_mem_free(&d->normal.sorted);
    espl_map_destroy(&d->by_content);
    espl_map_destroy(&d->by_id);
    espl_map_destroy(&d->special);
}
