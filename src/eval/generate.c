/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Continues one prompt. Only the last rank has logits: it picks each token and broadcasts it, so that every rank feeds
 * the same id. One token travels the whole pipeline before the next one starts; decode.c keeps all ranks busy instead.
 */
#include "espalier/eval/generate.h"
#include "espalier/model/forward.h"

/* Keeps this stream of random numbers apart from the others that use the same seed. */
enum { SAMPLING_PURPOSE = 0x5A };

/* A sequence alone in slot 0 of the cache. */
typedef struct generation {
    espl_model *m;
    espl_rng rng;
    float *logits;    /* [vocab] written on the last rank only */
    int32_t *scratch; /* [vocab] */
    int64_t pos;      /* tokens in the cache */
} generation;

/* Runs ids[0..n) through the model in pieces of a micro-batch; g->logits then predicts the token after the last one. */
static espl_status generation_feed(generation *g, const int32_t *ids, int64_t n) {
    int64_t piece = espl_model_options_of(g->m)->batch_tokens;
    for (int64_t at = 0; at < n; at += piece) {
        espl_segment s = {.pos = g->pos + at, .n = espl_min_i64(piece, n - at), .ids = ids + at};
        if (at + s.n == n) s.logits = g->logits;
        espl_batch b = {.segments = &s, .n = 1};
        ESPL_TRY(espl_model_run(g->m, &b, 1, NULL, NULL));
    }
    g->pos += n;
    return ESPL_OK;
}

espl_status espl_eval_generate(espl_comm *c, espl_model *m, const espl_corpus *prompt, int64_t max_tokens,
                               const espl_sampling *s, uint64_t seed, espl_on_token on_token, void *context,
                               int32_t *out, int64_t *n_out) {
    generation g = {.m = m};
    const espl_model_config *config = espl_model_config_of(m);
    int last = espl_comm_size(c) - 1;
    espl_status st;
    *n_out = 0;
    espl_rng_seed(&g.rng, seed, 0, SAMPLING_PURPOSE);
    ESPL_CHECK(st, allocated, espl_mem_alloc(&g.logits, config->vocab, sizeof *g.logits, "logits"));
    ESPL_CHECK(st, allocated, espl_mem_alloc(&g.scratch, config->vocab, sizeof *g.scratch, "sampling scratch"));
allocated:
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, generation_feed(&g, prompt->ids, prompt->n));
    for (bool more = true, eos = false; *n_out < max_tokens;) {
        int32_t id = 0;
        if (espl_comm_rank(c) == last) id = espl_model_sample(g.logits, config->vocab, s, &g.rng, g.scratch);
        espl_comm_broadcast(c, &id, sizeof id, last);
        for (int i = 0; i < config->n_eos; i++) eos = eos || config->eos[i] == id;
        if (eos) break;
        out[(*n_out)++] = id;
        /* Only rank 0 shows tokens, so only it can be told to stop. */
        if (espl_comm_rank(c) == 0 && on_token) more = on_token(context, out, *n_out);
        espl_comm_broadcast(c, &more, sizeof more, 0);
        if (!more || *n_out == max_tokens) break;
        ESPL_CHECK(st, done, generation_feed(&g, &id, 1));
    }
done:
    espl_mem_free(&g.logits);
    espl_mem_free(&g.scratch);
    return st;
}
