/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chat/template: how a model was taught to see a dialogue. Directories of Hugging Face carry a Jinja template; the
 * common ones are known here by name and recognised by what they contain, and lay out the messages as transformers'
 * apply_chat_template(..., add_generation_prompt=True) does. All functions are Local.
 */
#ifndef ESPALIER_CHAT_TEMPLATE_H
#define ESPALIER_CHAT_TEMPLATE_H

#include <stdbool.h>

#include "espalier/base/str.h"

/* X(name, name in options and messages, models). AUTO is whatever the directory's template is recognised as. */
#define ESPL_CHAT_TEMPLATE_LIST(X)                                                                                     \
    X(AUTO, "auto", "the template of the model's directory")                                                           \
    X(PLAIN, "plain", "base models: System, User and Assistant by name")                                               \
    X(CHATML, "chatml", "ChatML without a default system message")                                                     \
    X(SMOLLM2, "smollm2", "SmolLM2-Instruct: ChatML with its system message")                                          \
    X(QWEN2, "qwen2", "Qwen2-Instruct: ChatML with its system message")                                                \
    X(QWEN25, "qwen2.5", "Qwen2.5-Instruct: ChatML with its system message")                                           \
    X(QWEN3, "qwen3", "Qwen3, with thinking switched off")                                                             \
    X(LLAMA2, "llama2", "Llama-2-chat")                                                                                \
    X(LLAMA3, "llama3", "Llama-3-Instruct")                                                                            \
    X(LLAMA31, "llama3.1", "Llama-3.1 to 3.3-Instruct, on 26 Jul 2024")                                                \
    X(GEMMA, "gemma", "Gemma 1 to 3")                                                                                  \
    X(MISTRAL, "mistral", "Mistral-7B-Instruct v0.1 and v0.2, Mixtral")                                                \
    X(MISTRAL3, "mistral-v3", "Mistral-7B-Instruct v0.3")                                                              \
    X(NEMO, "mistral-nemo", "Mistral-Nemo-Instruct")                                                                   \
    X(ZEPHYR, "zephyr", "Zephyr, TinyLlama-Chat")                                                                      \
    X(PHI3, "phi3", "Phi-3 and Phi-3.5")                                                                               \
    X(PHI4, "phi4", "Phi-4")                                                                                           \
    X(PHI4MINI, "phi4-mini", "Phi-4-mini")

typedef enum espl_chat_template {
#define X(name, label, models) ESPL_CHAT_TEMPLATE_##name,
    ESPL_CHAT_TEMPLATE_LIST(X)
#undef X
        ESPL_CHAT_TEMPLATE_COUNT
} espl_chat_template;

typedef enum espl_chat_role { ESPL_CHAT_SYSTEM, ESPL_CHAT_USER, ESPL_CHAT_ASSISTANT } espl_chat_role;

/* A dialogue is: at most one system message, then user and assistant in turns, beginning and ending with the user. */
typedef struct espl_chat_message {
    espl_chat_role role;
    const char *text;
} espl_chat_message;

/* "chatml". Static storage. */
const char *espl_chat_template_name(espl_chat_template t);
/* False if there is no such name. */
bool espl_chat_template_parse(const char *name, espl_chat_template *out);

/* Which template is this Jinja text? NULL: none, a base model, PLAIN. ESPL_UNSUPPORTED naming `file` and the known ones
 * if it is none of them. */
espl_status espl_chat_template_recognise(const char *jinja, const char *file, espl_chat_template *out);
/* The same for a model directory: chat_template.jinja, or "chat_template" of tokenizer_config.json ("default", if it is
 * a list of several). ESPL_IO, ESPL_FORMAT, ESPL_UNSUPPORTED. */
espl_status espl_chat_template_find(const char *dir, espl_chat_template *out);

/* Appends the dialogue, and what precedes the reply to it. ESPL_USAGE for messages that are no dialogue.
 *
 * Where transformers has no answer: a system message becomes the beginning of the first question if the template
 * refuses one (MISTRAL, Gemma 1 and 2). LLAMA31 states the date that its template falls back to: Llama 3.2's takes
 * today's, and would make replies depend on the day. */
espl_status espl_chat_template_put(espl_chat_template t, const espl_chat_message *messages, int64_t n, espl_str *text);
/* True if the tokenizer's own special tokens (a BOS) precede the text. Other templates write their own. */
bool espl_chat_template_adds_special(espl_chat_template t);
/* The token that ends a turn, "" if none is known: a reply ends there even if the model's config does not say so. */
const char *espl_chat_template_end(espl_chat_template t);

#endif
