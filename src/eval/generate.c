#include "espalier/eval.h"

typedef struct generation {
    espl_comm *c;
    espl_model *m;
    const espl_sampling *sampling;
    espl_rng rng;
    float *logits;    /* [vocab], meaningful on the last rank */
    int32_t *scratch; /* [vocab] */
    int64_t pos;      /* tokens in the cache */
} generation;

/* Feeds ids to the model; the logits of the last one are left in g->logits on the last rank. */
static espl_status feed(generation *g, const int32_t *ids, int64_t n) {
    int64_t piece = espl_model_batch_tokens(g->m);
    for (int64_t at = 0; at < n; at += piece) {
        espl_segment s = {.pos = g->pos + at, .n = n - at < piece ? n - at : piece, .ids = ids + at};
        if (at + s.n == n) s.logits = g->logits;
        espl_batch b = {.segments = &s, .n = 1};
        ESPL_TRY(espl_model_run(g->m, &b, 1, NULL, NULL));
    }
    g->pos += n;
    return ESPL_OK;
}

/* The last rank picks; everyone learns. */
static int32_t pick(generation *g) {
    int last = espl_comm_size(g->c) - 1;
    int32_t id = 0;
    if (espl_comm_rank(g->c) == last)
        id = espl_model_sample(g->logits, espl_model_config_of(g->m)->vocab, g->sampling, &g->rng, g->scratch);
    espl_comm_broadcast(g->c, &id, sizeof id, last);
    return id;
}

static bool is_eos(const espl_model_config *c, int32_t id) {
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return true;
    return false;
}

static bool wants_more(espl_comm *c, espl_on_token on_token, void *context, const int32_t *ids, int64_t n) {
    bool more = true;
    if (espl_comm_rank(c) == 0 && on_token) more = on_token(context, ids, n);
    espl_comm_broadcast(c, &more, sizeof more, 0);
    return more;
}

static espl_status loop(generation *g, const espl_corpus *prompt, int64_t max_tokens, espl_on_token on_token,
                        void *context, int32_t *out, int64_t *n_out) {
    ESPL_TRY(feed(g, prompt->ids, prompt->n));
    for (*n_out = 0; *n_out < max_tokens;) {
        int32_t id = pick(g);
        if (is_eos(espl_model_config_of(g->m), id)) break;
        out[(*n_out)++] = id;
        if (!wants_more(g->c, on_token, context, out, *n_out) || *n_out == max_tokens) break;
        ESPL_TRY(feed(g, &id, 1));
    }
    return ESPL_OK;
}

espl_status espl_eval_generate(espl_comm *c, espl_model *m, const espl_corpus *prompt, int64_t max_tokens,
                               const espl_sampling *s, uint64_t seed, espl_on_token on_token, void *context,
                               int32_t *out, int64_t *n_out) {
    enum { PURPOSE_SAMPLE = 0x5A };
    generation g = {.c = c, .m = m, .sampling = s};
    int64_t vocab = espl_model_config_of(m)->vocab;
    *n_out = 0;
    espl_rng_seed(&g.rng, seed, 0, PURPOSE_SAMPLE);
    espl_status st = espl_mem_alloc(&g.logits, vocab, sizeof *g.logits, "logits");
    if (st == ESPL_OK) st = espl_mem_alloc(&g.scratch, vocab, sizeof *g.scratch, "sampling scratch");
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) st = loop(&g, prompt, max_tokens, on_token, context, out, n_out);
    espl_mem_free(&g.logits);
    espl_mem_free(&g.scratch);
    return st;
}
