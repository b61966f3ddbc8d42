/* SPDX-License-Identifier: Apache-2.0 */
/* The sorted vocabulary. */
#include "vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"

/* Longer tokens are runs of spaces or dashes, which no reply needs: leaving them out bounds the walk's memory. */
enum { TOKEN_BYTES_MAX = 128 };

static bool bytes_are_plain(const char *p, int64_t n) {
    for (int64_t i = 0; i < n;) {
        int len = espl_utf8_length(p + i, n - i);
        if (len == 0 || (uint8_t)p[i] < 0x20 || p[i] == '"' || p[i] == '\\') return false;
        i += len;
    }
    return true;
}

static int token_compare(const void *a, const void *b, void *bytes) {
    const espl_vocabulary_token *x = a, *y = b;
    const char *text = bytes;
    int order = memcmp(text + x->at, text + y->at, (size_t)espl_min_i64(x->len, y->len));
    if (order) return order;
    return x->len != y->len ? (x->len > y->len) - (x->len < y->len) : (x->id > y->id) - (x->id < y->id);
}

static void list_sort(espl_vocabulary *v, espl_vocabulary_list *list) {
    qsort_r(list->tokens, (size_t)list->n, sizeof *list->tokens, token_compare, v->bytes.data);
    for (int64_t i = 1; i < list->n; i++) {
        espl_vocabulary_token *now = &list->tokens[i];
        const char *a = espl_vocabulary_text(v, now), *b = espl_vocabulary_text(v, now - 1);
        while (now->common < now->len && now->common < (now - 1)->len && a[now->common] == b[now->common])
            now->common++;
    }
}

static bool id_ends(const espl_model_config *c, int64_t id) {
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return true;
    return false;
}

/* A model's vocabulary may be larger than its tokenizer's (padding), or smaller: only ids of both count. */
espl_status espl_vocabulary_create(espl_vocabulary *v, const espl_tokenizer *t, const espl_model_config *c) {
    int64_t n = espl_min_i64(c->vocab, espl_tokenizer_vocab_size(t));
    *v = (espl_vocabulary){.vocab = c->vocab};
    espl_str_put(&v->bytes, "", 0); /* never NULL */
    ESPL_TRY(espl_mem_alloc(&v->plain.tokens, n, sizeof *v->plain.tokens, "vocabulary"));
    ESPL_TRY(espl_mem_alloc(&v->other.tokens, n, sizeof *v->other.tokens, "vocabulary"));
    for (int32_t id = 0; id < n; id++) {
        int64_t at = v->bytes.len;
        if (espl_tokenizer_is_special(t, id) || id_ends(c, id)) continue;
        if (espl_tokenizer_token_bytes(t, id, &v->bytes) != ESPL_OK) { /* a gap in the ids, or no memory */
            ESPL_TRY(espl_str_status(&v->bytes));
            continue;
        }
        int64_t len = v->bytes.len - at;
        if (len == 0 || len > TOKEN_BYTES_MAX) continue;
        const char *text = v->bytes.data + at;
        if (len == 1) v->single[(uint8_t)*text] = true;
        espl_vocabulary_list *list = bytes_are_plain(text, len) ? &v->plain : &v->other;
        list->tokens[list->n++] = (espl_vocabulary_token){.at = at, .id = id, .len = (int32_t)len};
        v->longest = (int32_t)espl_max_i64(v->longest, len);
    }
    espl_base_error_clear(); /* gaps are no failure */
    list_sort(v, &v->plain);
    list_sort(v, &v->other);
    return ESPL_OK;
}

void espl_vocabulary_free(espl_vocabulary *v) {
    espl_str_free(&v->bytes);
    espl_mem_free(&v->plain.tokens);
    espl_mem_free(&v->other.tokens);
}

const char *espl_vocabulary_text(const espl_vocabulary *v, const espl_vocabulary_token *token) {
    return v->bytes.data + token->at;
}
