/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and encodes a text on rank 0 and sends its token ids to all ranks. */
#include "espalier/eval/corpus.h"

#include <inttypes.h>
#include <string.h>

#include "broadcast.h"
#include "espalier/base/file.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/rng.h"
#include "espalier/base/str.h"
#include "espalier/eval/documents.h"
#include "note.h"

enum { PROMPT_BYTES_MAX = INT32_MAX };

static espl_status corpus_encode_text(const espl_tokenizer *t, const char *text, int64_t len, espl_ids *ids) {
    ESPL_REGION_SCOPE(ESPL_REGION_TOKENIZE);
    return espl_tokenizer_encode(t, text, len, true, ids);
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
    espl_documents d = {0};
    espl_status st = ESPL_OK;
    if (espl_comm_rank(c) == 0) {
        ESPL_CHECK(st, encoded, espl_documents_read(path, &d));
        espl_eval_note_invalid_bytes(path, d.text.data, d.text.len);
        st = corpus_encode_text(t, d.text.data ? d.text.data : "", d.text.len, &ids);
    }
encoded: /* also after a failure, for which the other ranks wait */
    espl_documents_free(&d);
    return corpus_broadcast(c, st, &ids, out);
}

espl_status espl_corpus_read_stdin(espl_comm *c, const espl_tokenizer *t, espl_corpus *out) {
    espl_ids ids = {0};
    char *text = NULL;
    int64_t len;
    espl_status st = ESPL_OK;
    if (espl_comm_rank(c) == 0) {
        ESPL_CHECK(st, encoded, espl_file_read("-", PROMPT_BYTES_MAX, &text, &len));
        espl_eval_note_invalid_bytes("standard input", text, len);
        st = corpus_encode_text(t, text, len, &ids);
    }
encoded: /* also after a failure, for which the other ranks wait */
    espl_mem_free(&text);
    return corpus_broadcast(c, st, &ids, out);
}

/* ---------------------------------------------------- windows in documents */

/* Rank 0 only. The state of cutting: one document is encoded at a time. */
typedef struct corpus_cutter {
    const espl_tokenizer *t;
    const espl_documents *d;
    const espl_cut *o;
    int32_t *out; /* [windows, window] */
    int64_t cut;  /* windows so far */
    int64_t longest;
    espl_ids ids;
} corpus_cutter;

static espl_status cutter_encode(corpus_cutter *x, int64_t document) {
    const espl_document *item = &x->d->items[document];
    x->ids.len = 0;
    ESPL_TRY(corpus_encode_text(x->t, x->d->text.data + item->start, item->len, &x->ids));
    x->longest = espl_max_i64(x->longest, x->ids.len);
    return ESPL_OK;
}

static void cutter_take(corpus_cutter *x, int64_t at) {
    memcpy(x->out + x->cut++ * x->o->window, x->ids.data + at, (size_t)x->o->window * sizeof *x->out);
}

/* Each window at a random place of a random document, as Wanda and SparseGPT draw from C4. Documents that turn out too
 * short leave the list: the others stay equally likely, and the search ends. */
static espl_status cutter_draw(corpus_cutter *x) {
    int64_t *list, left = x->d->n, window = x->o->window;
    espl_rng rng;
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&list, left, sizeof *list, "list of documents"));
    for (int64_t i = 0; i < left; i++) list[i] = i;
    espl_rng_seed(&rng, x->o->seed, 0, x->o->stream);
    while (x->cut < x->o->windows && left > 0) {
        int64_t k = espl_rng_below(&rng, left);
        ESPL_CHECK(st, done, cutter_encode(x, list[k]));
        if (x->ids.len >= window)
            cutter_take(x, espl_rng_below(&rng, x->ids.len - window + 1));
        else
            list[k] = list[--left];
    }
    st = ESPL_OK;
done:
    espl_mem_free(&list);
    return st;
}

/* Windows side by side from the first document on; what is left of a document is no part of any. */
static espl_status cutter_walk(corpus_cutter *x) {
    for (int64_t i = 0; i < x->d->n && x->cut < x->o->windows; i++) {
        ESPL_TRY(cutter_encode(x, i));
        for (int64_t at = 0; at + x->o->window <= x->ids.len && x->cut < x->o->windows; at += x->o->window)
            cutter_take(x, at);
    }
    return ESPL_OK;
}

static espl_status corpus_cut_local(const espl_tokenizer *t, const char *path, const espl_cut *o, int32_t *out) {
    espl_documents d = {0};
    corpus_cutter x = {.t = t, .d = &d, .o = o, .out = out};
    espl_status st;
    ESPL_CHECK(st, done, espl_documents_read(path, &d));
    espl_eval_note_invalid_bytes(path, d.text.data, d.text.len);
    ESPL_CHECK(st, done, o->random ? cutter_draw(&x) : cutter_walk(&x));
    if (x.cut < o->windows)
        st =
            ESPL_FAIL(ESPL_CONFIG,
                      "%s: its %" PRId64 " documents hold %" PRId64 " windows of %" PRId64 " tokens inside a document, "
                      "but %" PRId64 " are needed (the longest document has %" PRId64 " tokens): use smaller or fewer "
                      "windows, or longer documents",
                      path, d.n, x.cut, o->window, o->windows, x.longest);
done:
    espl_ids_free(&x.ids);
    espl_documents_free(&d);
    return st;
}

espl_status espl_corpus_cut(espl_comm *c, const espl_tokenizer *t, const char *path, const espl_cut *o, int32_t **out) {
    int64_t n = o->window * o->windows;
    espl_status st;
    ESPL_CHECK(st, agree, espl_mem_alloc(out, n, sizeof **out, "windows"));
    if (espl_comm_rank(c) == 0) st = corpus_cut_local(t, path, o, *out);
agree:
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK)
        espl_comm_broadcast(c, *out, n * (int64_t)sizeof **out, 0);
    else
        espl_mem_free(out);
    return st;
}

void espl_corpus_free(espl_corpus *c) {
    espl_mem_free(&c->ids);
    c->n = 0;
}
