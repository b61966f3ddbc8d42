/* SPDX-License-Identifier: Apache-2.0 */
/* Ids and decoded text equal to the Hugging Face tokenizers library's, for every golden of tests/golden/tokenizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "espalier/base.h"
#include "espalier/tokenizer.h"

static const char *const names[] = {
    "qwen3",
    "llama3",
    "gpt2",
    "smollm2",
    "llama2",
    "llama2_metaspace",
    "mistral",
    "mistral_tekken",
    "deepseek",
    "gemma",
    "odd_added",
    "odd_added_metaspace",
    "odd_unk",
    "odd_fuse",
    "odd_drop",
    "odd_never",
    "odd_regex",
    "split_isolated",
    "split_isolated_invert",
    "split_removed",
    "split_removed_invert",
    "split_mergedwithprevious",
    "split_mergedwithprevious_invert",
    "split_mergedwithnext",
    "split_mergedwithnext_invert",
    "split_contiguous",
    "split_contiguous_invert",
};

static void golden_path(char *path, size_t size, const char *name) {
    const char *root = getenv("ESPL_TEST_ROOT");
    snprintf(path, size, "%s/golden/tokenizer/%s", root ? root : "tests", name);
}

static cJSON *read_golden(const char *name) {
    char path[4096];
    cJSON *doc = NULL;
    golden_path(path, sizeof path, name);
    if (espl_json_read(path, 1 << 24, &doc) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    return doc;
}

/* U+F8FF stands for NUL. The caller frees. */
static char *unescape(const char *s, int64_t *len) {
    size_t n = strlen(s);
    char *out = malloc(n + 1);
    assert_non_null(out);
    for (*len = 0; *s; (*len)++) {
        bool nul = strncmp(s, "\xEF\xA3\xBF", 3) == 0;
        out[*len] = nul ? '\0' : *s;
        s += nul ? 3 : 1;
    }
    return out;
}

static espl_tokenizer *open_golden(const char *name) {
    char path[4096], file[256], *text;
    int64_t len;
    espl_tokenizer *t;
    snprintf(file, sizeof file, "%s.tokenizer.json", name);
    golden_path(path, sizeof path, file);
    assert_int_equal(espl_file_read(path, 1 << 24, &text, &len), ESPL_OK);
    if (espl_tokenizer_parse(text, len, file, &t) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    espl_mem_free(&text);
    return t;
}

static void check_ids(const char *name, int row, const cJSON *want, const espl_ids *got) {
    int64_t i = 0;
    for (const cJSON *w = want->child; w; w = w->next, i++) {
        if (i >= got->len) fail_msg("%s, text %d: %lld ids, more expected", name, row, (long long)got->len);
        if (got->data[i] != (int32_t)w->valuedouble)
            fail_msg("%s, text %d: id %lld is %d, expected %.0f", name, row, (long long)i, got->data[i],
                     w->valuedouble);
    }
    if (i != got->len) fail_msg("%s, text %d: %lld ids, expected %lld", name, row, (long long)got->len, (long long)i);
}

static void check_decoded(const espl_tokenizer *t, const char *name, int row, const char *want, const espl_ids *ids,
                          bool skip) {
    espl_str s = {0};
    int64_t len;
    char *bytes = unescape(want, &len);
    assert_int_equal(espl_tokenizer_decode(t, ids->data, ids->len, skip, &s), ESPL_OK);
    if (s.len != len || memcmp(s.data, bytes, (size_t)len) != 0)
        fail_msg("%s, text %d, skip_special %d: \"%s\" expected \"%s\"", name, row, skip, s.data, want);
    free(bytes);
    espl_str_free(&s);
}

static void check_row(const espl_tokenizer *t, const char *name, int row, const cJSON *golden, const char *text) {
    const cJSON *want = golden->child, *all = want->next, *skipped = all->next;
    espl_ids ids = {0};
    int64_t len;
    char *bytes = unescape(text, &len);
    assert_int_equal(espl_tokenizer_encode(t, bytes, len, true, &ids), ESPL_OK);
    check_ids(name, row, want, &ids);
    check_decoded(t, name, row, cJSON_IsNull(all) ? text : all->valuestring, &ids, false);
    check_decoded(t, name, row, cJSON_IsNull(skipped) ? text : skipped->valuestring, &ids, true);
    espl_ids_free(&ids);
    free(bytes);
}

static void check_tokenizer(const cJSON *texts, const char *name) {
    char file[256];
    snprintf(file, sizeof file, "%s.golden.json", name);
    cJSON *golden = read_golden(file);
    espl_tokenizer *t = open_golden(name);
    const cJSON *row = cJSON_GetObjectItem(golden, "rows")->child;
    int i = 0;
    for (const cJSON *text = texts->child; text; text = text->next, row = row->next, i++) {
        assert_non_null(row);
        check_row(t, name, i, row, text->valuestring);
    }
    assert_null(row);
    assert_true(i > 50);
    espl_tokenizer_close(&t);
    espl_json_free(&golden);
}

static void ids_and_text_equal_the_library_s(void **state) {
    (void)state;
    int64_t before = espl_mem_balance();
    cJSON *texts = read_golden("texts.json");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_tokenizer(texts, names[i]);
    espl_json_free(&texts);
    assert_int_equal(espl_mem_balance(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ids_and_text_equal_the_library_s)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
