#include "internal.h"

#include <string.h>

espl_status espl_tok_work_open(espl_work *w, const espl_tokenizer *t, espl_ids *ids) {
    *w = (espl_work){.t = t, .ids = ids};
    return espl_tok_match_open(&w->match);
}

void espl_tok_work_close(espl_work *w) {
    espl_tok_match_close(&w->match);
    for (int i = 0; i < 2; i++) espl_str_free(&w->norm[i]);
    for (int i = 0; i < ESPL_TOK_MAX_STEPS; i++) espl_str_free(&w->pre[i]);
    espl_mem_free(&w->sym);
    espl_mem_free(&w->rank);
    espl_mem_free(&w->next);
    espl_mem_free(&w->prev);
    espl_mem_free(&w->heap);
}

static espl_status encode_normalized(espl_work *w, const espl_piece *piece) {
    espl_piece normal = *piece;
    ESPL_TRY(espl_tok_normalize(w, &normal));
    return espl_tok_added_split(w, &w->t->added.normal, &normal, espl_tok_pretokenize);
}

static espl_status encode_text(espl_work *w, const char *text, int64_t len) {
    espl_piece whole = {.p = text, .n = len, .first = true};
    return espl_tok_added_split(w, &w->t->added.raw, &whole, encode_normalized);
}

static espl_status encode_template(espl_work *w, const char *text, int64_t len) {
    for (int64_t i = 0; i < w->t->n_items; i++) {
        int32_t id = w->t->items[i].id;
        ESPL_TRY(id >= 0 ? espl_tok_push(w->ids, id) : encode_text(w, text, len));
    }
    return ESPL_OK;
}

/* Without add_special a template still says how often the text appears (once, in every known one). */
static espl_status encode_valid(espl_work *w, const char *text, int64_t len, bool add_special) {
    if (w->t->n_items == 0) return encode_text(w, text, len);
    if (add_special) return encode_template(w, text, len);
    for (int64_t i = 0; i < w->t->n_items; i++)
        if (w->t->items[i].id < 0) ESPL_TRY(encode_text(w, text, len));
    return ESPL_OK;
}

static espl_status encode_repaired(espl_work *w, const char *text, int64_t len, bool add_special) {
    if (espl_tok_valid_prefix(text, len) == len) return encode_valid(w, text, len, add_special);
    espl_str repaired = {0};
    espl_tok_put_repaired(&repaired, text, len);
    espl_status st = espl_str_status(&repaired);
    if (st == ESPL_OK) st = encode_valid(w, repaired.data, repaired.len, add_special);
    espl_str_free(&repaired);
    return st;
}

espl_status espl_tokenizer_encode(const espl_tokenizer *t, const char *text, int64_t len, bool add_special,
                                  espl_ids *ids) {
    espl_work w;
    int64_t before = ids->len;
    espl_status st = espl_tok_work_open(&w, t, ids);
    if (st == ESPL_OK) st = encode_repaired(&w, text, len, add_special);
    espl_tok_work_close(&w);
    if (st != ESPL_OK) ids->len = before;
    return st;
}
