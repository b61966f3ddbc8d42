/* SPDX-License-Identifier: Apache-2.0 */
/* What the goldens do not show: refusals and their messages, hostile input, invalid UTF-8, long words, threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/base.h"
#include "espalier/tokenizer.h"

/* A byte-level file: model of a, b, ab, the space, U+FFFD's three bytes; `more` is put before the model. */
#define MODEL(options)                                                                                                 \
    "\"model\":{\"type\":\"BPE\"," options "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\u0120\":3,\"\u0120a\":4,"           \
    "\"\u00ef\":5,\"\u00bf\":6,\"\u00bd\":7,\"\u0142\":8,\"<s>\":9,\"\u0100\":10},"                                    \
    "\"merges\":[\"a b\",[\"\u0120\",\"a\"]]}}"
#define BYTES "\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false"
#define FILE_WITH(more) "{\"version\":\"1.0\"," more MODEL("")
#define BYTE_FILE FILE_WITH("\"pre_tokenizer\":{" BYTES "},\"decoder\":{" BYTES "},")

static espl_tokenizer *parse(const char *json) {
    espl_tokenizer *t;
    if (espl_tokenizer_parse(json, (int64_t)strlen(json), "t.json", &t) != ESPL_OK)
        fail_msg("%s", espl_base_error_text());
    return t;
}

static void refused(const char *json, espl_status st, const char *message) {
    int64_t before = espl_mem_balance();
    espl_tokenizer *t;
    espl_status got = espl_tokenizer_parse(json, (int64_t)strlen(json), "t.json", &t);
    if (got != st || !strstr(espl_base_error_text(), message))
        fail_msg("status %s, message \"%s\", expected \"%s\"", espl_status_name(got), espl_base_error_text(), message);
    assert_null(t);
    assert_int_equal(espl_mem_balance(), before);
}

static void encodes_to(const espl_tokenizer *t, const char *text, int64_t len, const int32_t *want, int64_t n) {
    espl_ids ids = {0};
    assert_int_equal(espl_tokenizer_encode(t, text, len, true, &ids), ESPL_OK);
    assert_int_equal(ids.len, n);
    if (n > 0) assert_memory_equal(ids.data, want, (size_t)n * sizeof *want);
    espl_ids_free(&ids);
}
#define ENCODES_TO(t, text, ...)                                                                                       \
    encodes_to(t, text, sizeof(text) - 1, (const int32_t[]){__VA_ARGS__},                                              \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void components_are_refused_by_name(void **state) {
    (void)state;
    refused(FILE_WITH("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{" BYTES "},{\"type\":\"Foo\"}]},"),
            ESPL_UNSUPPORTED, "t.json: pre_tokenizer[1].type \"Foo\" is not supported");
    refused(FILE_WITH("\"normalizer\":{\"type\":\"BertNormalizer\"},"), ESPL_UNSUPPORTED,
            "t.json: normalizer.type \"BertNormalizer\" is not supported");
    refused(FILE_WITH("\"normalizer\":{\"type\":\"NFC\",\"x\":1},"), ESPL_UNSUPPORTED, "normalizer.x is not supported");
    refused(FILE_WITH("\"post_processor\":{\"type\":\"RobertaProcessing\"},"), ESPL_UNSUPPORTED,
            "post_processor.type \"RobertaProcessing\"");
    refused(FILE_WITH("\"decoder\":{\"type\":\"WordPiece\"},"), ESPL_UNSUPPORTED, "decoder.type \"WordPiece\"");
    refused(FILE_WITH("\"extra\":1,"), ESPL_UNSUPPORTED, "t.json.extra is not supported");
    refused("{\"version\":\"2.0\"," MODEL(""), ESPL_UNSUPPORTED, "version \"2.0\"");
    refused("{\"model\":{\"type\":\"Unigram\"}}", ESPL_UNSUPPORTED, "model.type \"Unigram\"");
    refused("{" MODEL("\"dropout\":0.5,"), ESPL_UNSUPPORTED, "model.dropout 0.5");
    refused("{" MODEL("\"end_of_word_suffix\":\"</w>\","), ESPL_UNSUPPORTED, "model.end_of_word_suffix \"</w>\"");
    refused("{" MODEL("\"new\":1,"), ESPL_UNSUPPORTED, "model.new is not supported");
}

static void options_that_change_nothing_are_accepted(void **state) {
    (void)state;
    espl_tokenizer *t =
        parse("{" MODEL("\"dropout\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":null,"));
    espl_tokenizer_close(&t);
    t = parse("{" MODEL("\"dropout\":0.0,"));
    espl_tokenizer_close(&t);
    t = parse(FILE_WITH("\"truncation\":{\"max_length\":1},\"padding\":{\"strategy\":\"BatchLongest\"},"));
    espl_tokenizer_close(&t);
}

static void broken_files_are_errors(void **state) {
    (void)state;
    refused("", ESPL_FORMAT, "t.json: not valid JSON");
    refused("{\"model\":{\"vocab\":", ESPL_FORMAT, "not valid JSON");
    refused("[]", ESPL_FORMAT, "t.json must be an object");
    refused("{}", ESPL_FORMAT, "\"model\" is missing");
    refused("{\"model\":1}", ESPL_FORMAT, "model must be an object");
    refused("{\"model\":{}}", ESPL_FORMAT, "model.vocab must be an object");
    refused("{\"model\":{\"vocab\":{\"a\":0}}}", ESPL_FORMAT, "model.merges must be an array");
    refused("{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", ESPL_FORMAT, "the id of \"a\"");
    refused("{\"model\":{\"vocab\":{\"a\":0.5},\"merges\":[]}}", ESPL_FORMAT, "the id of \"a\"");
    refused("{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", ESPL_FORMAT, "the id of \"a\"");
    refused("{\"model\":{\"vocab\":{\"a\":1e9},\"merges\":[]}}", ESPL_FORMAT, "the id of \"a\"");
    refused("{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", ESPL_FORMAT,
            "id 0 is given to \"a\" and to \"b\"");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", ESPL_FORMAT, "merges[0] names \"b\"");
    refused("{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", ESPL_FORMAT, "merges[0] names \"ab\"");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", ESPL_FORMAT, "merges[0] must be two tokens");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", ESPL_FORMAT, "merges[0] must be two tokens");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", ESPL_FORMAT, "merges[0] must be two strings");
    refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[7]}}", ESPL_FORMAT, "merges[0] must be two strings");
    refused("{\"model\":{\"vocab\":{\"\xFF\":0},\"merges\":[]}}", ESPL_FORMAT, "not valid UTF-8 at byte 20");
    refused(FILE_WITH("\"added_tokens\":7,"), ESPL_FORMAT, "added_tokens must be an array");
    refused(FILE_WITH("\"added_tokens\":[{\"id\":9,\"content\":\"<s>\"}],"), ESPL_FORMAT, "added_tokens[0]");
    refused(FILE_WITH("\"pre_tokenizer\":{\"type\":7},"), ESPL_FORMAT, "pre_tokenizer: \"type\" must be a string");
    refused(FILE_WITH("\"pre_tokenizer\":{\"type\":\"Sequence\"},"), ESPL_FORMAT, "pretokenizers must be an array");
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    espl_str s = {0};
    espl_tokenizer *t;
    espl_str_puts(&s, "{\"normalizer\":");
    for (int i = 0; i < 20; i++) espl_str_puts(&s, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 20; i++) espl_str_puts(&s, "]}");
    espl_str_puts(&s, "," MODEL(""));
    assert_int_equal(espl_tokenizer_parse(s.data, s.len, "t.json", &t), ESPL_UNSUPPORTED);
    assert_non_null(strstr(espl_base_error_text(), "nested too deep"));
    s.len = 0;
    for (int i = 0; i < 100000; i++) espl_str_puts(&s, "[");
    assert_int_equal(espl_tokenizer_parse(s.data, s.len, "t.json", &t), ESPL_FORMAT);
    espl_str_free(&s);
}

#define SPLIT(regex)                                                                                                   \
    FILE_WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex                                  \
              "\"},\"behavior\":\"Isolated\",\"invert\":false},")

static void patterns_are_translated_or_refused(void **state) {
    (void)state;
    static const char *const good[] = {
        SPLIT("a{,3}"),
        SPLIT("\\\\u4e00-"),
        SPLIT("[\\\\u4e00-\\\\u9fa5]+"),
        SPLIT("(?i:'s|'t)"),
        SPLIT("\\\\s+(?!\\\\S)"),
        SPLIT("(?:a{1,2}+)*+"),
        SPLIT("[^\\\\r\\\\n\\\\p{L}]?\\\\p{Han}+"),
        SPLIT("\\\\h\\\\w\\\\d[\\\\w\\\\d\\\\h]"),
        SPLIT("a{b"),
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        espl_tokenizer *t = parse(good[i]);
        espl_tokenizer_close(&t);
    }
    refused(SPLIT("[a&&b]"), ESPL_UNSUPPORTED, "pre_tokenizer.pattern: \"&&\" at byte 2");
    refused(SPLIT("[a[bc]]"), ESPL_UNSUPPORTED, "a set inside a set");
    refused(SPLIT("[[:alpha:]]"), ESPL_UNSUPPORTED, "\"[:\"");
    refused(SPLIT("\\\\p{Script=Han}"), ESPL_UNSUPPORTED, "\\p{Script=Han}");
    refused(SPLIT("a\\\\b"), ESPL_UNSUPPORTED, "\"\\b\" at byte 1");
    refused(SPLIT("(a)\\\\1"), ESPL_UNSUPPORTED, "\"\\1\"");
    refused(SPLIT("(?m:.)"), ESPL_UNSUPPORTED, "\"(?m:\"");
    refused(SPLIT("a{2}?"), ESPL_UNSUPPORTED, "{2}?");
    refused(SPLIT("(a"), ESPL_FORMAT, "pre_tokenizer.pattern: the pattern does not compile");
    refused(SPLIT("[a"), ESPL_FORMAT, "does not compile");
}

static void ids_of_a_template_surround_the_text(void **state) {
    (void)state;
    espl_tokenizer *t = parse(FILE_WITH(
        "\"pre_tokenizer\":{" BYTES
        "},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
        "\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{"
        "\"<s>\":{\"id\":\"<s>\",\"ids\":[9],\"tokens\":[\"<s>\"]}}},"));
    espl_ids ids = {0};
    ENCODES_TO(t, "ab a", 9, 2, 4);
    ENCODES_TO(t, "", 9);
    assert_int_equal(espl_tokenizer_encode(t, "", 0, false, &ids), ESPL_OK);
    assert_int_equal(ids.len, 0);
    espl_ids_free(&ids);
    espl_tokenizer_close(&t);
    refused(
        FILE_WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\","
                  "\"type_id\":0}}],\"special_tokens\":{}},"),
        ESPL_FORMAT, "special_tokens has no \"<x>\"");
}

static void invalid_utf8_becomes_one_replacement_per_maximal_part(void **state) {
    (void)state;
    espl_tokenizer *t = parse(BYTE_FILE);
    ENCODES_TO(t, "a\xFF", 0, 5, 6, 7);
    ENCODES_TO(t, "\xE2\x82", 5, 6, 7);
    ENCODES_TO(t, "\xE2\x28", 5, 6, 7); /* "(" is no token */
    ENCODES_TO(t, "\xF0\x9F\x98", 5, 6, 7);
    ENCODES_TO(t, "\xC0\x80", 5, 6, 7, 5, 6, 7);              /* C0 begins nothing */
    ENCODES_TO(t, "\xED\xA0\x80", 5, 6, 7, 5, 6, 7, 5, 6, 7); /* a surrogate: ED A0 begins nothing */
    ENCODES_TO(t,
               "\xF4\x90\x80\x80"
               "b",
               5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 1);
    ENCODES_TO(t, "a\0b", 0, 10, 1);
    espl_tokenizer_close(&t);
}

static void decoding_repairs_and_reports(void **state) {
    (void)state;
    espl_tokenizer *t = parse(BYTE_FILE);
    espl_str s = {0};
    assert_int_equal(espl_tokenizer_decode(t, (int32_t[]){2, 4, 5, 6, 1}, 5, false, &s), ESPL_OK);
    assert_string_equal(s.data, "ab a\xEF\xBF\xBD"
                                "b");
    s.len = 0;
    assert_int_equal(espl_tokenizer_token_bytes(t, 5, &s), ESPL_OK);
    assert_string_equal(s.data, "\xEF");
    s.len = 0;
    assert_int_equal(espl_tokenizer_decode(t, NULL, 0, false, &s), ESPL_OK);
    assert_int_equal(s.len, 0);
    assert_int_equal(espl_tokenizer_decode(t, (int32_t[]){11}, 1, false, &s), ESPL_FORMAT);
    assert_string_equal(espl_base_error_text(), "t.json: there is no token 11");
    assert_int_equal(espl_tokenizer_decode(t, (int32_t[]){-1}, 1, false, &s), ESPL_FORMAT);
    assert_int_equal(espl_tokenizer_token_bytes(t, INT32_MAX, &s), ESPL_FORMAT);
    assert_int_equal(espl_tokenizer_vocab_size(t), 11);
    assert_int_equal(espl_tokenizer_token_id(t, "<s>"), 9);
    assert_int_equal(espl_tokenizer_token_id(t, "nothing"), -1);
    assert_false(espl_tokenizer_is_special(t, 9));
    espl_str_free(&s);
    espl_tokenizer_close(&t);
}

/* Twelve steps that each make a text ten times longer: refused, in bounded time and memory. */
static void steps_that_multiply_the_text_are_refused(void **state) {
    (void)state;
    static const char step[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaaa\"}";
    espl_str json = {0};
    espl_ids ids = {0};
    espl_str_puts(&json, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Sequence\","
                         "\"normalizers\":[");
    for (int i = 0; i < 12; i++) espl_str_printf(&json, "%s%s", i ? "," : "", step);
    espl_str_puts(&json, "]}}");
    espl_tokenizer *t = parse(json.data);
    assert_int_equal(espl_tokenizer_encode(t, "aaaaaaaaaa", 10, false, &ids), ESPL_UNSUPPORTED);
    assert_non_null(strstr(espl_base_error_text(), "more than 256 times longer"));
    espl_ids_free(&ids);
    espl_tokenizer_close(&t);
    espl_str_free(&json);
}

/* The engine of patterns trusts its text to be UTF-8: a step behind ByteFallback must not see half a character. */
static void a_part_of_a_character_takes_no_more_decoder_steps(void **state) {
    (void)state;
    espl_tokenizer *t = parse("{\"model\":{\"byte_fallback\":true,\"vocab\":{\"<0xE3>\":0,\"<0x41>\":1},\"merges\":[]},"
                              "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":"
                              "\"Replace\",\"pattern\":{\"Regex\":\"\\\\p{Lu}\"},\"content\":\"x\"}]}}");
    espl_str s = {0};
    assert_int_equal(espl_tokenizer_token_bytes(t, 0, &s), ESPL_OK);
    assert_string_equal(s.data, "\xE3");
    s.len = 0;
    assert_int_equal(espl_tokenizer_token_bytes(t, 1, &s), ESPL_OK);
    assert_string_equal(s.data, "x");
    espl_str_free(&s);
    espl_tokenizer_close(&t);
}

#define ADDED(content, id)                                                                                             \
    "{\"id\":" id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"              \
    "\"normalized\":false,\"special\":true}"

static void nul_characters_survive_the_json_reader(void **state) {
    (void)state;
    espl_tokenizer *t =
        parse("{\"model\":{\"vocab\":{\"\\u0000\":0,\"a\":1,\"a\\u0000\":2,\"\\\\u0000\":3},\"merges\":[[\"a\","
              "\"\\u0000\"]]},\"added_tokens\":[" ADDED("x\\u0000y", "4") "]}");
    ENCODES_TO(t, "a\0\0x\0y", 2, 0, 4);
    espl_str s = {0};
    assert_int_equal(espl_tokenizer_token_bytes(t, 4, &s), ESPL_OK);
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.data, "x\0y", 3);
    espl_str_free(&s);
    assert_int_equal(espl_tokenizer_token_id(t, "\\u0000"), 3);
    espl_tokenizer_close(&t);
    espl_tokenizer *none;
    assert_int_equal(espl_tokenizer_parse("{\"a\0\":1}", 8, "t.json", &none), ESPL_FORMAT);
}

static void added_tokens_keep_the_library_s_ids(void **state) {
    (void)state;
    espl_tokenizer *t = parse(
        FILE_WITH("\"added_tokens\":[" ADDED("<s>", "9") "," ADDED("<x>", "11") "],\"pre_tokenizer\":{" BYTES "},"));
    ENCODES_TO(t, "a<s>b<x><x", 0, 9, 1, 11);
    assert_int_equal(espl_tokenizer_vocab_size(t), 12);
    assert_true(espl_tokenizer_is_special(t, 11));
    assert_false(espl_tokenizer_is_special(t, -1));
    espl_tokenizer_close(&t);
    refused(FILE_WITH("\"added_tokens\":[" ADDED("<x>", "12") "],"), ESPL_FORMAT, "\"<x>\" has id 12 in the file");
    refused(FILE_WITH("\"added_tokens\":[" ADDED("<s>", "11") "],"), ESPL_FORMAT, "gives it 9");
    refused(FILE_WITH("\"added_tokens\":[" ADDED("<x>", "11") "," ADDED("<x>", "11") "],"), ESPL_FORMAT, "added twice");
    refused(FILE_WITH("\"added_tokens\":[" ADDED("<x>", "-1") "],"), ESPL_FORMAT, "added_tokens[0]: \"id\" is -1");
}

static char *repeat(const char *unit, int64_t n, int64_t *len) {
    espl_str s = {0};
    for (int64_t i = 0; i < n; i++) espl_str_puts(&s, unit);
    *len = s.len;
    assert_int_equal(espl_str_status(&s), ESPL_OK);
    return s.data;
}

static void long_words_take_linear_time(void **state) {
    (void)state;
    espl_tokenizer *t = parse(BYTE_FILE);
    int64_t len;
    char *text = repeat("ab", 1 << 20, &len);
    espl_ids ids = {0};
    double start = espl_clock_now();
    assert_int_equal(espl_tokenizer_encode(t, text, len, false, &ids), ESPL_OK);
    assert_int_equal(ids.len, 1 << 20);
    for (int64_t i = 0; i < ids.len; i++) assert_int_equal(ids.data[i], 2);
    assert_true(espl_clock_now() - start < 60.0); /* quadratic time would be hours */
    espl_ids_free(&ids);
    espl_mem_free(&text);
    espl_tokenizer_close(&t);
}

static void short_and_long_words_merge_alike(void **state) {
    (void)state;
    espl_tokenizer *t =
        parse("{\"model\":{\"vocab\":{\"a\":0,\"aa\":1,\"aaa\":2,\"aaaa\":3,\"b\":4,\"aab\":5},\"merges\":["
              "\"a a\",\"aa b\",\"aa aa\",\"aa a\"]}}");
    ENCODES_TO(t, "aaaaaaa", 3, 2);
    ENCODES_TO(t, "aaab", 2, 4);
    ENCODES_TO(t, "aaaab", 1, 5);
    for (int64_t n = 90; n < 110; n++) { /* around the length where the algorithm changes */
        int64_t len;
        char *text = repeat("a", n, &len);
        espl_ids ids = {0};
        assert_int_equal(espl_tokenizer_encode(t, text, len, false, &ids), ESPL_OK);
        assert_int_equal(ids.len, n / 4 + (n % 4 != 0));
        if (n % 4) assert_int_equal(ids.data[ids.len - 1], n % 4 - 1);
        espl_ids_free(&ids);
        espl_mem_free(&text);
    }
    espl_tokenizer_close(&t);
}

static void patterns_that_need_much_stack_still_match(void **state) {
    (void)state;
    espl_tokenizer *t = parse(SPLIT("(?:a|b)*b"));
    int64_t len;
    char *text = repeat("ab", 200000, &len);
    espl_ids ids = {0};
    assert_int_equal(espl_tokenizer_encode(t, text, len, false, &ids), ESPL_OK);
    assert_int_equal(ids.len, 200000);
    espl_ids_free(&ids);
    espl_mem_free(&text);
    espl_tokenizer_close(&t);
}

static void patterns_that_never_end_are_an_error(void **state) {
    (void)state;
    espl_tokenizer *t = parse(SPLIT("(?:a+)+[cd]"));
    int64_t len;
    char *text = repeat("a", 60, &len);
    espl_ids ids = {0};
    assert_int_equal(espl_tokenizer_encode(t, text, len, false, &ids), ESPL_FAILED);
    assert_non_null(strstr(espl_base_error_text(), "t.json: pre_tokenizer.pattern: matching"));
    assert_int_equal(ids.len, 0);
    espl_ids_free(&ids);
    espl_mem_free(&text);
    espl_tokenizer_close(&t);
}

static void a_missing_unknown_token_is_an_error_when_needed(void **state) {
    (void)state;
    espl_tokenizer *t = parse("{\"model\":{\"unk_token\":\"<unk>\",\"vocab\":{\"a\":0},\"merges\":[]}}");
    espl_ids ids = {0};
    ENCODES_TO(t, "a", 0);
    assert_int_equal(espl_tokenizer_encode(t, "ab", 2, false, &ids), ESPL_FORMAT);
    assert_non_null(strstr(espl_base_error_text(), "unk_token"));
    espl_ids_free(&ids);
    espl_tokenizer_close(&t);
}

static void files_are_opened_by_folder(void **state) {
    (void)state;
    espl_tokenizer *t;
    assert_int_equal(espl_tokenizer_open("/nowhere", &t), ESPL_IO);
    assert_non_null(strstr(espl_base_error_text(), "/nowhere/tokenizer.json"));
    assert_null(t);
    espl_tokenizer_close(&t);
    espl_tokenizer_close(NULL);
}

typedef struct job {
    const espl_tokenizer *t;
    int64_t bad;
} job;

static void *encode_often(void *arg) {
    job *j = arg;
    for (int i = 0; i < 300; i++) {
        espl_ids ids = {0};
        if (espl_tokenizer_encode(j->t, "ab a ab ab", 10, false, &ids) != ESPL_OK || ids.len != 6 || ids.data[1] != 4)
            j->bad++;
        espl_ids_free(&ids);
    }
    return NULL;
}

static void threads_share_one_tokenizer(void **state) {
    (void)state;
    espl_tokenizer *t = parse(BYTE_FILE);
    job jobs[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){.t = t};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].bad, 0);
    }
    espl_tokenizer_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(components_are_refused_by_name),
        cmocka_unit_test(options_that_change_nothing_are_accepted),
        cmocka_unit_test(broken_files_are_errors),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(patterns_are_translated_or_refused),
        cmocka_unit_test(ids_of_a_template_surround_the_text),
        cmocka_unit_test(invalid_utf8_becomes_one_replacement_per_maximal_part),
        cmocka_unit_test(decoding_repairs_and_reports),
        cmocka_unit_test(a_part_of_a_character_takes_no_more_decoder_steps),
        cmocka_unit_test(steps_that_multiply_the_text_are_refused),
        cmocka_unit_test(nul_characters_survive_the_json_reader),
        cmocka_unit_test(added_tokens_keep_the_library_s_ids),
        cmocka_unit_test(long_words_take_linear_time),
        cmocka_unit_test(short_and_long_words_merge_alike),
        cmocka_unit_test(patterns_that_need_much_stack_still_match),
        cmocka_unit_test(patterns_that_never_end_are_an_error),
        cmocka_unit_test(a_missing_unknown_token_is_an_error_when_needed),
        cmocka_unit_test(files_are_opened_by_folder),
        cmocka_unit_test(threads_share_one_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
