/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Continues one prompt. Rank 0 chooses each token, because it has what restricts the choice: the last rank sends it the
 * logits, and it broadcasts the token, so that every rank feeds the same id. While the other ranks compute, rank 0
 * finds out which tokens are allowed. One token travels the whole pipeline before the next one starts; eval/decode.h
 * keeps all ranks busy instead.
 */
#include "espalier/chat/generate.h"

#include <inttypes.h>
#include <math.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/rng.h"
#include "espalier/model/forward.h"

/* Keeps this stream of random numbers apart from the others that use the same seed. */
enum { SAMPLING_PURPOSE = 0x5A };

/* Micro-batches of a prompt between two looks at `cancelled`: they fill the pipeline of several ranks. */
enum { PROMPT_BATCHES = 8 };

typedef struct generator {
    espl_comm *c;
    espl_model *m;
    const espl_generation *g;
    bool root, last; /* rank 0 chooses, the last rank has the logits */
    espl_rng rng;
    float *logits;              /* [vocab] on rank 0 and the last one */
    float *narrowed;            /* [vocab] logits of the allowed ids; rank 0 */
    int32_t *allowed, *scratch; /* [vocab]; rank 0 */
} generator;

/* What rank 0 tells the others after each token. */
typedef struct generator_turn {
    enum { GO_ON, END, EOS, FAILED } verdict;
    int32_t id;
} generator_turn;

static espl_status generator_create(generator *k) {
    int64_t vocab = espl_model_config_of(k->m)->vocab;
    espl_rng_seed(&k->rng, k->g->seed, 0, SAMPLING_PURPOSE);
    if (k->root || k->last) ESPL_TRY(espl_mem_alloc(&k->logits, vocab, sizeof *k->logits, "logits"));
    if (!k->root) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&k->scratch, vocab, sizeof *k->scratch, "sampling scratch"));
    if (!k->g->allow) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&k->allowed, vocab, sizeof *k->allowed, "allowed ids"));
    return espl_mem_alloc(&k->narrowed, vocab, sizeof *k->narrowed, "logits");
}

static void generator_destroy(generator *k) {
    espl_mem_free(&k->logits);
    espl_mem_free(&k->narrowed);
    espl_mem_free(&k->allowed);
    espl_mem_free(&k->scratch);
}

/* Collective. */
static espl_status generator_poll(const generator *k) {
    bool cancelled = k->root && k->g->cancelled && k->g->cancelled(k->g->context);
    espl_comm_broadcast(k->c, &cancelled, sizeof cancelled, 0);
    return cancelled ? ESPL_FAIL(ESPL_STOPPED, "the reply was cancelled") : ESPL_OK;
}

/* Runs the prompt; k->logits then predicts the token after it. Micro-batches begin at multiples of their size: a prompt
 * of which a whole number of them is cached is computed in the same pieces, and to the same bits, as without. */
static espl_status generator_read_prompt(generator *k) {
    int64_t piece = espl_model_options_of(k->m)->batch_tokens, n = k->g->n_prompt;
    for (int64_t at = k->g->cached; at < n;) {
        espl_segment segments[PROMPT_BATCHES];
        espl_batch batches[PROMPT_BATCHES];
        int64_t count = 0;
        for (; at < n && count < PROMPT_BATCHES; count++) {
            espl_segment *s = &segments[count];
            *s = (espl_segment){.pos = at, .n = espl_min_i64(piece - at % piece, n - at), .ids = k->g->prompt + at};
            batches[count] = (espl_batch){.segments = s, .n = 1};
            at += s->n;
            if (at == n) s->logits = k->logits;
        }
        ESPL_TRY(generator_poll(k));
        ESPL_TRY(espl_model_run(k->m, batches, count, NULL, NULL));
    }
    return ESPL_OK;
}

/* Feeds one token. */
static espl_status generator_feed(generator *k, int64_t pos, const int32_t *id) {
    espl_segment s = {.pos = pos, .n = 1, .ids = id, .logits = k->logits};
    espl_batch b = {.segments = &s, .n = 1};
    return espl_model_run(k->m, &b, 1, NULL, NULL);
}

/* Rank 0 only. Chooses the token behind the n in out, and appends it unless it ends the reply. */
static espl_status generator_choose(generator *k, int64_t n_allowed, int32_t *out, int64_t n, generator_turn *turn) {
    const espl_model_config *config = espl_model_config_of(k->m);
    const espl_generation *g = k->g;
    const float *logits = g->allow ? k->narrowed : k->logits;
    for (int64_t i = 0; g->allow && i < n_allowed; i++) k->narrowed[i] = k->logits[k->allowed[i]];
    int32_t i = espl_model_sample(logits, g->allow ? n_allowed : config->vocab, &g->sampling, &k->rng, k->scratch);
    if (isnan(logits[i]))
        return ESPL_FAIL(ESPL_FORMAT, "the model's logits are not numbers: its weights hold NaN or infinity, or "
                                      "overflow");
    turn->id = g->allow ? k->allowed[i] : i;
    if (turn->id == g->end) turn->verdict = EOS;
    for (int e = 0; e < config->n_eos; e++)
        if (config->eos[e] == turn->id) turn->verdict = EOS;
    if (turn->verdict == EOS) return ESPL_OK;
    out[n] = turn->id;
    bool more = !g->on_token || g->on_token(g->context, out, n + 1);
    if (!more || n + 1 == g->max_tokens) turn->verdict = END;
    return ESPL_OK;
}

/* Collective. Agrees on the token after the n in out. */
static espl_status generator_take_turn(generator *k, int32_t *out, int64_t n, generator_turn *turn) {
    int64_t bytes = espl_model_config_of(k->m)->vocab * (int64_t)sizeof *k->logits, n_allowed = 0;
    espl_status st = ESPL_OK;
    espl_transfer t = {0};
    *turn = (generator_turn){0};
    if (k->root && k->g->allow) n_allowed = k->g->allow(k->g->context, k->allowed);
    if (k->root && !k->last) st = espl_comm_receive(k->c, k->logits, bytes, espl_comm_size(k->c) - 1, &t);
    if (k->last && !k->root) st = espl_comm_send(k->c, k->logits, bytes, 0, &t);
    espl_comm_wait(k->c, &t);
    if (k->root && k->g->cancelled && k->g->cancelled(k->g->context))
        st = ESPL_FAIL(ESPL_STOPPED, "the reply was cancelled");
    else if (k->root && k->g->allow && n_allowed == 0)
        st = ESPL_FAIL(ESPL_INTERNAL, "no token may come next after %" PRId64, n);
    if (k->root && st == ESPL_OK) st = generator_choose(k, n_allowed, out, n, turn);
    if (st != ESPL_OK) turn->verdict = FAILED;
    espl_comm_broadcast(k->c, turn, sizeof *turn, 0);
    if (turn->verdict == FAILED) return espl_comm_agree(k->c, st);
    if (turn->verdict != EOS) out[n] = turn->id;
    return ESPL_OK;
}

espl_status espl_chat_generate(espl_comm *c, espl_model *m, const espl_generation *g, int32_t *out,
                               espl_generated *result) {
    int rank = espl_comm_rank(c);
    generator k = {.c = c, .m = m, .g = g, .root = rank == 0, .last = rank == espl_comm_size(c) - 1};
    generator_turn turn = {.verdict = g->max_tokens > 0 ? GO_ON : END};
    double start = espl_clock_now();
    espl_status st;
    *result = (espl_generated){0};
    ESPL_CHECK(st, done, espl_comm_agree(c, generator_create(&k)));
    ESPL_CHECK(st, done, generator_read_prompt(&k));
    while (turn.verdict == GO_ON) {
        int64_t n = result->n;
        if (n > 0) ESPL_CHECK(st, done, generator_feed(&k, g->n_prompt + n - 1, &out[n - 1]));
        ESPL_CHECK(st, done, generator_take_turn(&k, out, n, &turn));
        if (n == 0) result->prompt_seconds = espl_clock_now() - start;
        if (turn.verdict != EOS) result->n++;
    }
    result->ended = turn.verdict == EOS;
    result->reply_seconds = espl_clock_now() - start - result->prompt_seconds;
done:
    generator_destroy(&k);
    return st;
}

espl_status espl_chat_decode(const espl_tokenizer *t, const int32_t *ids, int64_t n, espl_str *text) {
    espl_str bytes = {0};
    int32_t *known = NULL;
    int64_t n_known = 0;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&known, n, sizeof *known, "generated ids"));
    for (int64_t i = 0; i < n; i++)
        if (espl_tokenizer_token_bytes(t, ids[i], &bytes) == ESPL_OK) known[n_known++] = ids[i];
    text->len = 0;
    ESPL_CHECK(st, done, espl_tokenizer_decode(t, known, n_known, true, text));
    st = espl_str_status(text);
done:
    espl_str_free(&bytes);
    espl_mem_free(&known);
    return st;
}
