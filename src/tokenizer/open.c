/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a tokenizer.json. The file comes with the model and is hostile input: what it may hold is bounded where it is
 * parsed, and nothing of it is trusted later.
 */
#include "tokenizer.h"

#include "beside.h"

#include "espalier/base/absent.h"
#include "espalier/base/file.h"
#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

espl_status espl_tokenizer_parse(const char *json, int64_t len, const char *name, espl_tokenizer **out) {
    static const char keys[] =
        "version|truncation|padding|added_tokens|normalizer|pre_tokenizer|post_processor|decoder|model";
    espl_tokenizer *t = NULL;
    cJSON *doc = NULL;
    const char *version = "1.0"; /* the only one so far; files of old have none */
    espl_where where;
    espl_status st;
    snprintf(where.text, sizeof where.text, "%s", name);
    ESPL_CHECK(st, done, espl_tok_json_parse(json, len, name, &doc));
    ESPL_CHECK(st, done, espl_mem_alloc(&t, 1, sizeof *t, "tokenizer"));
    ESPL_CHECK(st, done, espl_str_dup(&t->name, name, "tokenizer"));
    ESPL_CHECK(st, done, espl_tok_check_keys(doc, &where, keys));
    ESPL_CHECK(st, done, espl_json_get_str(doc, "version", where.text, false, &version));
    const cJSON *model = espl_json_member(doc, "model"), *added = espl_json_member(doc, "added_tokens");
    if (strcmp(version, "1.0") != 0 || !model) {
        st = model ? ESPL_FAIL(ESPL_UNSUPPORTED, "%s.version \"%.64s\" is not supported", name, version)
                   : ESPL_FAIL(ESPL_FORMAT, "%s: \"model\" is missing", name);
        goto done;
    }

    /* In this order: the pre-tokeniser decides on byte mode, which the model needs to know; added tokens take their ids
     * from the model and their forms from the normaliser. */
    ESPL_CHECK(st, done, espl_normalizer_parse(&t->normalizer, espl_json_member(doc, "normalizer"), name));
    ESPL_CHECK(st, done, espl_pretokenizer_parse(&t->pretokenizer, espl_json_member(doc, "pre_tokenizer"), name));
    ESPL_CHECK(st, done, espl_tok_template_parse(&t->template, espl_json_member(doc, "post_processor"), name));
    ESPL_CHECK(st, done, espl_tok_decoder_parse(&t->decoder, espl_json_member(doc, "decoder"), name));
    ESPL_CHECK(st, done, espl_bpe_model_parse(&t->model, model, name));
    ESPL_CHECK(st, done, espl_bpe_model_finish(&t->model, t->pretokenizer.byte_mode));
    ESPL_CHECK(st, done, espl_added_parse(&t->added, added, name, &t->model, &t->normalizer));
    t->vocab_size = t->model.n_ids;
    for (int64_t i = 0; i < t->added.n; i++)
        t->vocab_size = espl_max_i64(t->vocab_size, (int64_t)t->added.tokens[i].id + 1);
done:
    if (st != ESPL_OK) espl_tokenizer_close(&t); /* frees what was parsed: the parts begin as zeros */
    espl_json_free(&doc);                        /* all that the tokenizer keeps has been copied */
    *out = t;
    return st;
}

/* Other files that tokenizers come in. transformers makes tokenizer.json from each of them. */
static espl_status tokenizer_fail_missing(const char *dir, const char *wanted) {
    static const char *const others[] = {"tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        espl_str path = {0};
        espl_str_printf(&path, "%s/%s", dir, others[i]);
        bool found = !path.failed && espl_file_exists(path.data);
        espl_str_free(&path);
        if (found)
            return ESPL_FAIL(
                ESPL_IO,
                "%s: holds no tokenizer.json, but %s: write it with python3 -c \"import transformers as t; "
                "t.AutoTokenizer.from_pretrained('DIR').save_pretrained('DIR')\"",
                dir, others[i]);
    }
    errno = ENOENT;
    return espl_file_fail_open(wanted);
}

espl_status espl_tokenizer_open(const char *dir, espl_tokenizer **out) {
    espl_str path = {0};
    char *text = NULL;
    int64_t len;
    espl_status st;
    *out = NULL;
    espl_str_printf(&path, "%s/tokenizer.json", dir);
    ESPL_CHECK(st, done, espl_str_status(&path));
    if (!espl_file_exists(path.data) && !espl_file_is_dangling(path.data)) {
        st = tokenizer_fail_missing(dir, path.data);
        goto done;
    }
    ESPL_CHECK(st, done, espl_file_read_regular(path.data, ESPL_TOK_MAX_FILE, &text, &len));
    ESPL_CHECK(st, done, espl_tokenizer_parse(text, len, path.data, out));
    espl_tokenizer_note_beside(*out, dir);
done:
    espl_mem_free(&text);
    espl_str_free(&path);
    return st;
}

void espl_tokenizer_close(espl_tokenizer **p) {
    if (!p || !*p) return;
    espl_tokenizer *t = *p;
    espl_normalizer_free(&t->normalizer);
    espl_pretokenizer_free(&t->pretokenizer);
    espl_bpe_model_free(&t->model);
    espl_added_free(&t->added);
    espl_tok_template_free(&t->template);
    espl_tok_decoder_free(&t->decoder);
    espl_mem_free(&t->name);
    espl_mem_free(p);
}
