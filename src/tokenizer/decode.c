/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids to text: tokens become strings here, decoder.c does the rest. Special tokens are left out before any step runs,
 * as in the library, so that a step never sees them.
 */
#include "tokenizer.h"

#include "espalier/base/hash.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

/* The string of a token: an added one as it is matched, others as the vocabulary spells them. */
static espl_status token_string(const espl_tokenizer *t, int32_t id, const char **p, int64_t *n) {
    const espl_added_token *a = espl_added_find(&t->added, id);
    if (a) {
        *p = a->form.p;
        *n = a->form.n;
    } else if (id >= 0 && id < t->model.n_ids && t->model.tokens[id].s) {
        *p = t->model.tokens[id].s;
        *n = t->model.tokens[id].n;
    } else {
        return ESPL_FAIL(ESPL_FORMAT, "%s: there is no token %d", t->name, id);
    }
    return ESPL_OK;
}

/* The strings of all tokens first, then each decoder step on the whole list: a step may join what several tokens hold,
 * as the bytes of one character. */
espl_status espl_tokenizer_decode(const espl_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                                  espl_str *out) {
    espl_tok_strings s = {0};
    espl_status st;
    espl_str_put(&s.text, "", 0); /* never NULL */
    for (int64_t i = 0; i < n; i++) {
        const char *p;
        int64_t len;
        ESPL_CHECK(st, done, token_string(t, ids[i], &p, &len));
        if (skip_special && espl_map_get(t->added.special, p, len, NULL)) continue;
        if (!t->decoder.given && s.n > 0) espl_str_puts(&s.text, " "); /* the library joins tokens with spaces then */
        espl_str_put(&s.text, p, len);
        ESPL_CHECK(st, done, espl_tok_strings_close(&s));
    }
    ESPL_CHECK(st, done, espl_tok_decoder_run(&t->decoder, &s));
    espl_str_put(out, s.text.data, s.text.len);
    st = espl_str_status(out);
done:
    espl_tok_strings_free(&s);
    return st;
}

/* The same steps on one string alone, but for what only makes sense for a whole text. */
espl_status espl_tokenizer_token_bytes(const espl_tokenizer *t, int32_t id, espl_str *out) {
    espl_str token = {0};
    const char *p;
    int64_t n;
    espl_status st;
    ESPL_CHECK(st, done, token_string(t, id, &p, &n));
    espl_str_put(&token, p, n);
    ESPL_CHECK(st, done, espl_str_status(&token));
    ESPL_CHECK(st, done, espl_tok_decoder_run_token(&t->decoder, &token));
    espl_str_put(out, token.data, token.len);
    st = espl_str_status(out);
done:
    espl_str_free(&token);
    return st;
}
