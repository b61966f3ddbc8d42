/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer.json alone decides on ids here. Some directories hold more beside it, which other programs apply, each in
 * its own way: transformers 4 puts a BOS before texts because of add_bos_token, transformers 5 does not; both add
 * tokens of added_tokens_decoder. The user should know of the difference, since it moves every perplexity a little.
 */
#include "beside.h"

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/log.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { BESIDE_BYTES_MAX = 64 << 20 }; /* some tokenizer_config.json list every token of a vocabulary */

/* NULL if there is no such file or no such JSON. Owned by the caller. */
static cJSON *beside_read(const char *dir, const char *name) {
    espl_str path = {0};
    cJSON *doc = NULL;
    espl_str_printf(&path, "%s/%s", dir, name);
    if (!path.failed && espl_file_exists(path.data) && espl_json_read(path.data, BESIDE_BYTES_MAX, &doc) != ESPL_OK)
        ESPL_INFO("note: %s is not read: %s", path.data, espl_base_error_text());
    espl_str_free(&path);
    return doc;
}

/* Tokens that one file has and tokenizer.json lacks. */
typedef struct beside_missing {
    const espl_tokenizer *t;
    int64_t n;
    espl_str first; /* in quotes */
} beside_missing;

/* id < 0: any. */
static void beside_check_token(beside_missing *m, const char *content, int64_t id) {
    if (!content || !*content) return;
    int32_t known = espl_tokenizer_token_id(m->t, content);
    if (known >= 0 && (id < 0 || known == id)) return;
    if (m->n++ == 0) espl_str_put_json(&m->first, content, (int64_t)strlen(content));
}

static void beside_note_missing(beside_missing *m, const char *dir, const char *where) {
    if (m->n > 0 && !m->first.failed)
        ESPL_INFO("note: %s: %" PRId64
                  " tokens of %s are not in tokenizer.json, the first is %.80s: they are spelt out",
                  dir, m->n, where, m->first.data);
    m->n = 0;
    espl_str_free(&m->first);
}

/* A special token is written as a string, or as an object with its content. */
static const char *beside_content(const cJSON *token) {
    return cJSON_GetStringValue(cJSON_IsObject(token) ? cJSON_GetObjectItemCaseSensitive(token, "content") : token);
}

/* add_bos_token and add_eos_token, against the template of tokenizer.json. */
static void beside_check_switch(const cJSON *config, const char *key, bool added, const char *place, const char *dir) {
    const cJSON *wanted = cJSON_GetObjectItemCaseSensitive(config, key);
    if (!cJSON_IsBool(wanted) || cJSON_IsTrue(wanted) == added) return;
    ESPL_INFO(
        "note: %s: \"%s\" of tokenizer_config.json is %s, but tokenizer.json adds %s token %s a text: tokenizer.json "
        "counts, as in transformers 5 (transformers 4 follows \"%s\")",
        dir, key, cJSON_IsTrue(wanted) ? "true" : "false", added ? "a" : "no", place, key);
}

static void beside_note_config(const espl_tokenizer *t, const cJSON *config, const char *dir) {
    static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                        "sep_token", "cls_token", "mask_token"};
    beside_missing m = {.t = t};
    const cJSON *item;
    const espl_tok_template *template = &t->template;
    bool before = template->items[0] != ESPL_TEMPLATE_TEXT;
    bool behind = template->items[template->n - 1] != ESPL_TEMPLATE_TEXT;
    beside_check_switch(config, "add_bos_token", before, "before", dir);
    beside_check_switch(config, "add_eos_token", behind, "behind", dir);

    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(config, "added_tokens_decoder")) {
        if (item->string) beside_check_token(&m, beside_content(item), strtoll(item->string, NULL, 10));
    }
    beside_note_missing(&m, dir, "\"added_tokens_decoder\" (tokenizer_config.json)");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        beside_check_token(&m, beside_content(cJSON_GetObjectItemCaseSensitive(config, roles[i])), -1);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(config, "additional_special_tokens")) {
        beside_check_token(&m, beside_content(item), -1);
    }
    beside_note_missing(&m, dir, "the special tokens of tokenizer_config.json");
}

void espl_tokenizer_note_beside(const espl_tokenizer *t, const char *dir) {
    beside_missing m = {.t = t};
    cJSON *config = beside_read(dir, "tokenizer_config.json"), *added = beside_read(dir, "added_tokens.json");
    const cJSON *item;
    if (cJSON_IsObject(config)) beside_note_config(t, config, dir);
    cJSON_ArrayForEach(item, added) {
        if (item->string && cJSON_IsNumber(item)) beside_check_token(&m, item->string, (int64_t)item->valuedouble);
    }
    beside_note_missing(&m, dir, "added_tokens.json");
    cJSON_Delete(config);
    cJSON_Delete(added);
    espl_base_error_clear(); /* a malformed file is no failure */
}
