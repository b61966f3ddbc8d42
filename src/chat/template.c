/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chat templates: a table of what stands around each message, and a table of the fragments of Jinja by which they are
 * recognised. Fragments are whole expressions, so that a variant that writes another space is not taken for the one
 * that is known here.
 */
#include "espalier/chat/template.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"

enum { TEMPLATE_BYTES_MAX = 4 << 20, CONFIG_BYTES_MAX = 64 << 20 };

/* How a message becomes text. */
typedef enum text_style {
    AS_IS,
    TRIMMED,    /* without white space at its ends */
    NO_THINKING /* without what a reasoning model has written up to </think> */
} text_style;

/* Where a system message goes. */
typedef enum system_place {
    OWN_TURN,
    FIRST_QUESTION, /* at the beginning of the first question, behind `user` */
    LAST_QUESTION   /* the same for the last one */
} system_place;

/* What is written around messages. NULL: nothing. */
typedef struct template_layout {
    const char *begin; /* before everything */
    const char *system, *system_end, *default_system;
    const char *user, *user_end;
    const char *assistant, *assistant_end;
    const char *reply;     /* before the reply */
    const char *end;       /* the token that ends a turn */
    const char *bos, *eos; /* what the Jinja text calls bos_token and eos_token, as far as it uses them */
    system_place place;
    text_style system_style, user_style, assistant_style;
    bool system_always; /* with a system turn even if there is no system message */
    bool adds_special;  /* the tokenizer's own special tokens come first */
} template_layout;

#define CHATML_TURNS                                                                                                   \
    .system = "<|im_start|>system\n", .system_end = "<|im_end|>\n", .user = "<|im_start|>user\n",                      \
    .user_end = "<|im_end|>\n", .assistant = "<|im_start|>assistant\n", .assistant_end = "<|im_end|>\n",               \
    .reply = "<|im_start|>assistant\n", .end = "<|im_end|>"
#define LLAMA3_TURNS                                                                                                   \
    .begin = "<|begin_of_text|>", .bos = "<|begin_of_text|>", .system_end = "<|eot_id|>",                              \
    .user = "<|start_header_id|>user<|end_header_id|>\n\n", .user_end = "<|eot_id|>",                                  \
    .assistant = "<|start_header_id|>assistant<|end_header_id|>\n\n", .assistant_end = "<|eot_id|>",                   \
    .reply = "<|start_header_id|>assistant<|end_header_id|>\n\n", .end = "<|eot_id|>", .system_style = TRIMMED,        \
    .user_style = TRIMMED, .assistant_style = TRIMMED

static const template_layout layouts[ESPL_CHAT_TEMPLATE_COUNT] = {
    [ESPL_CHAT_TEMPLATE_PLAIN] = {.system_end = "\n\n",
                                  .user = "User: ",
                                  .user_end = "\n\n",
                                  .assistant = "Assistant: ",
                                  .assistant_end = "\n\n",
                                  .reply = "Assistant:",
                                  .end = "",
                                  .adds_special = true},
    [ESPL_CHAT_TEMPLATE_CHATML] = {CHATML_TURNS},
    [ESPL_CHAT_TEMPLATE_SMOLLM2] = {CHATML_TURNS,
                                    .default_system =
                                        "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    [ESPL_CHAT_TEMPLATE_QWEN2] = {CHATML_TURNS, .default_system = "You are a helpful assistant."},
    [ESPL_CHAT_TEMPLATE_QWEN25] = {CHATML_TURNS, .default_system = "You are Qwen, created by Alibaba Cloud. You are a "
                                                                   "helpful assistant."},
    /* In the history, transformers leaves out what was thought; with thinking off, an empty thought precedes a reply.
     */
    [ESPL_CHAT_TEMPLATE_QWEN3] = {.system = "<|im_start|>system\n",
                                  .system_end = "<|im_end|>\n",
                                  .user = "<|im_start|>user\n",
                                  .user_end = "<|im_end|>\n",
                                  .assistant = "<|im_start|>assistant\n",
                                  .assistant_end = "<|im_end|>\n",
                                  .reply = "<|im_start|>assistant\n<think>\n\n</think>\n\n",
                                  .end = "<|im_end|>",
                                  .assistant_style = NO_THINKING},
    [ESPL_CHAT_TEMPLATE_LLAMA2] = {.bos = "<s>",
                                   .eos = "</s>",
                                   .system = "<<SYS>>\n",
                                   .system_end = "\n<</SYS>>\n\n",
                                   .user = "<s>[INST] ",
                                   .user_end = " [/INST]",
                                   .assistant = " ",
                                   .assistant_end = " </s>",
                                   .end = "</s>",
                                   .place = FIRST_QUESTION,
                                   .user_style = TRIMMED,
                                   .assistant_style = TRIMMED},
    [ESPL_CHAT_TEMPLATE_LLAMA3] = {LLAMA3_TURNS, .system = "<|start_header_id|>system<|end_header_id|>\n\n"},
    [ESPL_CHAT_TEMPLATE_LLAMA31] = {LLAMA3_TURNS,
                                    .system = "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
                                              "December 2023\nToday Date: 26 Jul 2024\n\n",
                                    .system_always = true},
    [ESPL_CHAT_TEMPLATE_GEMMA] = {.begin = "<bos>",
                                  .bos = "<bos>",
                                  .system_end = "\n\n",
                                  .user = "<start_of_turn>user\n",
                                  .user_end = "<end_of_turn>\n",
                                  .assistant = "<start_of_turn>model\n",
                                  .assistant_end = "<end_of_turn>\n",
                                  .reply = "<start_of_turn>model\n",
                                  .end = "<end_of_turn>",
                                  .place = FIRST_QUESTION,
                                  .user_style = TRIMMED,
                                  .assistant_style = TRIMMED},
    [ESPL_CHAT_TEMPLATE_MISTRAL] = {.begin = "<s>",
                                    .bos = "<s>",
                                    .eos = "</s>",
                                    .system_end = "\n\n",
                                    .user = "[INST] ",
                                    .user_end = " [/INST]",
                                    .assistant_end = "</s>",
                                    .end = "</s>",
                                    .place = FIRST_QUESTION},
    [ESPL_CHAT_TEMPLATE_MISTRAL3] = {.begin = "<s>",
                                     .bos = "<s>",
                                     .eos = "</s>",
                                     .system_end = "\n\n",
                                     .user = "[INST] ",
                                     .user_end = "[/INST]",
                                     .assistant = " ",
                                     .assistant_end = "</s>",
                                     .end = "</s>",
                                     .place = LAST_QUESTION,
                                     .assistant_style = TRIMMED},
    [ESPL_CHAT_TEMPLATE_NEMO] = {.begin = "<s>",
                                 .bos = "<s>",
                                 .eos = "</s>",
                                 .system_end = "\n\n",
                                 .user = "[INST]",
                                 .user_end = "[/INST]",
                                 .assistant_end = "</s>",
                                 .end = "</s>",
                                 .place = LAST_QUESTION},
    [ESPL_CHAT_TEMPLATE_ZEPHYR] = {.eos = "</s>",
                                   .system = "<|system|>\n",
                                   .system_end = "</s>\n",
                                   .user = "<|user|>\n",
                                   .user_end = "</s>\n",
                                   .assistant = "<|assistant|>\n",
                                   .assistant_end = "</s>\n",
                                   .reply = "<|assistant|>\n",
                                   .end = "</s>"},
    [ESPL_CHAT_TEMPLATE_PHI3] = {.system = "<|system|>\n",
                                 .system_end = "<|end|>\n",
                                 .user = "<|user|>\n",
                                 .user_end = "<|end|>\n",
                                 .assistant = "<|assistant|>\n",
                                 .assistant_end = "<|end|>\n",
                                 .reply = "<|assistant|>\n",
                                 .end = "<|end|>"},
    [ESPL_CHAT_TEMPLATE_PHI4] = {.system = "<|im_start|>system<|im_sep|>",
                                 .system_end = "<|im_end|>",
                                 .user = "<|im_start|>user<|im_sep|>",
                                 .user_end = "<|im_end|>",
                                 .assistant = "<|im_start|>assistant<|im_sep|>",
                                 .assistant_end = "<|im_end|>",
                                 .reply = "<|im_start|>assistant<|im_sep|>",
                                 .end = "<|im_end|>"},
    [ESPL_CHAT_TEMPLATE_PHI4MINI] = {.system = "<|system|>",
                                     .system_end = "<|end|>",
                                     .user = "<|user|>",
                                     .user_end = "<|end|>",
                                     .assistant = "<|assistant|>",
                                     .assistant_end = "<|end|>",
                                     .reply = "<|assistant|>",
                                     .end = "<|end|>"},
};

/* ------------------------------------------------------------------- names */

static const char *const names[ESPL_CHAT_TEMPLATE_COUNT] = {
#define X(name, label, models) label,
    ESPL_CHAT_TEMPLATE_LIST(X)
#undef X
};

const char *espl_chat_template_name(espl_chat_template t) { return t < ESPL_CHAT_TEMPLATE_COUNT ? names[t] : "?"; }

bool espl_chat_template_parse(const char *name, espl_chat_template *out) {
    for (int i = 0; i < ESPL_CHAT_TEMPLATE_COUNT; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (espl_chat_template)i;
        return true;
    }
    return false;
}

bool espl_chat_template_adds_special(espl_chat_template t) { return layouts[t].adds_special; }

const char *espl_chat_template_end(espl_chat_template t) { return layouts[t].end ? layouts[t].end : ""; }

/* ------------------------------------------------------------- recognition */

/* Jinja as it is compared. Inside of tags: no white space outside of strings, all quotes single, message.role as
 * message['role']; a line break in a string is \n. */
static void jinja_normalise(const char *p, espl_str *out) {
    char quote = 0;
    bool tag = false;
    for (; *p; p++) {
        if (!tag && *p == '{' && (p[1] == '{' || p[1] == '%' || p[1] == '#')) {
            tag = true;
            espl_str_put(out, p++, 2);
            if (p[1] == '-') p++; /* stripping marks do not matter to expressions */
        } else if (!tag || (quote && *p != quote && *p != '\n')) {
            espl_str_put(out, p, 1);
            if (tag && *p == '\\' && p[1]) espl_str_put(out, ++p, 1);
        } else if (*p == '\n' && quote) {
            espl_str_puts(out, "\\n");
        } else if (*p == '\'' || *p == '"') {
            quote = quote ? 0 : *p;
            espl_str_puts(out, "'");
        } else if (*p == '}' || *p == '%' || *p == '#') {
            tag = !(p[1] == '}');
            espl_str_put(out, p, 1);
            if (!tag) espl_str_put(out, ++p, 1);
        } else if (strncmp(p, "message.role", 12) == 0) {
            espl_str_puts(out, "message['role']");
            p += 11;
        } else if (strncmp(p, "message.content", 15) == 0) {
            espl_str_puts(out, "message['content']");
            p += 14;
        } else if (!isspace((unsigned char)*p)) {
            espl_str_put(out, p, 1);
        }
    }
}

enum { FRAGMENTS_MAX = 4 };

/* In this order. Line breaks in strings are the two characters \n here. */
static const struct {
    espl_chat_template template;
    const char *has[FRAGMENTS_MAX], *lacks[FRAGMENTS_MAX];
} fragments[] = {
    {ESPL_CHAT_TEMPLATE_QWEN3,
     {"'<|im_start|>'+message['role']+'\\n'", "enable_thinkingisfalse", "'<think>\\n\\n</think>\\n\\n'"},
     {"Knowledge Cutoff", "/no_think"}},
    {ESPL_CHAT_TEMPLATE_SMOLLM2,
     {"'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>'",
      "<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n'"},
     {"<think>"}},
    {ESPL_CHAT_TEMPLATE_QWEN25,
     {"'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>'",
      "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
     {"<think>"}},
    {ESPL_CHAT_TEMPLATE_QWEN2,
     {"'<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>'",
      "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n'"},
     {"<think>"}},
    /* A default system message that is not known would begin with a letter. */
    {ESPL_CHAT_TEMPLATE_CHATML,
     {"'<|im_start|>'+message['role']+'\\n'+", "'<|im_start|>assistant\\n'"},
     {"<think>", "<|im_sep|>", "<|im_start|>system\\nY", "!='system'"}},
    {ESPL_CHAT_TEMPLATE_PHI4,
     {"'<|im_start|>user<|im_sep|>'+message['content']+'<|im_end|>",
      "'<|im_start|>system<|im_sep|>'+message['content']+'<|im_end|>'"},
     {"<think>"}},
    {ESPL_CHAT_TEMPLATE_LLAMA31,
     {"'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'",
      "Cutting Knowledge Date: December 2023\\n", "26 Jul 2024", "'Today Date: '+date_string+'\\n\\n'"},
     {"<think>"}},
    {ESPL_CHAT_TEMPLATE_LLAMA3,
     {"'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'",
      "bos_token"},
     {"Cutting Knowledge", "<think>"}},
    {ESPL_CHAT_TEMPLATE_GEMMA,
     {"<start_of_turn>'+role+'\\n'", "message['content']|trim", "<start_of_turn>model\\n", "bos_token"},
     {"developer"}},
    {ESPL_CHAT_TEMPLATE_LLAMA2,
     {"'<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+", "bos_token+'[INST] '+content.strip()+' [/INST]'",
      "' '+content.strip()+' '+eos_token"},
     {NULL}},
    {ESPL_CHAT_TEMPLATE_NEMO,
     {"'[INST]'+message['content']+'[/INST]'", "message['content']+eos_token",
      "'[INST]'+system_message+'\\n\\n'+message['content']+'[/INST]'", "loop.last"},
     {"[SYSTEM_PROMPT]"}},
    {ESPL_CHAT_TEMPLATE_MISTRAL3,
     {"'[INST] '+message['content']+'[/INST]'", "' '+message['content']|trim+eos_token",
      "'[INST] '+system_message+'\\n\\n'+message['content']+'[/INST]'", "loop.last"},
     {"[SYSTEM_PROMPT]"}},
    {ESPL_CHAT_TEMPLATE_MISTRAL,
     {"'[INST] '+message['content']+' [/INST]'", "message['content']+eos_token", "bos_token"},
     {"' '+message['content']", "system_message", "<<SYS>>"}},
    {ESPL_CHAT_TEMPLATE_ZEPHYR,
     {"'<|user|>\\n'+message['content']+eos_token", "'<|system|>\\n'+message['content']+eos_token", "'<|assistant|>'"},
     {"<think>"}},
    {ESPL_CHAT_TEMPLATE_PHI3,
     {"'<|user|>\\n'+message['content']+'<|end|>\\n'", "'<|system|>\\n'+message['content']+'<|end|>\\n'"},
     {"bos_token", "<think>"}},
    {ESPL_CHAT_TEMPLATE_PHI4MINI,
     {"'<|'+message['role']+'|>'+message['content']+'<|end|>'", "'<|assistant|>'"},
     {"bos_token", "<think>"}},
};

espl_status espl_chat_template_recognise(const char *jinja, const char *file, espl_chat_template *out) {
    espl_str normal = {0}, known = {0};
    espl_status st = ESPL_OK;
    *out = ESPL_CHAT_TEMPLATE_PLAIN;
    if (!jinja) return ESPL_OK;
    espl_str_puts(&normal, "");
    jinja_normalise(jinja, &normal);
    ESPL_CHECK(st, done, espl_str_status(&normal));
    for (size_t i = 0; i < sizeof fragments / sizeof *fragments; i++) {
        bool all = true;
        for (int k = 0; k < FRAGMENTS_MAX; k++) {
            all = all && (!fragments[i].has[k] || strstr(normal.data, fragments[i].has[k]));
            all = all && (!fragments[i].lacks[k] || !strstr(normal.data, fragments[i].lacks[k]));
        }
        if (!all) continue;
        *out = fragments[i].template;
        goto done;
    }
    for (int i = ESPL_CHAT_TEMPLATE_PLAIN; i < ESPL_CHAT_TEMPLATE_COUNT; i++)
        espl_str_printf(&known, " \"%s\"", names[i]);
    ESPL_CHECK(st, done, espl_str_status(&known));
    st = ESPL_FAIL(ESPL_UNSUPPORTED,
                   "%s: the chat template is none of those known here; choose the one that lays out messages alike:%s",
                   file, known.data);
done:
    espl_str_free(&normal);
    espl_str_free(&known);
    return st;
}

/* "chat_template" is a text, or a list of {"name", "template"}. */
static const char *config_template(const cJSON *config) {
    const cJSON *node = config ? espl_json_member(config, "chat_template") : NULL, *item;
    if (!cJSON_IsArray(node)) return cJSON_GetStringValue(node);
    cJSON_ArrayForEach(item, node) {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name"));
        if (name && strcmp(name, "default") == 0)
            return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "template"));
    }
    return NULL;
}

/* A template that calls the tokenizer's BOS or EOS by name is only known with the tokens that its models have. */
static espl_status config_check_token(const cJSON *config, const char *key, const char *expected, const char *path) {
    const cJSON *node = config ? espl_json_member(config, key) : NULL;
    const char *token =
        cJSON_GetStringValue(cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, "content") : node);
    if (!expected || !token || strcmp(token, expected) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%s\" is \"%.64s\", but with this chat template \"%s\" is expected", path,
                     key, token, expected);
}

/* transformers prefers the file that holds nothing else. */
espl_status espl_chat_template_find(const char *dir, espl_chat_template *out) {
    espl_str jinja = {0}, config_path = {0};
    cJSON *config = NULL;
    char *text = NULL;
    int64_t len;
    espl_status st;
    *out = ESPL_CHAT_TEMPLATE_PLAIN;
    espl_str_printf(&jinja, "%s/chat_template.jinja", dir);
    espl_str_printf(&config_path, "%s/tokenizer_config.json", dir);
    ESPL_CHECK(st, done, espl_str_status(&jinja));
    ESPL_CHECK(st, done, espl_str_status(&config_path));
    if (espl_file_exists(config_path.data))
        ESPL_CHECK(st, done, espl_json_read(config_path.data, CONFIG_BYTES_MAX, &config));
    if (espl_file_exists(jinja.data)) {
        ESPL_CHECK(st, done, espl_file_read_regular(jinja.data, TEMPLATE_BYTES_MAX, &text, &len));
        ESPL_CHECK(st, done, espl_chat_template_recognise(text, jinja.data, out));
    } else {
        ESPL_CHECK(st, done, espl_chat_template_recognise(config_template(config), config_path.data, out));
    }
    ESPL_CHECK(st, done, config_check_token(config, "bos_token", layouts[*out].bos, config_path.data));
    st = config_check_token(config, "eos_token", layouts[*out].eos, config_path.data);
done:
    espl_json_free(&config);
    espl_mem_free(&text);
    espl_str_free(&jinja);
    espl_str_free(&config_path);
    return st;
}

/* ------------------------------------------------------------------- layout */

static espl_status dialogue_check(const espl_chat_message *messages, int64_t n) {
    int64_t first = n > 0 && messages[0].role == ESPL_CHAT_SYSTEM ? 1 : 0;
    for (int64_t i = first; i < n; i++) {
        espl_chat_role expected = (i - first) % 2 == 0 ? ESPL_CHAT_USER : ESPL_CHAT_ASSISTANT;
        if (messages[i].role != expected)
            return ESPL_FAIL(ESPL_USAGE, "message %" PRId64 " of the dialogue must be the %s's", i + 1,
                             expected == ESPL_CHAT_USER ? "user" : "assistant");
    }
    if (n > first && messages[n - 1].role == ESPL_CHAT_USER) return ESPL_OK;
    return ESPL_FAIL(ESPL_USAGE, "a dialogue of %" PRId64 " messages must end with one of the user", n);
}

static void put_optional(espl_str *text, const char *s) { espl_str_puts(text, s ? s : ""); }

/* White space as Python's str.strip() and Jinja's trim know it in ASCII. */
static bool is_blank(char c) { return c && strchr(" \t\n\v\f\r\x1c\x1d\x1e\x1f", c); }

static void put_styled(espl_str *text, const char *s, text_style style) {
    static const char thought[] = "</think>";
    int64_t n;
    if (style == NO_THINKING && strstr(s, thought)) {
        for (const char *at; (at = strstr(s, thought));) s = at + sizeof thought - 1;
        s += strspn(s, "\n");
    }
    while (style == TRIMMED && is_blank(*s)) s++;
    n = (int64_t)strlen(s);
    while (style == TRIMMED && n > 0 && is_blank(s[n - 1])) n--;
    espl_str_put(text, s, n);
}

/* A user's message with, in front, the system message that has no turn of its own. Llama 2 trims the two together. */
static void put_question(espl_str *text, const template_layout *l, const char *system, const char *user) {
    espl_str both = {0};
    put_optional(text, l->user);
    if (system) {
        put_optional(&both, l->system);
        put_styled(&both, system, l->system_style);
        put_optional(&both, l->system_end);
    }
    if (l->system) { /* marked: part of the question */
        espl_str_puts(&both, user);
        if (both.failed)
            text->failed = true;
        else
            put_styled(text, both.data, l->user_style);
    } else {
        if (system && !both.failed) espl_str_put(text, both.data, both.len);
        text->failed = text->failed || both.failed;
        put_styled(text, user, l->user_style);
    }
    espl_str_free(&both);
    put_optional(text, l->user_end);
}

espl_status espl_chat_template_put(espl_chat_template t, const espl_chat_message *messages, int64_t n, espl_str *text) {
    const template_layout *l = &layouts[t];
    const char *system = NULL;
    if (t <= ESPL_CHAT_TEMPLATE_AUTO || t >= ESPL_CHAT_TEMPLATE_COUNT)
        return ESPL_FAIL(ESPL_INTERNAL, "no chat template is chosen");
    ESPL_TRY(dialogue_check(messages, n));
    if (messages[0].role == ESPL_CHAT_SYSTEM) {
        system = messages[0].text;
        messages++;
        n--;
    } else {
        system = l->default_system;
    }
    put_optional(text, l->begin);
    if (l->place == OWN_TURN && (system || l->system_always)) {
        put_optional(text, l->system);
        put_styled(text, system ? system : "", l->system_style);
        put_optional(text, l->system_end);
    }
    for (int64_t i = 0; i < n; i++) {
        if (messages[i].role == ESPL_CHAT_USER) {
            bool here = l->place == FIRST_QUESTION ? i == 0 : l->place == LAST_QUESTION && i == n - 1;
            put_question(text, l, here ? system : NULL, messages[i].text);
        } else {
            put_optional(text, l->assistant);
            put_styled(text, messages[i].text, l->assistant_style);
            put_optional(text, l->assistant_end);
        }
    }
    put_optional(text, l->reply);
    return espl_str_status(text);
}
