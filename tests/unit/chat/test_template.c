/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chat templates against transformers (tests/golden/chat/make_chat.py): each is recognised, and lays out and encodes
 * dialogues to the same text and ids; all others are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/chat/template.h"
#include "espalier/tokenizer.h"

enum { MESSAGES_MAX = 8, PATH_BYTES = 4096 };

static cJSON *golden;

static char *golden_path(const char *rest) {
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/golden/%s", getenv("ESPL_TEST_ROOT"), rest);
    return path;
}

static int64_t read_messages(const cJSON *array, espl_chat_message *messages) {
    static const char *const roles[] = {"system", "user", "assistant"};
    const cJSON *item;
    int64_t n = 0;
    cJSON_ArrayForEach(item, array) {
        int role = 0;
        const char *name = cJSON_GetObjectItem(item, "role")->valuestring;
        while (role < 2 && strcmp(roles[role], name) != 0) role++;
        messages[n++] = (espl_chat_message){(espl_chat_role)role, cJSON_GetObjectItem(item, "content")->valuestring};
    }
    return n;
}

static void templates_are_recognised(void **state) {
    (void)state;
    const cJSON *item;
    int n = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(golden, "templates")) {
        espl_chat_template t;
        if (espl_chat_template_recognise(item->valuestring, "x", &t) != ESPL_OK)
            fail_msg("%s: %s", item->string, espl_base_error_text());
        assert_string_equal(espl_chat_template_name(t), item->string);
        n++;
    }
    assert_int_equal(n, ESPL_CHAT_TEMPLATE_COUNT - 2); /* all but AUTO and PLAIN */
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(golden, "unknown")) {
        espl_chat_template t;
        if (espl_chat_template_recognise(item->valuestring, "dir/file", &t) != ESPL_UNSUPPORTED)
            fail_msg("taken for %s: %s", espl_chat_template_name(t), item->valuestring);
        assert_non_null(strstr(espl_base_error_text(), "dir/file"));
        assert_non_null(strstr(espl_base_error_text(), "\"plain\" \"chatml\""));
    }
}

static void dialogues_are_laid_out_as_transformers_does(void **state) {
    (void)state;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(golden, "cases")) {
        espl_chat_message messages[MESSAGES_MAX];
        int64_t n = read_messages(cJSON_GetObjectItem(item, "messages"), messages);
        espl_chat_template t;
        espl_str text = {0};
        assert_true(espl_chat_template_parse(cJSON_GetObjectItem(item, "template")->valuestring, &t));
        assert_int_equal(espl_chat_template_put(t, messages, n, &text), ESPL_OK);
        assert_string_equal(text.data, cJSON_GetObjectItem(item, "text")->valuestring);
        espl_str_free(&text);
    }
}

static void and_encoded_to_the_same_ids(void **state) {
    (void)state;
    const cJSON *item;
    int compared = 0;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(golden, "cases")) {
        const cJSON *fixture = cJSON_GetObjectItem(item, "tokenizer"), *ids = cJSON_GetObjectItem(item, "ids");
        const char *text = cJSON_GetObjectItem(item, "text")->valuestring;
        char name[256], *json;
        int64_t len;
        espl_tokenizer *tokenizer;
        espl_ids got = {0};
        espl_chat_template t;
        if (!fixture) continue;
        snprintf(name, sizeof name, "tokenizer/%s.tokenizer.json", fixture->valuestring);
        assert_int_equal(espl_file_read(golden_path(name), 1 << 26, &json, &len), ESPL_OK);
        assert_int_equal(espl_tokenizer_parse(json, len, name, &tokenizer), ESPL_OK);
        assert_true(espl_chat_template_parse(cJSON_GetObjectItem(item, "template")->valuestring, &t));
        assert_false(espl_chat_template_adds_special(t));
        assert_int_equal(espl_tokenizer_encode(tokenizer, text, (int64_t)strlen(text), false, &got), ESPL_OK);
        assert_int_equal(got.len, cJSON_GetArraySize(ids));
        for (int i = 0; i < (int)got.len; i++) assert_int_equal(got.data[i], cJSON_GetArrayItem(ids, i)->valueint);
        compared++;
        espl_ids_free(&got);
        espl_tokenizer_close(&tokenizer);
        espl_mem_free(&json);
    }
    assert_true(compared > 20);
}

static void plain_is_for_base_models(void **state) {
    (void)state;
    static const espl_chat_message dialogue[] = {{ESPL_CHAT_SYSTEM, "Be short."},
                                                 {ESPL_CHAT_USER, "Why?"},
                                                 {ESPL_CHAT_ASSISTANT, "So."},
                                                 {ESPL_CHAT_USER, "Really?"}};
    espl_chat_template t;
    espl_str text = {0};
    assert_int_equal(espl_chat_template_recognise(NULL, "x", &t), ESPL_OK);
    assert_int_equal(t, ESPL_CHAT_TEMPLATE_PLAIN);
    assert_true(espl_chat_template_adds_special(t));
    assert_int_equal(espl_chat_template_put(t, dialogue, 4, &text), ESPL_OK);
    assert_string_equal(text.data, "Be short.\n\nUser: Why?\n\nAssistant: So.\n\nUser: Really?\n\nAssistant:");
    espl_str_free(&text);
}

/* Templates that have no place for a system message put it into the first question. */
static void a_system_message_is_never_lost(void **state) {
    (void)state;
    static const espl_chat_message dialogue[] = {{ESPL_CHAT_SYSTEM, "SYS"}, {ESPL_CHAT_USER, "Q"}};
    for (int t = ESPL_CHAT_TEMPLATE_PLAIN; t < ESPL_CHAT_TEMPLATE_COUNT; t++) {
        espl_str text = {0};
        assert_int_equal(espl_chat_template_put((espl_chat_template)t, dialogue, 2, &text), ESPL_OK);
        const char *system = strstr(text.data, "SYS"), *question = strstr(text.data, "Q");
        assert_true(system && question && system < question);
        if (t == ESPL_CHAT_TEMPLATE_MISTRAL) assert_string_equal(text.data, "<s>[INST] SYS\n\nQ [/INST]");
        espl_str_free(&text);
    }
}

static void what_is_no_dialogue_is_refused(void **state) {
    (void)state;
    const espl_chat_message u = {ESPL_CHAT_USER, "u"}, a = {ESPL_CHAT_ASSISTANT, "a"}, s = {ESPL_CHAT_SYSTEM, "s"};
    const struct {
        espl_chat_message messages[3];
        int64_t n;
        const char *word;
    } table[] = {{{u}, 0, "0 messages"},
                 {{s}, 1, "end with one of the user"},
                 {{u, a}, 2, "end with one of the user"},
                 {{a, u}, 2, "message 1"},
                 {{u, u}, 2, "message 2"},
                 {{u, s, u}, 3, "message 2"},
                 {{s, s, u}, 3, "message 2"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        espl_str text = {0};
        assert_int_equal(espl_chat_template_put(ESPL_CHAT_TEMPLATE_CHATML, table[i].messages, table[i].n, &text),
                         ESPL_USAGE);
        if (!strstr(espl_base_error_text(), table[i].word)) fail_msg("%s", espl_base_error_text());
        espl_str_free(&text);
    }
    assert_int_equal(espl_chat_template_put(ESPL_CHAT_TEMPLATE_AUTO, &u, 1, &(espl_str){0}), ESPL_INTERNAL);
}

static void write_file(const char *dir, const char *name, const char *text) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(espl_file_replace(path, text, (int64_t)strlen(text)), ESPL_OK);
}

static void remove_file(const char *dir, const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

static void directories_are_read_as_transformers_does(void **state) {
    (void)state;
    char dir[] = "/tmp/espl-chat-XXXXXX";
    const char *qwen3 = cJSON_GetObjectItem(cJSON_GetObjectItem(golden, "templates"), "qwen3")->valuestring;
    espl_chat_template t;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_OK);
    assert_int_equal(t, ESPL_CHAT_TEMPLATE_PLAIN);
    write_file(dir, "tokenizer_config.json", "{\"chat_template\": null}");
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_OK);
    assert_int_equal(t, ESPL_CHAT_TEMPLATE_PLAIN);
    write_file(dir, "tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, {\"name\": "
               "\"default\", \"template\": \"{{'<|im_start|>' + message.role + '\\n' + "
               "message.content + '<|im_end|>\\n'}}{{'<|im_start|>assistant\\n'}}\"}]}");
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_OK);
    assert_int_equal(t, ESPL_CHAT_TEMPLATE_CHATML);
    write_file(dir, "tokenizer_config.json", "{\"chat_template\": \"what?\"}");
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_UNSUPPORTED);
    assert_non_null(strstr(espl_base_error_text(), "tokenizer_config.json"));
    write_file(dir, "chat_template.jinja", qwen3);
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_OK);
    assert_int_equal(t, ESPL_CHAT_TEMPLATE_QWEN3);
    write_file(dir, "chat_template.jinja",
               cJSON_GetObjectItem(cJSON_GetObjectItem(golden, "templates"), "zephyr")->valuestring);
    write_file(dir, "tokenizer_config.json", "{\"eos_token\": {\"content\": \"</s>\"}}");
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_OK);
    assert_int_equal(t, ESPL_CHAT_TEMPLATE_ZEPHYR);
    write_file(dir, "tokenizer_config.json", "{\"eos_token\": \"<|endoftext|>\"}");
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_UNSUPPORTED);
    assert_non_null(strstr(espl_base_error_text(), "\"</s>\" is expected"));
    remove_file(dir, "chat_template.jinja");
    write_file(dir, "tokenizer_config.json", "{");
    assert_int_equal(espl_chat_template_find(dir, &t), ESPL_FORMAT);
    remove_file(dir, "tokenizer_config.json");
    rmdir(dir);
}

static int open_golden(void **state) {
    (void)state;
    return espl_json_read(golden_path("chat/chat.json"), 1 << 24, &golden) == ESPL_OK ? 0 : -1;
}

static int close_golden(void **state) {
    (void)state;
    espl_json_free(&golden);
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_are_recognised),
        cmocka_unit_test(dialogues_are_laid_out_as_transformers_does),
        cmocka_unit_test(and_encoded_to_the_same_ids),
        cmocka_unit_test(plain_is_for_base_models),
        cmocka_unit_test(a_system_message_is_never_lost),
        cmocka_unit_test(what_is_no_dialogue_is_refused),
        cmocka_unit_test(directories_are_read_as_transformers_does),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
