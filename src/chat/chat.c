/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chat. Layers of the room, each using those before it: template; vocabulary; constraint; generate; chat.
 *
 * Rank 0 starts each reply with an order to the other ranks: to take part, to note that nothing came of it, or to
 * leave. Everything that can go wrong on rank 0 alone (the messages, the form, the prompt's length) is found out before
 * the order, so that the ranks agree.
 */
#include "espalier/chat/chat.h"

#include <inttypes.h>
#include <string.h>

#include "constraint.h"
#include "espalier/base/integer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/chat/generate.h"

struct espl_chat_session {
    espl_comm *c;
    espl_model *m;
    bool owns_model;
    const espl_masks *masks; /* to apply again after a reply; NULL: none */
    espl_chat_template template;
    espl_tokenizer *t;          /* rank 0 */
    espl_vocabulary vocabulary; /* rank 0; empty until the first form */
    espl_ids cached;            /* prompt whose keys and values are in the KV cache; the same on every rank */
};

void espl_chat_need(const espl_chat_options *chat, espl_model_options *o) {
    o->context = espl_max_i64(o->context, chat->context);
    o->logits_rows = espl_max_i64(o->logits_rows, 1);
    o->slots = espl_max_i64(o->slots, 1);
    if (o->batch_tokens == 0) o->batch_tokens = espl_min_i64(chat->batch_tokens, o->context);
}

/* A token has an entry and, on average over large vocabularies, less than ten bytes; its text, logits and marks. */
int64_t espl_chat_bytes(const espl_model_config *c) {
    enum { TEXT = 16, PER_REPLY = 4 * sizeof(float) + 1, STATES = 1 << 18 };
    return c->vocab * (2 * (int64_t)sizeof(espl_vocabulary_token) + TEXT + PER_REPLY) + STATES;
}

/* Rank 0 only. */
static espl_status chat_open_dialogue(espl_chat_session *chat, const char *dir, const espl_chat_options *o) {
    chat->template = o->template;
    if (o->template == ESPL_CHAT_TEMPLATE_AUTO) ESPL_TRY(espl_chat_template_find(dir, &chat->template));
    ESPL_DEBUG("%s: chat template \"%s\"", dir, espl_chat_template_name(chat->template));
    return espl_tokenizer_open(dir, &chat->t);
}

/* Collective. model NULL: opens one. */
static espl_status chat_create(espl_comm *comm, const char *dir, espl_model *model, const espl_chat_options *o,
                               espl_chat_session **out) {
    espl_chat_session *chat;
    espl_status st = espl_mem_alloc(out, 1, sizeof **out, "chat");
    chat = *out;
    if (st == ESPL_OK) *chat = (espl_chat_session){.c = comm, .m = model, .owns_model = !model};
    if (st == ESPL_OK && espl_comm_rank(comm) == 0) st = chat_open_dialogue(chat, dir, o);
    ESPL_CHECK(st, failed, espl_comm_agree(comm, st));
    if (!model) {
        espl_model_options mo = {0};
        espl_chat_need(o, &mo);
        ESPL_CHECK(st, failed, espl_model_open(comm, dir, &mo, &chat->m));
    }
    const espl_model_options *has = espl_model_options_of(chat->m);
    if (has->context < o->context || has->logits_rows < 1)
        ESPL_CHECK(st, failed, ESPL_FAIL(ESPL_INTERNAL, "the model was not opened for a chat (espl_chat_need)"));
    return ESPL_OK;
failed:
    espl_chat_close(out);
    return st;
}

espl_status espl_chat_open(espl_comm *comm, const char *dir, const espl_chat_options *o, espl_chat_session **out) {
    return chat_create(comm, dir, NULL, o, out);
}

espl_status espl_chat_attach(espl_comm *comm, const char *dir, espl_model *m, const espl_masks *masks,
                             const espl_chat_options *o, espl_chat_session **out) {
    ESPL_TRY(chat_create(comm, dir, m, o, out));
    (*out)->masks = masks;
    return ESPL_OK;
}

void espl_chat_close(espl_chat_session **chatp) {
    espl_chat_session *chat = chatp ? *chatp : NULL;
    if (!chat) return;
    if (chat->owns_model) espl_model_close(&chat->m);
    espl_tokenizer_close(&chat->t);
    espl_vocabulary_free(&chat->vocabulary);
    espl_ids_free(&chat->cached);
    espl_mem_free(chatp);
}

espl_chat_template espl_chat_template_of(const espl_chat_session *chat) { return chat->template; }

const espl_model *espl_chat_model_of(const espl_chat_session *chat) { return chat->m; }

void espl_chat_reply_free(espl_chat_reply *r) { espl_str_free(&r->text); }

/* -------------------------------------------------------------------- a turn */

/* What rank 0 tells the others. */
typedef struct chat_order {
    enum { REPLY, NOTHING, LEAVE } kind;
    int64_t prompt_tokens, max_tokens;
} chat_order;

/* One reply being made. Beside `prompt` all is rank 0's. */
typedef struct chat_turn {
    espl_chat_session *chat;
    const espl_chat_request *request;
    espl_chat_reply *reply;
    espl_ids prompt;
    espl_constraint constraint; /* if the request has a form */
    espl_status st;             /* of the callbacks */
} chat_turn;

static espl_status turn_encode_prompt(chat_turn *k) {
    const espl_chat_request *r = k->request;
    espl_chat_session *chat = k->chat;
    espl_str text = {0};
    int64_t limit = espl_model_options_of(chat->m)->context;
    espl_status st;
    ESPL_CHECK(st, done, espl_chat_template_put(chat->template, r->messages, r->n_messages, &text));
    ESPL_CHECK(st, done, espl_str_status(&text));
    ESPL_CHECK(st, done,
               espl_tokenizer_encode(chat->t, text.data, text.len, espl_chat_template_adds_special(chat->template),
                                     &k->prompt));
    k->reply->prompt_tokens = k->prompt.len;
    if (k->prompt.len == 0 || r->max_tokens < 1)
        st = ESPL_FAIL(ESPL_USAGE,
                       "a prompt of %" PRId64 " tokens and a reply of at most %" PRId64
                       ", expected at least one of each",
                       k->prompt.len, r->max_tokens);
    else if (k->prompt.len > limit - r->max_tokens)
        st = ESPL_FAIL(ESPL_CONFIG,
                       "a prompt of %" PRId64 " tokens and a reply of at most %" PRId64
                       " exceed the chat's context of %" PRId64,
                       k->prompt.len, r->max_tokens, limit);
done:
    espl_str_free(&text);
    return st;
}

/* Rank 0 only. Everything that can fail before the model is run. */
static espl_status turn_prepare(chat_turn *k) {
    espl_chat_session *chat = k->chat;
    const espl_model_config *config = espl_model_config_of(chat->m);
    ESPL_TRY(turn_encode_prompt(k));
    for (int64_t i = 0; i < k->prompt.len; i++)
        if (k->prompt.data[i] >= config->vocab)
            return ESPL_FAIL(ESPL_FORMAT, "token %d of the tokenizer is outside the model's vocabulary of %" PRId64,
                             k->prompt.data[i], config->vocab);
    if (!k->request->form) return ESPL_OK;
    if (!chat->vocabulary.vocab) {
        espl_status st = espl_vocabulary_create(&chat->vocabulary, chat->t, config);
        if (st != ESPL_OK) espl_vocabulary_free(&chat->vocabulary);
        ESPL_TRY(st);
    }
    return espl_constraint_create(&k->constraint, &chat->vocabulary, k->request->form, k->request->max_tokens);
}

static int64_t turn_allow(void *context, int32_t *allowed) {
    chat_turn *k = context;
    return espl_constraint_allow(&k->constraint, allowed);
}

static bool turn_cancelled(void *context) {
    const chat_turn *k = context;
    return k->request->cancelled && k->request->cancelled(k->request->context);
}

/* After each token. A failure ends the reply and is returned by turn_finish. */
static bool turn_on_token(void *context, const int32_t *ids, int64_t n) {
    chat_turn *k = context;
    const espl_chat_request *r = k->request;
    const espl_str *text = &k->reply->text;
    bool more = true;
    if (r->form) {
        k->st = espl_constraint_take(&k->constraint, k->chat->t, ids[n - 1], &more);
        text = &k->constraint.text;
    } else if (r->on_text) {
        k->st = espl_chat_decode(k->chat->t, ids, n, &k->reply->text);
    }
    if (k->st != ESPL_OK) return false;
    if (r->on_text && !r->on_text(r->context, text->data, text->len)) return false;
    return more;
}

/* Rank 0 only. */
static espl_status turn_finish(chat_turn *k, const espl_generated *g, const int32_t *ids) {
    espl_chat_reply *reply = k->reply;
    ESPL_TRY(k->st);
    reply->tokens = g->n;
    reply->cut = g->n == k->request->max_tokens;
    reply->prompt_seconds = g->prompt_seconds;
    reply->seconds = g->reply_seconds;
    if (k->request->form) {
        reply->cut = !espl_automaton_is_complete(&k->constraint.state);
        espl_str_free(&reply->text);
        reply->text = k->constraint.text;
        k->constraint.text = (espl_str){0};
    } else {
        ESPL_TRY(espl_chat_decode(k->chat->t, ids, g->n, &reply->text));
    }
    int64_t read = reply->prompt_tokens - reply->cached_tokens, later = g->n - 1;
    ESPL_DEBUG("chat: prompt of %" PRId64 " tokens (%" PRId64
               " of them cached) in %.2f s, %.1f tokens/s; reply of %" PRId64 " tokens, %.1f tokens/s",
               reply->prompt_tokens, reply->cached_tokens, g->prompt_seconds, (double)read / g->prompt_seconds, g->n,
               later > 0 ? (double)later / g->reply_seconds : 0.0);
    return ESPL_OK;
}

/* Tokens that the prompt has in common with the cached one, in whole micro-batches: computing them again would give the
 * same bits. At least one token is left, whose logits are needed. */
static int64_t turn_count_cached(const chat_turn *k) {
    const espl_ids *cached = &k->chat->cached;
    int64_t piece = espl_model_options_of(k->chat->m)->batch_tokens, n = 0;
    while (n < cached->len && n < k->prompt.len - 1 && cached->data[n] == k->prompt.data[n]) n++;
    return n / piece * piece;
}

/* Collective. */
static espl_status turn_generate(chat_turn *k, const chat_order *order) {
    espl_chat_session *chat = k->chat;
    bool root = k->request && k->reply; /* rank 0 has them */
    espl_generation g = {.max_tokens = order->max_tokens, .end = -1};
    espl_generated result = {0};
    int32_t *ids = NULL;
    espl_ids cached = {0}; /* of this prompt, for the next one */
    espl_status st = ESPL_OK;
    if (!root) {
        st = espl_mem_alloc(&k->prompt.data, order->prompt_tokens, sizeof *k->prompt.data, "prompt");
        k->prompt.len = order->prompt_tokens;
    }
    if (st == ESPL_OK) st = espl_mem_alloc(&ids, order->max_tokens, sizeof *ids, "reply");
    ESPL_CHECK(st, done, espl_comm_agree(chat->c, st));
    espl_comm_broadcast(chat->c, k->prompt.data, k->prompt.len * (int64_t)sizeof *k->prompt.data, 0);
    g.prompt = k->prompt.data;
    g.n_prompt = k->prompt.len;
    g.cached = turn_count_cached(k);
    if (root) {
        const espl_chat_request *r = k->request;
        k->reply->cached_tokens = g.cached;
        g.sampling = (espl_sampling){.temperature = r->temperature, .top_p = r->top_p > 0 ? r->top_p : 1};
        g.seed = r->seed;
        g.end = espl_tokenizer_token_id(chat->t, espl_chat_template_end(chat->template));
        g.context = k;
        g.on_token = turn_on_token;
        g.cancelled = turn_cancelled;
        if (r->form) g.allow = turn_allow;
    }
    if (chat->owns_model) st = espl_ids_append(&cached, k->prompt.data, k->prompt.len);
    ESPL_CHECK(st, done, espl_comm_agree(chat->c, st));
    espl_ids_free(&chat->cached); /* not true any more until the prompt has been read */
    if (chat->masks) espl_masks_apply_dense(chat->masks);
    st = espl_chat_generate(chat->c, chat->m, &g, ids, &result);
    if (chat->masks) espl_masks_apply(chat->masks);
    if (st == ESPL_OK) {
        chat->cached = cached;
        cached = (espl_ids){0};
        if (root) st = turn_finish(k, &result, ids);
        st = espl_comm_agree(chat->c, st);
    }
done:
    espl_ids_free(&cached);
    espl_mem_free(&ids);
    return st;
}

/* Collective. *left: rank 0 has dismissed the others. */
static espl_status chat_take_turn(espl_chat_session *chat, const espl_chat_request *request, espl_chat_reply *reply,
                                  bool *left) {
    chat_turn k = {.chat = chat, .request = request, .reply = reply};
    chat_order order = {.kind = NOTHING};
    espl_status st = ESPL_OK;
    if (espl_comm_rank(chat->c) == 0) {
        if (request && reply) st = turn_prepare(&k);
        order.kind = !request || !reply ? LEAVE : st == ESPL_OK ? REPLY : NOTHING;
        order.prompt_tokens = k.prompt.len;
        order.max_tokens = request ? request->max_tokens : 0;
    }
    espl_comm_broadcast(chat->c, &order, sizeof order, 0);
    *left = order.kind == LEAVE;
    if (order.kind == REPLY)
        st = turn_generate(&k, &order);
    else if (order.kind == NOTHING)
        st = espl_comm_agree(chat->c, st);
    espl_constraint_free(&k.constraint);
    espl_ids_free(&k.prompt);
    return st;
}

espl_status espl_chat_complete(espl_chat_session *chat, const espl_chat_request *request, espl_chat_reply *reply) {
    bool left;
    if (reply) {
        espl_chat_reply_free(reply);
        *reply = (espl_chat_reply){0};
    }
    return chat_take_turn(chat, request, reply, &left);
}

void espl_chat_serve(espl_chat_session *chat) {
    bool left = false;
    while (!left) (void)chat_take_turn(chat, NULL, NULL, &left); /* a failure is rank 0's to deal with */
}

void espl_chat_dismiss(espl_chat_session *chat) {
    bool left;
    (void)chat_take_turn(chat, NULL, NULL, &left);
}
