/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over the sorted vocabulary against every token by itself, along random replies, for three tokenizers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../sample_forms.h"
#include "constraint.h"
#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/base/rng.h"

enum { PATH_BYTES = 4096, ROUNDS = 12 };

static espl_tokenizer *open_tokenizer(const char *name) {
    char path[PATH_BYTES], *json;
    int64_t len;
    espl_tokenizer *t;
    snprintf(path, sizeof path, "%s/%s", getenv("ESPL_TEST_ROOT"), name);
    assert_int_equal(espl_file_read(path, 1 << 26, &json, &len), ESPL_OK);
    assert_int_equal(espl_tokenizer_parse(json, len, name, &t), ESPL_OK);
    espl_mem_free(&json);
    return t;
}

/* By the definition, with no help from sorted tokens. */
static bool is_allowed(const espl_constraint *k, const espl_tokenizer *t, const espl_model_config *c, int32_t id) {
    espl_automaton_state s = k->state;
    espl_str bytes = {0};
    bool good = !espl_tokenizer_is_special(t, id) && id != c->eos[0] &&
                espl_tokenizer_token_bytes(t, id, &bytes) == ESPL_OK && bytes.len > 0 && bytes.len <= 128;
    for (int64_t i = 0; good && i < bytes.len; i++) good = espl_automaton_step(&s, bytes.data[i]);
    espl_str_free(&bytes);
    return good && espl_automaton_distance(&s) <= k->left - 1;
}

static void check_replies(const char *name) {
    espl_tokenizer *t = open_tokenizer(name);
    int64_t known = espl_tokenizer_vocab_size(t), vocab = known + 7; /* padded, as models are */
    espl_model_config c = {.vocab = vocab, .eos = {40}, .n_eos = 1};
    espl_vocabulary v;
    int32_t *allowed = calloc((size_t)vocab, sizeof *allowed);
    assert_int_equal(espl_vocabulary_create(&v, t, &c), ESPL_OK);
    for (int round = 0; round < ROUNDS; round++) {
        const espl_form *form = sample_forms[round % SAMPLE_FORMS];
        espl_constraint k;
        espl_rng r;
        bool more = true;
        espl_rng_seed(&r, (uint64_t)round, 0, 3);
        assert_int_equal(espl_constraint_create(&k, &v, form, 90 + round * 5), ESPL_OK);
        while (more) {
            int64_t n = espl_constraint_allow(&k, allowed), next = 0;
            assert_true(n > 0 && k.left > 0);
            for (int32_t id = 0; id < vocab; id++) {
                bool listed = next < n && allowed[next] == id;
                next += listed;
                if (listed != is_allowed(&k, t, &c, id))
                    fail_msg("%s: %s: token %d: %d", name, k.text.data, id, listed);
            }
            assert_int_equal(next, n);
            assert_int_equal(espl_constraint_take(&k, t, allowed[espl_rng_below(&r, n)], &more), ESPL_OK);
        }
        if (!checker_accepts(form, k.text.data)) fail_msg("%s", k.text.data);
        espl_constraint_free(&k);
    }
    free(allowed);
    espl_vocabulary_free(&v);
    espl_tokenizer_close(&t);
}

static void allowed_tokens_are_exactly_these(void **state) {
    (void)state;
    check_replies("golden/tokenizer/qwen3.tokenizer.json");
    check_replies("golden/tokenizer/llama2.tokenizer.json"); /* bytes fall back to tokens of their own */
    check_replies("sapling/model/tokenizer.json");
}

/* A vocabulary without some byte: refused if the form needs it, else only characters that it can complete begin. */
static void a_vocabulary_may_lack_bytes(void **state) {
    (void)state;
    espl_tokenizer *t = open_tokenizer("golden/tokenizer/qwen3.tokenizer.json");
    espl_model_config c = {.vocab = espl_tokenizer_vocab_size(t)};
    espl_vocabulary v;
    espl_constraint k;
    int32_t *allowed = calloc((size_t)c.vocab, sizeof *allowed);
    assert_int_equal(espl_vocabulary_create(&v, t, &c), ESPL_OK);
    v.single['{'] = false;
    assert_int_equal(espl_constraint_create(&k, &v, &form_reply, 200), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "0x7B"));
    espl_constraint_free(&k);
    v.single['{'] = true;
    v.single[0xBF] = false;
    assert_int_equal(espl_constraint_create(&k, &v, &form_why, 20), ESPL_OK);
    while (k.state.frames[0].phase == 0) { /* the quote */
        espl_constraint_allow(&k, allowed);
        bool more;
        assert_int_equal(espl_constraint_take(&k, t, allowed[0], &more), ESPL_OK);
    }
    for (int64_t n = espl_constraint_allow(&k, allowed), i = 0; i < n; i++) {
        espl_str bytes = {0};
        assert_int_equal(espl_tokenizer_token_bytes(t, allowed[i], &bytes), ESPL_OK);
        for (int64_t at = 0; at < bytes.len;) {
            int len = espl_utf8_length(bytes.data + at, bytes.len - at);
            assert_true(len > 0);
            at += len;
        }
        espl_str_free(&bytes);
    }
    espl_constraint_free(&k);
    free(allowed);
    espl_vocabulary_free(&v);
    espl_tokenizer_close(&t);
}

static void a_budget_must_hold_the_form(void **state) {
    (void)state;
    espl_tokenizer *t = open_tokenizer("golden/tokenizer/qwen3.tokenizer.json");
    espl_model_config c = {.vocab = espl_tokenizer_vocab_size(t)};
    espl_vocabulary v;
    espl_constraint k;
    assert_int_equal(espl_vocabulary_create(&v, t, &c), ESPL_OK);
    assert_int_equal(espl_constraint_create(&k, &v, &form_stop, 14), ESPL_CONFIG); /* {"action":"st"} */
    assert_non_null(strstr(espl_base_error_text(), "at most 14 tokens"));
    assert_non_null(strstr(espl_base_error_text(), "may need 15"));
    espl_constraint_free(&k);
    assert_int_equal(espl_constraint_create(&k, &v, &form_stop, 15), ESPL_OK);
    espl_constraint_free(&k);
    espl_vocabulary_free(&v);
    espl_tokenizer_close(&t);
}

static int no_leak(void **state) {
    (void)state;
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allowed_tokens_are_exactly_these),
        cmocka_unit_test(a_vocabulary_may_lack_bytes),
        cmocka_unit_test(a_budget_must_hold_the_form),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
