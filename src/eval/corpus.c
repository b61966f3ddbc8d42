/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and encodes a text on rank 0 and sends its token ids to all ranks. */
#include "espalier/eval/corpus.h"

#include <inttypes.h>

#include "broadcast.h"

/* A larger file is hardly a text to evaluate: refuse it before it fills the memory of rank 0. */
enum { CORPUS_MAX_BYTES = INT32_MAX };

static espl_status corpus_encode_text(const espl_tokenizer *t, const char *text, int64_t len, espl_ids *ids) {
    ESPL_REGION_SCOPE(ESPL_REGION_TOKENIZE);
    return espl_tokenizer_encode(t, text, len, true, ids);
}

/* Says that a file is not UTF-8. It is evaluated all the same, but the user probably meant another file. */
static void corpus_note_invalid_bytes(const char *path, const char *text, int64_t len) {
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < len;) {
        int n = espl_utf8_length(text + i, len - i);
        if (n == 0 && bad++ == 0) first = i;
        i += n > 0 ? n : 1;
    }
    if (bad > 0)
        ESPL_INFO("note: %s: %" PRId64 " of %" PRId64 " bytes are not valid UTF-8, the first at byte %" PRId64
                  ": read as U+FFFD",
                  path, bad, len, first);
}

/* Agrees on the status of rank 0's encoding, then distributes its ids, which *out takes over. */
static espl_status corpus_broadcast(espl_comm *c, espl_status st, espl_ids *ids, espl_corpus *out) {
    *out = (espl_corpus){0};
    st = espl_comm_agree(c, st);
    if (st != ESPL_OK) {
        espl_ids_free(ids);
        return st;
    }
    *out = (espl_corpus){.ids = ids->data, .n = ids->len}; /* both 0 but on rank 0 */
    espl_comm_broadcast(c, &out->n, sizeof out->n, 0);
    return espl_eval_broadcast_array(c, &out->ids, out->n, sizeof *out->ids, "token ids");
}

espl_status espl_corpus_encode(espl_comm *c, const espl_tokenizer *t, const char *text, int64_t len, espl_corpus *out) {
    espl_ids ids = {0};
    espl_status st = espl_comm_rank(c) == 0 ? corpus_encode_text(t, text, len, &ids) : ESPL_OK;
    return corpus_broadcast(c, st, &ids, out);
}

espl_status espl_corpus_read(espl_comm *c, const espl_tokenizer *t, const char *path, espl_corpus *out) {
    espl_ids ids = {0};
    char *text = NULL;
    int64_t len;
    espl_status st = ESPL_OK;
    if (espl_comm_rank(c) == 0) {
        ESPL_CHECK(st, encoded, espl_file_read(path, CORPUS_MAX_BYTES, &text, &len));
        corpus_note_invalid_bytes(path, text, len);
        st = corpus_encode_text(t, text, len, &ids);
    }
encoded: /* also after a failure, for which the other ranks wait */
    espl_mem_free(&text);
    return corpus_broadcast(c, st, &ids, out);
}

void espl_corpus_free(espl_corpus *c) {
    espl_mem_free(&c->ids);
    c->n = 0;
}
