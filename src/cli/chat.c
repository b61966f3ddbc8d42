/* SPDX-License-Identifier: Apache-2.0 */
/*
 * espalier chat: one reply of an instruct model to a message on standard input, as free text or within a JSON schema.
 * It runs the same code as the agent of a pruning run that is a local model.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "espalier/base/file.h"
#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/chat/chat.h"
#include "espalier/form/schema.h"
#include "espalier/tensor/workspace.h"
#include "model.h"
#include "options.h"

enum { DEFAULT_TOKENS = 256, DEFAULT_CONTEXT = 4096, MESSAGE_BYTES_MAX = 64 << 20, SCHEMA_BYTES_MAX = 16 << 20 };

/* Given on the command line; defaults in cli_chat. */
typedef struct chat_options {
    cli_shared shared;
    const char *system, *schema;
    int64_t max_tokens, seed;
    double temperature, top_p;
    espl_chat_options chat;
} chat_options;

enum {
    KEY_SYSTEM = CLI_KEY_FIRST,
    KEY_SCHEMA,
    KEY_TEMPLATE,
    KEY_CONTEXT,
    KEY_MAX_TOKENS,
    KEY_TEMPERATURE,
    KEY_TOP_P,
    KEY_SEED
};

static const struct argp_option chat_argp_options[] = {
    {NULL, 0, NULL, 0, "Dialogue:", CLI_GROUP_COMMAND},
    {"system", KEY_SYSTEM, "TEXT", 0, "system message (default: that of the chat template, if it has one)",
     CLI_GROUP_COMMAND},
    {"template", KEY_TEMPLATE, "NAME", 0,
     "chat template; auto recognises that of the model, plain is for base models (default: auto)", CLI_GROUP_COMMAND},
    {"context", KEY_CONTEXT, "TOKENS", 0, "maximum of message and reply together (default: 4096)", CLI_GROUP_COMMAND},
    {NULL, 0, NULL, 0, "Reply:", CLI_GROUP_COMMAND + 1},
    {"schema", KEY_SCHEMA, "FILE", 0, "JSON schema that the reply is kept within; then it is always complete and valid",
     CLI_GROUP_COMMAND + 1},
    {"max-tokens", KEY_MAX_TOKENS, "N", 0, "maximum number of tokens of the reply (default: 256)",
     CLI_GROUP_COMMAND + 1},
    {"temperature", KEY_TEMPERATURE, "T", 0, "sampling temperature; 0 is greedy (default: 0)", CLI_GROUP_COMMAND + 1},
    {"top-p", KEY_TOP_P, "P", 0, "sample among the most likely tokens of total probability P (default: 1)",
     CLI_GROUP_COMMAND + 1},
    {"seed", KEY_SEED, "N", 0, "seed of the sampling (default: 0)", CLI_GROUP_COMMAND + 1},
    {0}};

static error_t chat_parse(int key, char *value, struct argp_state *state) {
#define X(name, label, models) " \"" label "\""
    static const char templates[] = ESPL_CHAT_TEMPLATE_LIST(X);
#undef X
    chat_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_SYSTEM:
        o->system = value;
        return 0;
    case KEY_SCHEMA:
        o->schema = value;
        return 0;
    case KEY_TEMPLATE:
        return espl_chat_template_parse(value, &o->chat.template) ? 0 : cli_fail_choice("template", value, templates);
    case KEY_CONTEXT:
        return cli_take_integer("context", value, 2, CLI_TOKENS_MAX, &o->chat.context);
    case KEY_MAX_TOKENS:
        return cli_take_integer("max-tokens", value, 1, CLI_TOKENS_MAX, &o->max_tokens);
    case KEY_TEMPERATURE:
        return cli_take_real("temperature", value, 0, 100, &o->temperature);
    case KEY_TOP_P:
        return cli_take_real("top-p", value, 0, 1, &o->top_p);
    case KEY_SEED:
        return cli_take_integer("seed", value, 0, CLI_COUNT_MAX, &o->seed);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child chat_children[] = {{&cli_argp_model, 0, NULL, 0}, {&cli_argp_batch, 0, NULL, 0},
                                                  {&cli_argp_json, 0, NULL, 0},  {&cli_argp_output, 0, NULL, 0},
                                                  {&cli_argp_help, 0, NULL, 0},  {0}};
const struct argp cli_chat_argp = {.options = chat_argp_options,
                                   .parser = chat_parse,
                                   .doc = "Answers the message on standard input.",
                                   .children = chat_children};

/* What rank 0 has read. */
typedef struct chat_input {
    char *message, *schema_text;
    espl_form_schema schema;
} chat_input;

/* Rank 0 only. */
static espl_status chat_read_input(const chat_options *o, chat_input *in) {
    int64_t len;
    ESPL_TRY(espl_file_read("-", MESSAGE_BYTES_MAX, &in->message, &len));
    if (len > 0 && in->message[len - 1] == '\n') in->message[--len] = '\0'; /* of echo, or a file's last line */
    if (len == 0) return ESPL_FAIL(ESPL_USAGE, "chat: standard input is empty, expected a message");
    if ((int64_t)strlen(in->message) != len) return ESPL_FAIL(ESPL_USAGE, "chat: the message contains a NUL byte");
    if (!o->schema) return ESPL_OK;
    ESPL_TRY(espl_file_read(o->schema, SCHEMA_BYTES_MAX, &in->schema_text, &len));
    return espl_form_schema_parse(in->schema_text, len, o->schema, &in->schema);
}

/* Rank 0 only. */
static espl_status chat_print(const chat_options *o, const espl_chat_session *chat, const espl_chat_reply *reply) {
    espl_str out = {0};
    espl_json_writer w = espl_json_writer_on(&out);
    const char *text = reply->text.len > 0 ? reply->text.data : "";
    if (!o->shared.json) {
        puts(text);
        return ESPL_OK;
    }
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_bytes(&w, "text", text, reply->text.len);
    espl_json_put_text(&w, "template", espl_chat_template_name(espl_chat_template_of(chat)));
    espl_json_put_i64(&w, "prompt_tokens", reply->prompt_tokens);
    espl_json_put_i64(&w, "tokens", reply->tokens);
    espl_json_put_bool(&w, "cut", reply->cut);
    espl_json_put_fixed(&w, "prompt_seconds", reply->prompt_seconds, 3);
    espl_json_put_fixed(&w, "seconds", reply->seconds, 3);
    espl_json_close(&w);
    espl_status st = espl_str_status(&out);
    if (st == ESPL_OK) puts(out.data);
    espl_str_free(&out);
    return st;
}

/* Rank 0 only, while the others serve. */
static espl_status chat_answer(const chat_options *o, espl_chat_session *chat, const chat_input *in) {
    espl_chat_message messages[2];
    espl_chat_reply reply = {0};
    espl_chat_request request = {.messages = messages,
                                 .form = in->schema.form,
                                 .max_tokens = o->max_tokens,
                                 .temperature = o->temperature,
                                 .top_p = o->top_p,
                                 .seed = (uint64_t)o->seed};
    if (o->system) messages[request.n_messages++] = (espl_chat_message){ESPL_CHAT_SYSTEM, o->system};
    messages[request.n_messages++] = (espl_chat_message){ESPL_CHAT_USER, in->message};
    espl_status st = espl_chat_complete(chat, &request, &reply);
    if (st == ESPL_OK) st = chat_print(o, chat, &reply);
    if (st == ESPL_OK && reply.cut)
        ESPL_INFO("note: the reply was cut off after %" PRId64 " tokens (--max-tokens)", reply.tokens);
    if (st == ESPL_OK)
        ESPL_INFO("%" PRId64 " tokens read in %.2f s, %" PRId64 " written in %.2f s", reply.prompt_tokens,
                  reply.prompt_seconds, reply.tokens, reply.seconds);
    espl_chat_reply_free(&reply);
    return st;
}

espl_status cli_chat(espl_comm *c, int argc, char **argv) {
    chat_options o = {.shared.batch = CLI_DEFAULT_BATCH,
                      .max_tokens = DEFAULT_TOKENS,
                      .top_p = 1,
                      .chat = {.template = ESPL_CHAT_TEMPLATE_AUTO, .context = DEFAULT_CONTEXT}};
    espl_chat_session *chat = NULL;
    chat_input in = {0};
    bool root = espl_comm_rank(c) == 0;
    espl_comm *working;
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_chat_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.model) return ESPL_FAIL(ESPL_USAGE, "chat: --model is required");
    ESPL_TRY(cli_arrange(c, &o.shared, true, &working));
    if (!working) return ESPL_OK;
    c = working;
    o.chat.batch_tokens = espl_min_i64(o.shared.batch, o.chat.context);
    ESPL_CHECK(st, done, espl_comm_agree(c, root ? chat_read_input(&o, &in) : ESPL_OK));
    ESPL_CHECK(st, done, espl_chat_open(c, o.shared.model, &o.chat, &chat));
    ESPL_INFO("%s: %d rank(s) x %d thread(s)", o.shared.model, espl_comm_size(c), espl_tensor_threads());
    if (root) {
        st = chat_answer(&o, chat, &in);
        espl_chat_dismiss(chat);
    } else {
        espl_chat_serve(chat);
    }
    st = espl_comm_agree(c, st);
done:
    espl_chat_close(&chat);
    espl_form_schema_free(&in.schema);
    espl_mem_free(&in.message);
    espl_mem_free(&in.schema_text);
    espl_comm_release(&working);
    return st;
}
