#include "espalier/eval.h"

enum { TEXT_BYTES = INT32_MAX };

static espl_status share(espl_comm *c, espl_ids *ids, espl_corpus *out) {
    bool root = espl_comm_rank(c) == 0;
    espl_status st = ESPL_OK;
    out->n = root ? ids->len : 0;
    espl_comm_broadcast(c, &out->n, sizeof out->n, 0);
    if (root)
        out->ids = ids->data;
    else
        st = espl_mem_alloc(&out->ids, out->n, sizeof *out->ids, "token ids");
    ESPL_TRY(espl_comm_agree(c, st));
    espl_comm_broadcast(c, out->ids, out->n * (int64_t)sizeof *out->ids, 0);
    return ESPL_OK;
}

/* Agreement on the encoding, then distribution. `ids` is rank 0's and handed over. */
static espl_status finish(espl_comm *c, espl_status st, espl_ids *ids, espl_corpus *out) {
    *out = (espl_corpus){0};
    st = espl_comm_agree(c, st);
    if (st != ESPL_OK) {
        espl_ids_free(ids);
        return st;
    }
    return share(c, ids, out);
}

static espl_status encode(const espl_tokenizer *t, const char *text, int64_t len, espl_ids *ids) {
    double start = espl_clock_now();
    espl_status st = espl_tokenizer_encode(t, text, len, true, ids);
    espl_region_add(ESPL_REGION_TOKENIZE, espl_clock_now() - start);
    return st;
}

espl_status espl_corpus_encode(espl_comm *c, const espl_tokenizer *t, const char *text, int64_t len, espl_corpus *out) {
    espl_ids ids = {0};
    return finish(c, espl_comm_rank(c) == 0 ? encode(t, text, len, &ids) : ESPL_OK, &ids, out);
}

/* Binary files and other encodings are read too, as U+FFFD here and there; rarely is that what was meant. */
static void note_invalid(const char *path, const char *text, int64_t len) {
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < len;) {
        int n = espl_utf8_length(text + i, len - i);
        if (n == 0 && bad++ == 0) first = i;
        i += n > 0 ? n : 1;
    }
    if (bad > 0)
        ESPL_INFO("note: %s: %lld of %lld bytes are not valid UTF-8, the first at byte %lld: read as U+FFFD", path,
                  (long long)bad, (long long)len, (long long)first);
}

static espl_status read_encode(const espl_tokenizer *t, const char *path, espl_ids *ids) {
    char *text;
    int64_t len;
    ESPL_TRY(espl_file_read(path, TEXT_BYTES, &text, &len));
    note_invalid(path, text, len);
    espl_status st = encode(t, text, len, ids);
    espl_mem_free(&text);
    return st;
}

espl_status espl_corpus_read(espl_comm *c, const espl_tokenizer *t, const char *path, espl_corpus *out) {
    espl_ids ids = {0};
    return finish(c, espl_comm_rank(c) == 0 ? read_encode(t, path, &ids) : ESPL_OK, &ids, out);
}

void espl_corpus_free(espl_corpus *c) {
    espl_mem_free(&c->ids);
    c->n = 0;
}
