/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chat on a random model, whose tokens are bytes, and on sapling: replies keep their forms and their length
 * whatever the model prefers, are the same on any number of ranks and whatever was asked before, and leave a pruned
 * model alone.
 *
 * usage: test_chat RANDOM_MODEL TRAINED_MODEL
 */
#include <stdlib.h>
#include <string.h>

#include "../sample_forms.h"
#include "espalier/chat/chat.h"
#include "espalier/chat/generate.h"
#include "espalier/form/automaton.h"
#include "espalier/model/forward.h"
#include "harness.h"

enum { CONTEXT = 448, BATCH = 32, SEEDS = 210, TRAINED_SEEDS = 70, FORMS = 7 };

typedef struct run {
    harness *h;
    espl_comm *c;
    const char *dir;
    espl_chat_session *chat;
} run;

static bool is_root(const run *r) { return espl_comm_rank(r->c) == 0; }

static const espl_chat_message question[] = {{ESPL_CHAT_SYSTEM, "You are a pruner."},
                                             {ESPL_CHAT_USER, "Which layers shall be pruned next, and how far?"}};
static const espl_chat_message other_question[] = {
    {ESPL_CHAT_USER, "What is the capital of France? Answer in a word."}};

static const espl_chat_options options = {
    .template = ESPL_CHAT_TEMPLATE_PLAIN, .context = CONTEXT, .batch_tokens = BATCH};

static void open_chat(run *r) { check(r, espl_chat_open(r->c, r->dir, &options, &r->chat) == ESPL_OK, "open"); }

/* Warm: a small change of the logits soon shows. */
static espl_status ask(run *r, const espl_chat_message *messages, int64_t n, int64_t max_tokens,
                       espl_chat_reply *reply) {
    espl_chat_request q = {.messages = messages, .n_messages = n, .max_tokens = max_tokens, .temperature = 1.5};
    return espl_chat_complete(r->chat, &q, reply);
}

static bool texts_equal(const espl_str *a, const espl_str *b) {
    return a->data && b->data && a->len == b->len && memcmp(a->data, b->data, (size_t)a->len) == 0;
}

/* ------------------------------------------------------------------- forms */

static int64_t shortest_reply(int form) {
    espl_automaton *a;
    espl_automaton_state s;
    if (espl_automaton_create(&a, sample_forms[form]) != ESPL_OK) return 0;
    espl_automaton_start(a, &s);
    int64_t bytes = espl_automaton_distance(&s);
    espl_automaton_destroy(&a);
    return bytes;
}

/* Rank 0. From the shortest budget that the form allows to plenty; greedy for the first seeds. */
static void replies_keep_their_form(run *r, int seeds, double temperature) {
    uint64_t hash = 0;
    int64_t tokens = 0, cached = 0;
    for (int seed = 0; seed < seeds; seed++) {
        int form = seed % SAMPLE_FORMS;
        espl_chat_reply reply = {0};
        espl_chat_request q = {.messages = question,
                               .n_messages = 2,
                               .form = sample_forms[form],
                               .max_tokens = shortest_reply(form) + seed / SAMPLE_FORMS * 3,
                               .temperature = seed < SAMPLE_FORMS ? 0 : temperature,
                               .seed = (uint64_t)seed};
        espl_status st = espl_chat_complete(r->chat, &q, &reply);
        if (st != ESPL_OK || reply.cut || reply.tokens > q.max_tokens || reply.text.len == 0 ||
            (int64_t)strlen(reply.text.data) != reply.text.len || !checker_accepts(q.form, reply.text.data))
            harness_fail(r->h, "seed %d: %s (%s, %d of %d tokens)", seed, reply.text.data ? reply.text.data : "",
                         st == ESPL_OK ? "" : espl_base_error_text(), (int)reply.tokens, (int)q.max_tokens);
        hash = espl_hash64(reply.text.data, reply.text.len, hash);
        tokens += reply.tokens;
        cached += reply.cached_tokens;
        espl_chat_reply_free(&reply);
    }
    check(r, cached > 0, "the prompt is cached");
    espl_str_printf(&r->h->lines, "%s: %d replies of %d tokens: %016llx\n", harness_base_name(r->dir), seeds,
                    (int)tokens, (unsigned long long)hash);
}

/* -------------------------------------------------------------------- texts */

/* Rank 0. A reply does not depend on what was asked before, although the prompt is cached; and is what generate makes
 * of the same ids. */
static void replies_do_not_depend_on_the_past(run *r) {
    espl_chat_reply first = {0}, second = {0}, third = {0};
    check(r, ask(r, question, 2, 40, &first) == ESPL_OK && first.cached_tokens == 0, "first reply");
    check(r, ask(r, question, 2, 40, &second) == ESPL_OK, "second reply");
    check(r, second.cached_tokens > 0 && second.cached_tokens % BATCH == 0,
          "the prompt is cached in whole micro-batches");
    check(r, texts_equal(&first.text, &second.text), "the same reply with the prompt cached");
    check(r, ask(r, other_question, 1, 40, &second) == ESPL_OK, "another question");
    check(r, ask(r, question, 2, 40, &third) == ESPL_OK, "third reply");
    check(r, texts_equal(&first.text, &third.text), "the same reply behind another question");
    check(r, first.tokens > 0 && (first.cut ? first.tokens == 40 : first.tokens < 40), "tokens are counted");
    espl_str_put_json(&r->h->lines, first.text.data, first.text.len);
    espl_str_puts(&r->h->lines, "\n");
    espl_chat_reply_free(&first);
    espl_chat_reply_free(&second);
    espl_chat_reply_free(&third);
}

typedef struct counter {
    int left;
    int64_t shown;
} counter;

static bool counter_cancelled(void *context) {
    counter *k = context;
    return k->left-- == 0;
}

static bool counter_on_text(void *context, const char *text, int64_t len) {
    counter *k = context;
    (void)text;
    k->shown = len;
    return k->left-- > 0;
}

static void fails(run *r, const espl_chat_request *q, espl_status status, const char *word) {
    espl_chat_reply reply = {0};
    espl_status st = espl_chat_complete(r->chat, q, &reply);
    if (st != status || !strstr(espl_base_error_text(), word))
        harness_fail(r->h, "%s (%s), expected %s with \"%s\"", espl_status_name(st), espl_base_error_text(),
                     espl_status_name(status), word);
    espl_chat_reply_free(&reply);
}

/* Rank 0. After each failure the chat goes on. */
static void failures_say_what_is_wrong(run *r) {
    counter k = {.left = 3};
    espl_chat_reply reply = {0};
    const espl_form number = {.kind = ESPL_FORM_NUMBER, .hi = 1};
    espl_chat_request q = {.messages = question, .n_messages = 2, .max_tokens = 10};
    q.max_tokens = CONTEXT;
    fails(r, &q, ESPL_CONFIG, "exceed the chat's context of 448");
    q.max_tokens = 0;
    fails(r, &q, ESPL_USAGE, "at most 0");
    q.max_tokens = 10;
    q.n_messages = 1;
    fails(r, &q, ESPL_USAGE, "end with one of the user");
    q.n_messages = 2;
    q.form = &form_reply;
    fails(r, &q, ESPL_CONFIG, "at most 10 tokens is too short");
    q.form = &number;
    fails(r, &q, ESPL_INTERNAL, "no end");
    q.form = NULL;
    q.context = &k;
    q.cancelled = counter_cancelled;
    fails(r, &q, ESPL_STOPPED, "cancelled");
    check(r, k.left == -1, "not asked again once cancelled");
    k.left = 2;
    q.cancelled = NULL;
    q.on_text = counter_on_text;
    check(r, espl_chat_complete(r->chat, &q, &reply) == ESPL_OK && reply.tokens <= 3 && reply.text.len >= k.shown,
          "ended by on_text");
    espl_chat_reply_free(&reply);
}

/* -------------------------------------------------------------- a pruned model */

/* Collective. The sum of log-probabilities of some ids, to the bit, on every rank. */
static double probe(run *r, espl_model *m) {
    int32_t ids[16], targets[16];
    double logprob[16] = {0}, sum = 0;
    for (int i = 0; i < 16; i++) {
        ids[i] = 30 + i * 3;
        targets[i] = 33 + i * 3;
    }
    espl_segment s = {.n = 16, .ids = ids, .targets = targets, .logprob = logprob};
    espl_batch b = {.segments = &s, .n = 1};
    check(r, espl_model_run(m, &b, 1, NULL, NULL) == ESPL_OK, "run");
    for (int i = 0; i < 16; i++) sum += logprob[i];
    espl_comm_broadcast(r->c, &sum, sizeof sum, espl_comm_size(r->c) - 1);
    return sum;
}

/* Collective. Clears every third mask word and halves nothing but the updated weights' first bytes: the model is
 * another one with masks and updates than without. */
static void prune(run *r, espl_masks *masks, espl_model *m) {
    check(r, espl_masks_create(masks, m, true) == ESPL_OK, "masks");
    check(r, espl_masks_keep_updates(masks) == ESPL_OK, "updates");
    for (int64_t i = masks->linears.first; i < masks->linears.last; i++) {
        const espl_linear *l = espl_model_linear(m, i);
        uint64_t *bits = espl_masks_of(masks, i);
        for (int64_t w = 0; w < l->out * espl_mask_words(l->in); w += 3) bits[w] = 0;
        uint16_t *weights = espl_masks_update_of(masks, i);
        for (int64_t k = 1; k < l->out * l->in; k += 5) weights[k] ^= 0x8000; /* other signs */
    }
    espl_masks_accept(masks);
    espl_masks_apply(masks);
}

/* Collective. A chat with the model that is being pruned answers as the dense one, and leaves masks and weights. */
static void a_pruned_model_answers_as_the_dense_one(run *r) {
    espl_model_options o = {0};
    espl_model *m;
    espl_masks masks;
    espl_chat_reply dense = {0}, attached = {0}, masked = {0};
    open_chat(r);
    if (is_root(r)) {
        check(r, ask(r, question, 2, 24, &dense) == ESPL_OK, "dense reply");
        espl_chat_dismiss(r->chat);
    } else {
        espl_chat_serve(r->chat);
    }
    espl_chat_close(&r->chat);

    espl_chat_need(&options, &o);
    check(r, espl_model_open(r->c, r->dir, &o, &m) == ESPL_OK, "open");
    double before = probe(r, m);
    prune(r, &masks, m);
    double pruned = probe(r, m);
    check(r, pruned != before, "pruning changes the model");
    for (int with = 1; with >= 0; with--) { /* without the masks, the chat's model is the pruned one */
        check(r, espl_chat_attach(r->c, r->dir, m, with ? &masks : NULL, &options, &r->chat) == ESPL_OK, "attach");
        if (is_root(r)) {
            check(r, ask(r, question, 2, 24, with ? &attached : &masked) == ESPL_OK, "attached reply");
            espl_chat_dismiss(r->chat);
        } else {
            espl_chat_serve(r->chat);
        }
        espl_chat_close(&r->chat);
        check(r, probe(r, m) == pruned, "masks and updated weights are in place again");
    }
    if (is_root(r)) {
        check(r, texts_equal(&dense.text, &attached.text), "the dense model's reply");
        check(r, !texts_equal(&dense.text, &masked.text), "the pruned model's differs");
    }
    espl_chat_reply_free(&dense);
    espl_chat_reply_free(&attached);
    espl_chat_reply_free(&masked);
    espl_model_close(&m);
    espl_masks_free(&masks);
}

/* Collective. Options that do not fit, and a directory without a tokenizer, on every rank. */
static void opening_fails_on_all_ranks(run *r) {
    espl_model_options o = {.context = 16, .batch_tokens = 16, .slots = 1};
    espl_model *m;
    check(r, espl_model_open(r->c, r->dir, &o, &m) == ESPL_OK, "open");
    check(r, espl_chat_attach(r->c, r->dir, m, NULL, &options, &r->chat) == ESPL_INTERNAL && !r->chat,
          "too small a model");
    check(r, strstr(espl_base_error_text(), "espl_chat_need") != NULL, "too small a model is named");
    espl_model_close(&m);
    check(r, espl_chat_open(r->c, "/nowhere", &options, &r->chat) == ESPL_IO && !r->chat, "no directory");
    check(r, strstr(espl_base_error_text(), "/nowhere") != NULL, "the directory is named");
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 2, ESPL_LOG_QUIET)) return 2;
    run r = {.h = &h, .c = h.c};
    espl_tensor_blas_init();
    h.name = "chat";
    for (int i = 1; i <= 2; i++) {
        r.dir = argv[i];
        h.part = i == 1 ? "random: " : "trained: ";
        open_chat(&r);
        if (is_root(&r)) {
            replies_do_not_depend_on_the_past(&r);
            replies_keep_their_form(&r, i == 1 ? SEEDS : TRAINED_SEEDS, i == 1 ? 2 : 1);
            failures_say_what_is_wrong(&r);
            espl_chat_dismiss(r.chat);
        } else {
            espl_chat_serve(r.chat);
        }
        espl_chat_close(&r.chat);
        a_pruned_model_answers_as_the_dense_one(&r);
    }
    opening_fails_on_all_ranks(&r);
    return harness_end(&h);
}
