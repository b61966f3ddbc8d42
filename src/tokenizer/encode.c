/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text to ids: the stages of the pipeline, each of which calls the next for every piece that it cuts off. No list of
 * pieces is ever stored, so memory does not grow with the number of words.
 */
#include "tokenizer.h"

#include "espalier/base/status.h"
#include "espalier/base/str.h"

/* One call of encode; never shared between threads. */
typedef struct tok_encoder {
    const espl_tokenizer *t;
    espl_ids *ids;
    espl_match_state match;
    espl_str normalized[2];
    espl_pretokenizing words;
    espl_bpe_scratch bpe;
} tok_encoder;

/* The last stage: called back by the pre-tokeniser for each word. */
static espl_status encode_word(void *ctx, const espl_piece *word) {
    tok_encoder *e = ctx;
    return espl_bpe_encode(&e->t->model, &e->bpe, word->p, word->n, e->ids);
}

/* Tokens marked "normalized" are searched in what the normaliser leaves, all others in the text as given. */
static espl_status encode_text(void *ctx, const espl_piece *piece) {
    tok_encoder *e = ctx;
    espl_piece normal = *piece;
    ESPL_TRY(espl_normalizer_apply(&e->t->normalizer, &e->match, e->normalized, &normal));
    return espl_added_split(&e->t->added.normal, &normal, e->ids, espl_pretokenizer_run, &e->words);
}

espl_status espl_tokenizer_encode(const espl_tokenizer *t, const char *text, int64_t len, bool add_special,
                                  espl_ids *ids) {
    tok_encoder e = {.t = t, .ids = ids};
    int64_t before = ids->len;
    espl_str repaired = {0};
    espl_status st;
    e.words = (espl_pretokenizing){.z = &t->pretokenizer, .match = &e.match, .word = encode_word, .ctx = &e};
    ESPL_CHECK(st, done, espl_match_state_open(&e.match));
    /* From here on all text is UTF-8, which the stages rely on. */
    if (espl_tok_valid_prefix(text, len) < len) {
        espl_tok_put_repaired(&repaired, text, len);
        ESPL_CHECK(st, done, espl_str_status(&repaired));
        text = repaired.data;
        len = repaired.len;
    }
    /* Without add_special a template still says how often the text appears (once, in every known one). */
    for (int64_t i = 0; i < t->template.n; i++) {
        int32_t id = t->template.items[i];
        espl_piece whole = {.p = text, .n = len, .first = true};
        if (id == ESPL_TEMPLATE_TEXT)
            ESPL_CHECK(st, done, espl_added_split(&t->added.raw, &whole, ids, encode_text, &e));
        else if (add_special)
            ESPL_CHECK(st, done, espl_ids_append(ids, &id, 1));
    }
done:
    if (st != ESPL_OK) ids->len = before; /* no half of a text */
    espl_match_state_close(&e.match);
    espl_pretokenizing_free(&e.words);
    espl_bpe_scratch_free(&e.bpe);
    espl_str_free(&e.normalized[0]);
    espl_str_free(&e.normalized[1]);
    espl_str_free(&repaired);
    return st;
}
