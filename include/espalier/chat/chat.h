/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A language model that answers, on the ranks of this program: messages become a reply, which can be kept within a
 * form. The dialogue is rank 0's; the other ranks compute their layers.
 *
 *     espl_chat_open(c, dir, &options, &chat);                       all ranks
 *     if (espl_comm_rank(c) == 0) {
 *         espl_chat_complete(chat, &request, &reply);                as often as wanted
 *         espl_chat_dismiss(chat);
 *     } else {
 *         espl_chat_serve(chat);                                     until dismissed
 *     }
 *     espl_chat_close(&chat);
 */
#ifndef ESPALIER_CHAT_H
#define ESPALIER_CHAT_H

#include "espalier/chat/template.h"
#include "espalier/form/form.h"
#include "espalier/model/masks.h"
#include "espalier/model/model.h"

typedef struct espl_chat_session espl_chat_session;

typedef struct espl_chat_options {
    espl_chat_template template; /* AUTO: that of the model's directory */
    int64_t context;             /* tokens of prompt and reply together: the size of the KV cache */
    int64_t batch_tokens;        /* of a micro-batch, in which the prompt is read */
} espl_chat_options;

/* Local. What a model needs to be opened with for a chat: raises context and logits_rows of *o to it, and batch_tokens
 * and slots if they are 0. With espl_model_memory_of it gives the memory of a chat's own model. */
void espl_chat_need(const espl_chat_options *chat, espl_model_options *o);
/* Local. Bytes that rank 0 needs beside the model while it replies: the tokens as byte strings, logits, and states of
 * the form. An estimate from above for vocabularies of natural languages. */
int64_t espl_chat_bytes(const espl_model_config *c);

/* Collective. Opens the model in dir, with its tokenizer and chat template. It shares no state with another open model,
 * of the same directory either: masks and updated weights of that one do not reach this one, whose weights are those of
 * the files (mapped: they are in memory once). Errors of espl_model_open, espl_tokenizer_open (rank 0) and
 * espl_chat_template_find. comm is borrowed. Owned by the caller. */
espl_status espl_chat_open(espl_comm *comm, const char *dir, const espl_chat_options *o, espl_chat_session **out);
/* Collective. Chats with a model that is open already, from dir, with at least the options of espl_chat_need. Each
 * reply is that of the dense model: with `masks` (NULL: the model is never masked), it is made dense during a reply,
 * and has the masks and updated weights applied afterwards. Replies overwrite the KV cache. Model and masks are
 * borrowed. */
espl_status espl_chat_attach(espl_comm *comm, const char *dir, espl_model *m, const espl_masks *masks,
                             const espl_chat_options *o, espl_chat_session **out);
/* Local. NULL-safe. */
void espl_chat_close(espl_chat_session **chat);

/* Local. AUTO resolved, on rank 0. The model that answers, on every rank. */
espl_chat_template espl_chat_template_of(const espl_chat_session *chat);
const espl_model *espl_chat_model_of(const espl_chat_session *chat);

typedef struct espl_chat_request {
    const espl_chat_message *messages;
    int64_t n_messages;
    const espl_form *form; /* of the reply; NULL: any text */
    int64_t max_tokens;    /* of the reply. With a form, the reply is complete within them */
    double temperature;    /* 0: greedy */
    double top_p;          /* sample among the most likely tokens of this probability; 0 counts as 1: all */
    uint64_t seed;
    void *context;                    /* of the callbacks, which may be NULL */
    bool (*cancelled)(void *context); /* polled between tokens, and between parts of a long prompt */
    bool (*on_text)(void *context, const char *text, int64_t len); /* the reply so far; false ends it. The last
                                                                      characters may still change */
} espl_chat_request;

/* Zero-initialise; free with espl_chat_reply_free. */
typedef struct espl_chat_reply {
    espl_str text;
    int64_t prompt_tokens, cached_tokens, tokens; /* cached: of the prompt, known from the reply before */
    bool cut;                                     /* max_tokens ended it */
    double prompt_seconds, seconds;               /* for the prompt, and for the tokens behind the first one */
} espl_chat_reply;
/* Local. */
void espl_chat_reply_free(espl_chat_reply *r);

/* Collective: rank 0 calls it while the others are in espl_chat_serve, or call it with NULL, NULL, once for each call
 * of rank 0. One reply to the messages, the same bits on any number of ranks and whatever was asked before. Replaces
 * *reply. The status is the same on every rank, and the chat can be used after each of them:
 * ESPL_CONFIG: prompt and reply exceed the context (with both numbers); max_tokens cannot hold the form. ESPL_USAGE:
 * messages that are no dialogue. ESPL_STOPPED: cancelled. ESPL_FORMAT: logits that are not numbers. ESPL_INTERNAL: a
 * form that makes no sense. ESPL_NOMEM. */
espl_status espl_chat_complete(espl_chat_session *chat, const espl_chat_request *request, espl_chat_reply *reply);
/* Collective, on ranks other than 0. Takes part in replies, failed ones too, until rank 0 calls espl_chat_dismiss. */
void espl_chat_serve(espl_chat_session *chat);
/* Collective, on rank 0: ends espl_chat_serve. */
void espl_chat_dismiss(espl_chat_session *chat);

#endif
