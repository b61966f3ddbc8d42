/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Added tokens. The search is leftmost-longest: at each byte that begins a token, walk down the sorted token list. A
 * model may have thousands of them, and most bytes of a text begin none.
 */
#include "added.h"

#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of one added token: bounds the search at each byte of a text. */
enum { MAX_TOKEN_BYTES = 4096 };

/* ------------------------------------------------------------ splitting */

/* The longest token that p[0..n) starts with, NULL if none. n >= 1. A trie would do the same with more memory: the
 * sorted list is one, walked by halving the range at each byte. */
static const espl_added_token *added_longest_at(const espl_added_index *x, const char *p, int64_t n) {
    const espl_added_token *best = NULL;
    /* sorted[lo..hi) are the tokens that share their first `depth` bytes with p. */
    int64_t lo = x->first[(uint8_t)p[0]], hi = x->first[(uint8_t)p[0] + 1];
    for (int64_t depth = 1; lo < hi; depth++) {
        if (x->sorted[lo]->form.n == depth) best = x->sorted[lo++];
        if (depth == n) break;
        /* Narrow to those whose next byte is that of p: two binary searches, for byte and byte + 1. */
        int64_t bound[2];
        for (int side = 0; side < 2; side++) {
            int64_t from = lo, to = hi;
            while (from < to) {
                int64_t mid = (from + to) / 2;
                if ((uint8_t)x->sorted[mid]->form.p[depth] < (uint8_t)p[depth] + side)
                    from = mid + 1;
                else
                    to = mid;
            }
            bound[side] = from;
        }
        lo = bound[0];
        hi = bound[1];
    }
    return best;
}

/* True when the character that ends at `at` is of the class; false at the start of the text. *step: its length. */
static bool char_before_is(const espl_piece *t, int64_t at, espl_char_class c, int64_t *step) {
    int n;
    if (at == 0) return false;
    *step = at - espl_tok_last_char(t->p, at);
    return espl_tok_char_is(c, espl_tok_decode_char(t->p + at - *step, &n));
}

/* The same for the character that begins at `at`. */
static bool char_behind_is(const espl_piece *t, int64_t at, espl_char_class c, int64_t *step) {
    int n;
    if (at == t->n) return false;
    int32_t cp = espl_tok_decode_char(t->p + at, &n);
    *step = n;
    return espl_tok_char_is(c, cp);
}

espl_status espl_added_split(const espl_added_index *x, const espl_piece *t, espl_ids *ids, espl_added_text_fn text,
                             void *ctx) {
    int64_t done = 0, step; /* done: what has been handed on */
    for (int64_t at = 0; at < t->n && x->n > 0;) {
        const espl_added_token *a = added_longest_at(x, t->p + at, t->n - at);
        if (!a) {
            at++;
            continue;
        }
        int64_t start = at, stop = at + a->form.n;
        /* The search goes on behind the token itself, even when rstrip takes more, and a token inside what rstrip took
         * is still found: so does the library. */
        at = stop;
        if (a->single_word &&
            (char_before_is(t, start, ESPL_CHAR_WORD, &step) || char_behind_is(t, stop, ESPL_CHAR_WORD, &step)))
            continue;
        while (a->lstrip && start > done && char_before_is(t, start, ESPL_CHAR_SPACE, &step)) start -= step;
        while (a->rstrip && char_behind_is(t, stop, ESPL_CHAR_SPACE, &step)) stop += step;
        espl_piece before = {.p = t->p + done, .n = start - done, .first = t->first && done == 0};
        if (before.n > 0) ESPL_TRY(text(ctx, &before));
        ESPL_TRY(espl_ids_append(ids, &a->id, 1));
        done = stop;
    }
    /* rstrip may have moved `done` behind the end of the loop, never behind the end of the text. */
    espl_piece rest = {.p = t->p + done, .n = t->n - done, .first = t->first && done == 0};
    return rest.n > 0 ? text(ctx, &rest) : ESPL_OK;
}

const espl_added_token *espl_added_find(const espl_added_tokens *a, int32_t id) {
    int64_t i;
    return espl_map_get(a->by_id, (const char *)&id, sizeof id, &i) ? &a->tokens[i] : NULL;
}

/* ------------------------------------------------------------ parsing */

/* By the bytes of the form, a prefix first. */
static int added_compare(const void *a, const void *b) {
    const espl_bytes *x = &(*(const espl_added_token *const *)a)->form;
    const espl_bytes *y = &(*(const espl_added_token *const *)b)->form;
    int order = memcmp(x->p, y->p, (size_t)espl_min_i64(x->n, y->n));
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* Searches for empty tokens would match everywhere, and of two equal ones only one could be found: the library would
 * pick one by an order that this room does not know, so both are refused. */
static espl_status added_build_index(espl_added_index *x, const espl_added_tokens *a, bool normalized,
                                     const espl_where *where) {
    ESPL_TRY(espl_mem_alloc(&x->sorted, a->n, sizeof *x->sorted, "added tokens"));
    for (int64_t i = 0; i < a->n; i++)
        if (a->tokens[i].normalized == normalized) x->sorted[x->n++] = &a->tokens[i];
    qsort(x->sorted, (size_t)x->n, sizeof *x->sorted, added_compare);
    for (int64_t i = 0; i < x->n; i++) {
        const espl_bytes *form = &x->sorted[i]->form;
        if (form->n == 0) return ESPL_FAIL(ESPL_FORMAT, "%s: a token is empty once normalised", where->text);
        if (i > 0 && added_compare(&x->sorted[i], &x->sorted[i - 1]) == 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s: two tokens are \"%.64s\" once normalised", where->text, form->p);
        x->first[(uint8_t)form->p[0] + 1]++;
    }
    for (int b = 0; b < 256; b++) x->first[b + 1] += x->first[b]; /* counts become offsets */
    return ESPL_OK;
}

/* Reads the members of one entry. The file's id is only compared: see added_check_id. */
static espl_status added_parse_token(const cJSON *node, const espl_where *where, espl_added_token *a) {
    int64_t id = 0;
    ESPL_TRY(espl_tok_check_keys(node, where, "id|content|single_word|lstrip|rstrip|normalized|special"));
    ESPL_TRY(espl_json_get_i64(node, "id", where->text, true, 0, ESPL_TOK_MAX_ID, &id));
    ESPL_TRY(espl_json_get_bool(node, "single_word", where->text, true, &a->single_word));
    ESPL_TRY(espl_json_get_bool(node, "lstrip", where->text, true, &a->lstrip));
    ESPL_TRY(espl_json_get_bool(node, "rstrip", where->text, true, &a->rstrip));
    ESPL_TRY(espl_json_get_bool(node, "normalized", where->text, true, &a->normalized));
    ESPL_TRY(espl_json_get_bool(node, "special", where->text, true, &a->special));
    ESPL_TRY(espl_tok_get_text(node, "content", where, &a->content));
    a->id = (int32_t)id;
    if (a->content.n > MAX_TOKEN_BYTES)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.content: more than %d bytes", where->text, MAX_TOKEN_BYTES);
    return ESPL_OK;
}

/* The library ignores the id in the file: a token that the vocabulary has keeps that id, others are numbered on from
 * the number of entries (not from the highest id); *next is the next such number. A file where that comes out
 * differently has been edited by hand, or its model counts on ids that the library would not give: refused, since
 * either reading may be wrong. */
static espl_status added_check_id(const espl_added_tokens *d, const espl_added_token *a, const espl_bpe_model *model,
                                  const espl_where *where, int64_t *next) {
    if (espl_map_get(d->by_content, a->content.p, a->content.n, NULL))
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"%.64s\" is added twice", where->text, a->content.p);
    int64_t id = espl_bpe_model_find(model, a->content.p, a->content.n);
    if (id < 0) id = (*next)++;
    if (id == a->id) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: \"%.64s\" has id %d in the file, but the tokenizers library gives it %" PRId64,
                     where->text, a->content.p, a->id, id);
}

/* All tokens, then one index for those searched in the text as given and one for those searched in normalised text. */
espl_status espl_added_parse(espl_added_tokens *d, const struct cJSON *node, const char *file,
                             const espl_bpe_model *model, const espl_normalizer *normalizer) {
    espl_where where = espl_tok_where(file, ": ", "added_tokens");
    espl_match_state match = {0};
    espl_str buffers[2] = {{0}, {0}};
    int64_t count = 0, index = 0, next = model->count;
    espl_status st;
    if (node && !cJSON_IsArray(node)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an array", where.text);
    for (const cJSON *i = node ? node->child : NULL; i; i = i->next) count++;
    /* At its final size: maps and indexes point into the array. */
    ESPL_CHECK(st, done, espl_mem_alloc(&d->tokens, count, sizeof *d->tokens, "added tokens"));
    ESPL_CHECK(st, done, espl_map_create(&d->by_content, count));
    ESPL_CHECK(st, done, espl_map_create(&d->by_id, count));
    ESPL_CHECK(st, done, espl_map_create(&d->special, count));
    ESPL_CHECK(st, done, espl_match_state_open(&match));
    for (const cJSON *i = node ? node->child : NULL; i; i = i->next) {
        espl_where item = espl_tok_where_item(&where, index++);
        espl_added_token *a = &d->tokens[d->n++];
        ESPL_CHECK(st, done, added_parse_token(i, &item, a));
        if (a->content.n == 0) { /* ignored, as the library does */
            espl_tok_bytes_free(&a->content);
            d->n--;
            continue;
        }
        ESPL_CHECK(st, done, added_check_id(d, a, model, &item, &next));
        if (a->normalized) {
            espl_piece form = {.p = a->content.p, .n = a->content.n, .first = true};
            ESPL_CHECK(st, done, espl_normalizer_apply(normalizer, &match, buffers, &form));
            if (form.n > MAX_TOKEN_BYTES) form.n = 0; /* reported as empty below */
            ESPL_CHECK(st, done, espl_mem_alloc(&a->form.p, form.n + 1, 1, "added token"));
            memcpy(a->form.p, form.p, (size_t)form.n);
            a->form.n = form.n;
        } else {
            a->form = a->content;
        }
        ESPL_CHECK(st, done, espl_map_put(d->by_content, a->content.p, a->content.n, d->n - 1));
        ESPL_CHECK(st, done, espl_map_put(d->by_id, (const char *)&a->id, sizeof a->id, d->n - 1));
        if (a->special) ESPL_CHECK(st, done, espl_map_put(d->special, a->content.p, a->content.n, d->n - 1));
    }
    ESPL_CHECK(st, done, added_build_index(&d->raw, d, false, &where));
    ESPL_CHECK(st, done, added_build_index(&d->normal, d, true, &where));
done:
    espl_match_state_close(&match);
    espl_str_free(&buffers[0]);
    espl_str_free(&buffers[1]);
    return st;
}

void espl_added_free(espl_added_tokens *d) {
    for (int64_t i = 0; i < d->n; i++) {
        espl_added_token *a = &d->tokens[i];
        if (a->normalized) espl_tok_bytes_free(&a->form); /* else a view of content */
        espl_tok_bytes_free(&a->content);
    }
    espl_mem_free(&d->tokens);
    espl_mem_free(&d->raw.sorted);
    espl_mem_free(&d->normal.sorted);
    espl_map_destroy(&d->by_content);
    espl_map_destroy(&d->by_id);
    espl_map_destroy(&d->special);
}
