/* SPDX-License-Identifier: Apache-2.0 */
/* CSV as hostile input, the comparison of answers, confidence intervals, and samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/base/memory.h"
#include "espalier/eval/proportion.h"
#include "mmlu/csv.h"
#include "sample.h"
#include "text.h"

/* Parses a copy of exact size, so that the sanitizer sees reads beyond the end. */
static espl_status csv_parse_copy(const char *text, int64_t len, int64_t columns, espl_csv *out) {
    char *copy = malloc(len ? (size_t)len : 1);
    assert_non_null(copy);
    memcpy(copy, text, (size_t)len);
    espl_status st = espl_csv_parse(copy, len, "t.csv", columns, out);
    free(copy);
    return st;
}

/* `cells`: all cells, each followed by '|', and rows by a line break. */
static void csv_reads(const char *text, int64_t columns, const char *cells) {
    espl_csv c;
    espl_str got = {0};
    if (csv_parse_copy(text, (int64_t)strlen(text), columns, &c) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    espl_str_puts(&got, "");
    for (int64_t r = 0; r < c.rows; r++, espl_str_puts(&got, "\n"))
        for (int64_t k = 0; k < columns; k++) espl_str_printf(&got, "%s|", espl_csv_cell(&c, r, k));
    assert_string_equal(got.data, cells);
    espl_str_free(&got);
    espl_csv_free(&c);
}

static void csv_refuses(const char *text, int64_t len, int64_t columns, const char *words) {
    espl_csv c;
    int64_t before = espl_mem_balance();
    espl_status st = csv_parse_copy(text, len, columns, &c);
    if (st != ESPL_FORMAT || !strstr(espl_base_error_text(), words))
        fail_msg("got %s \"%s\", want \"%s\"", espl_status_name(st), espl_base_error_text(), words);
    assert_int_equal(espl_mem_balance(), before);
}

static void test_csv_keeps_every_cell(void **state) {
    (void)state;
    csv_reads("", 2, "");
    csv_reads("a,b", 2, "a|b|\n");
    csv_reads("a,b\n", 2, "a|b|\n");
    csv_reads("a,b\r\nc,d\r\n", 2, "a|b|\nc|d|\n");
    csv_reads("\n\r\na,b\n\n\nc,d", 2, "a|b|\nc|d|\n");
    csv_reads("\xEF\xBB\xBF\"a\",b", 2, "a|b|\n");
    csv_reads("\"a,1\",\"b\"\"c\"\"\"", 2, "a,1|b\"c\"|\n");
    csv_reads("\"two\nlines\r\n!\",\"\"\n,\n", 2, "two\nlines\r\n!||\n||\n");
    csv_reads("a \"b\" c,d\"", 2, "a \"b\" c|d\"|\n"); /* a quote inside a plain field is itself */
    csv_reads("a\rb,c", 2, "a\rb|c|\n");
    csv_reads(" \"a\",b", 2, " \"a\"|b|\n");
}

static void test_csv_refuses_malformed_files(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"a,b\nc\n", "t.csv: line 2: 1 columns, expected 2"},
        {"a,b\nc,d,e", "t.csv: line 2: 3 columns, expected 2"},
        {"\"x\ny\",b\n\"c\"\n", "t.csv: line 3: 1 columns, expected 2"},
        {"a,b\nc,\"d\n\ne", "t.csv: line 2: a quote is opened and not closed"},
        {"\"a\"b,c", "t.csv: line 1: text after a closing quote"},
        {"\"a\" ,c", "text after a closing quote"},
        {"\"", "a quote is opened and not closed"},
        {"\"a\"\rb,c", "text after a closing quote"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        csv_refuses(cases[i][0], (int64_t)strlen(cases[i][0]), 2, cases[i][1]);
    csv_refuses("a,b\nc\0,d", 8, 2, "t.csv: line 2: a NUL byte");
    csv_refuses("a,\"b\0\"", 6, 2, "t.csv: line 1: a NUL byte");
}

/* Expected values from normalize_answer() of the SQuAD v1.1 evaluation script. */
static void test_normalise_equals_the_squad_script(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"The  Beatles!", "beatles"},
        {"a", ""},
        {"An apple, a day", "apple day"},
        {"U.S.A.", "usa"},
        {"the-answer", "theanswer"},
        {"  Theatre of the\tAbsurd\n", "theatre of absurd"},
        {"\xC3\x89mile Zola", "\xC3\xA9mile zola"},
        {"a\xC3\xA9 a \xE2\x80\x94 the\xE2\x80\x94"
         "an",
         "a\xC3\xA9 \xE2\x80\x94 \xE2\x80\x94"},
        {"\xCE\x91\xCE\x98\xCE\x97\xCE\x9D\xCE\x91", "\xCE\xB1\xCE\xB8\xCE\xB7\xCE\xBD\xCE\xB1"},
        {"\xD0\x9C\xD0\x9E\xD0\xA1\xD0\x9A\xD0\x92\xD0\x90", "\xD0\xBC\xD0\xBE\xD1\x81\xD0\xBA\xD0\xB2\xD0\xB0"},
        {"\xC4\xB0zmir", "i\xCC\x87zmir"},
        {"no\xC2\xA0"
         "break \xE3\x80\x80space",
         "no break space"},
        {"x_y", "xy"},
        {"bad \xFF byte", "bad \xFF byte"},
        {"\xE5\xAF\x8C\xE5\xA3\xAB the \xE5\xB1\xB1", "\xE5\xAF\x8C\xE5\xA3\xAB \xE5\xB1\xB1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        espl_str s = {0};
        espl_text_normalise(cases[i][0], (int64_t)strlen(cases[i][0]), &s);
        assert_string_equal(s.data, cases[i][1]);
        espl_str_free(&s);
    }
}

static void test_only_whole_words_match(void **state) {
    (void)state;
    assert_true(espl_text_has_words("in new york city", "new york"));
    assert_true(espl_text_has_words("new york", "new york"));
    assert_false(espl_text_has_words("new yorker", "new york"));
    assert_false(espl_text_has_words("renew york", "new york"));
    assert_true(espl_text_has_words("lusaka or usa", "usa"));
    assert_false(espl_text_has_words("lusaka", "usa"));
    assert_false(espl_text_has_words("anything", ""));
    assert_false(espl_text_has_words("", "x"));
}

static void test_squeeze_and_lengths_equal_python(void **state) {
    (void)state;
    espl_str s = {0};
    const char *text = " \tNew YORK City\n\xC3\x96l ";
    espl_text_squeeze(text, (int64_t)strlen(text), &s);
    assert_string_equal(s.data, "newyorkcity\n\xC3\xB6l");
    espl_str_free(&s);
    assert_int_equal(espl_text_characters("a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80\xFF", 11), 5);
    assert_int_equal(espl_text_rstrip("a b \n\xE2\x80\x83", 8), 3);
}

/* statsmodels: proportion_confint(method="wilson", alpha = 2 * (1 - Phi(1.96))). */
static void test_wilson_interval_equals_statsmodels(void **state) {
    (void)state;
    espl_proportion s = espl_proportion_of(37, 100);
    assert_float_equal(s.rate, 0.37, 1e-12);
    assert_float_equal(s.low, 0.28182213, 1e-6);
    assert_float_equal(s.high, 0.46779652, 1e-6);
    s = espl_proportion_of(0, 10);
    assert_float_equal(s.low, 0, 0);
    assert_float_equal(s.high, 0.27754017, 1e-6);
    s = espl_proportion_of(10, 10);
    assert_float_equal(s.high, 1, 0);
    assert_float_equal(s.low, 1 - 0.27754017, 1e-6);
    s = espl_proportion_of(0, 0);
    assert_true(s.rate != s.rate);
}

static void test_sample_is_sorted_uniform_and_repeatable(void **state) {
    (void)state;
    int64_t a[100], b[100], counts[100] = {0};
    assert_int_equal(espl_sample_questions(100, 0, 1, a), 100);
    assert_int_equal(espl_sample_questions(100, 1000, 1, a), 100);
    for (int64_t i = 0; i < 100; i++) assert_int_equal(a[i], i);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        assert_int_equal(espl_sample_questions(100, 7, seed, a), 7);
        for (int i = 0; i < 7; i++) {
            assert_true(a[i] >= 0 && a[i] < 100 && (i == 0 || a[i] > a[i - 1]));
            counts[a[i]]++;
        }
    }
    for (int i = 0; i < 100; i++) assert_in_range(counts[i], 80, 205); /* 140 expected */
    espl_sample_questions(100, 7, 5, a);
    espl_sample_questions(100, 7, 5, b);
    assert_memory_equal(a, b, 7 * sizeof *a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_keeps_every_cell),
        cmocka_unit_test(test_csv_refuses_malformed_files),
        cmocka_unit_test(test_normalise_equals_the_squad_script),
        cmocka_unit_test(test_only_whole_words_match),
        cmocka_unit_test(test_squeeze_and_lengths_equal_python),
        cmocka_unit_test(test_wilson_interval_equals_statsmodels),
        cmocka_unit_test(test_sample_is_sorted_uniform_and_repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
