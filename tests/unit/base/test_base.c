/* SPDX-License-Identifier: Apache-2.0 */
/* base: status, memory, strings, hashing, random numbers, regions, JSON, journals, files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../normal.h"
#include "espalier/base.h"

static void status_codes_map_to_documented_exit_codes(void **state) {
    (void)state;
    assert_int_equal(espl_status_exit_code(ESPL_OK), 0);
    assert_int_equal(espl_status_exit_code(ESPL_FORMAT), 1);
    assert_int_equal(espl_status_exit_code(ESPL_USAGE), 2);
    assert_int_equal(espl_status_exit_code(ESPL_CONFIG), 2);
    assert_int_equal(espl_status_exit_code(ESPL_AGENT), 69);
    assert_int_equal(espl_status_exit_code(ESPL_IO), 74);
    assert_int_equal(espl_status_exit_code(ESPL_STOPPED), 75);
    assert_string_equal(espl_status_name((espl_status)999), "?");
}

static void fail_records_place_and_text_even_from_itself(void **state) {
    (void)state;
    assert_int_equal(ESPL_FAIL(ESPL_IO, "disk %d", 7), ESPL_IO);
    assert_string_equal(espl_base_error_text(), "disk 7");
    (void)ESPL_FAIL(ESPL_IO, "outer: %s", espl_base_error_text());
    assert_string_equal(espl_base_error_text(), "outer: disk 7");
    assert_non_null(strstr(espl_base_error_place(), "test_base.c:"));
}

static void alloc_refuses_overflow(void **state) {
    (void)state;
    int64_t before = espl_mem_balance();
    double *p = (double *)1;
    assert_int_equal(espl_mem_alloc(&p, INT64_MAX / 4, 8, "x"), ESPL_NOMEM);
    assert_null(p);
    assert_int_equal(espl_mem_alloc(&p, -1, 8, "x"), ESPL_NOMEM);
    assert_int_equal(espl_mem_alloc(&p, 0, 8, "x"), ESPL_OK);
    assert_non_null(p);
    espl_mem_free(&p);
    espl_mem_free(&p);
    assert_null(p);
    assert_int_equal(espl_mem_balance(), before);
}

/* Memory belongs to the NUMA domain of the thread that touches it first, which must be the one that uses it. */
static void an_arena_touches_no_page_before_its_user(void **state) {
    (void)state;
    enum { BYTES = 64 << 20, PAGE = 4096 };
    static unsigned char resident[BYTES / PAGE + 1];
    espl_arena *a;
    int64_t touched = 0;
    assert_int_equal(espl_arena_create(&a, BYTES, "t"), ESPL_OK);
    char *p = espl_arena_take(a, BYTES);
    char *first = p + (PAGE - (uintptr_t)p % PAGE);
    assert_int_equal(mincore(first, BYTES - 2 * PAGE, resident), 0);
    for (int64_t i = 0; i < BYTES / PAGE - 2; i++) touched += resident[i] & 1;
    assert_true(touched <= 1); /* the header of the allocation may share a page */
    espl_arena_destroy(&a);
}

static void arena_pieces_are_aligned_and_bounded(void **state) {
    (void)state;
    espl_arena *a;
    assert_int_equal(espl_arena_create(&a, espl_arena_piece(10) + espl_arena_piece(100), "t"), ESPL_OK);
    char *p = espl_arena_take(a, 10), *q = espl_arena_take(a, 100);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_int_equal(q - p, 64);
    assert_null(espl_arena_take(a, 1000));
    assert_null(espl_arena_take(a, SIZE_MAX));
    espl_arena_destroy(&a);
    espl_arena_destroy(&a);
}

static void utf8_length_follows_unicode_table_3_7(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        int n, want;
    } cases[] = {{"a", 1, 1},           {"\xC3\xA9", 2, 2},     {"\xE2\x82\xAC", 3, 3}, {"\xF0\x9F\x98\x80", 4, 4},
                 {"\xC0\x80", 2, 0},    {"\xE0\x80\x80", 3, 0}, {"\xED\xA0\x80", 3, 0}, {"\xF4\x90\x80\x80", 4, 0},
                 {"\xE2\x82", 2, 0},    {"\x80", 1, 0},         {"\xFF", 1, 0},         {"\xF0\x9F\x98", 3, 0},
                 {"\xE2\x28\xA1", 3, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(espl_utf8_length(cases[i].bytes, cases[i].n), cases[i].want);
}

static void json_strings_are_escaped_and_repaired(void **state) {
    (void)state;
    espl_str s = {0};
    espl_str_put_json(&s, "a\"\\\n\x01\xFF\xC3\xA9", 8);
    assert_string_equal(s.data, "\"a\\\"\\\\\\n\\u0001\xEF\xBF\xBD\xC3\xA9\"");
    espl_str_free(&s);
}

static void map_keeps_ten_thousand_keys_apart(void **state) {
    (void)state;
    enum { N = 10000 };
    static char keys[N][8];
    espl_map *m;
    int64_t v;
    assert_int_equal(espl_map_create(&m, 4), ESPL_OK);
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        assert_int_equal(espl_map_put(m, keys[i], (int64_t)strlen(keys[i]), i), ESPL_OK);
    }
    assert_int_equal(espl_map_count(m), N);
    for (int i = 0; i < N; i++) {
        assert_true(espl_map_get(m, keys[i], (int64_t)strlen(keys[i]), &v));
        assert_int_equal(v, i);
    }
    assert_false(espl_map_get(m, "k", 1, &v));
    assert_false(espl_map_get(m, "", 0, NULL));
    assert_int_equal(espl_map_put(m, "", 0, 5), ESPL_OK);
    assert_true(espl_map_get(m, "", 0, &v));
    assert_int_equal(v, 5);
    espl_map_destroy(&m);
}

static void rng_depends_on_every_seed_word(void **state) {
    (void)state;
    espl_rng a, b;
    espl_rng_seed(&a, 1, 2, 3);
    espl_rng_seed(&b, 1, 2, 3);
    assert_true(espl_rng_next(&a) == espl_rng_next(&b));
    espl_rng_seed(&b, 1, 2, 4);
    assert_false(espl_rng_next(&a) == espl_rng_next(&b));
    double sum = 0, sq = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        double x = test_normal(&a);
        sum += x;
        sq += x * x;
        int64_t k = espl_rng_below(&a, 7);
        assert_true(k >= 0 && k < 7);
    }
    assert_true(fabs(sum / N) < 0.02 && fabs(sq / N - 1) < 0.03);
}

/* First outputs of xoshiro256** from state {1, 2, 3, 4}: the reference implementation's, as listed by rand_xoshiro. */
static void rng_is_xoshiro256starstar(void **state) {
    (void)state;
    static const uint64_t want[] = {11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u};
    espl_rng r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < 5; i++) assert_true(espl_rng_next(&r) == want[i]);
}

static void json_getters_name_file_and_key(void **state) {
    (void)state;
    static const char text[] = "{\"n\": 3, \"f\": 1.5, \"b\": true, \"s\": \"x\", \"z\": null}";
    struct cJSON *doc;
    int64_t n = 0;
    double f = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(espl_json_parse(text, (int64_t)strlen(text), "t.json", &doc), ESPL_OK);
    assert_int_equal(espl_json_get_i64(doc, "n", "t.json", true, 0, 10, &n), ESPL_OK);
    assert_int_equal(n, 3);
    assert_int_equal(espl_json_get_f64(doc, "f", "t.json", true, 0, 10, &f), ESPL_OK);
    assert_int_equal(espl_json_get_bool(doc, "b", "t.json", true, &b), ESPL_OK);
    assert_int_equal(espl_json_get_str(doc, "s", "t.json", true, &s), ESPL_OK);
    assert_true(f == 1.5 && b && strcmp(s, "x") == 0);
    assert_int_equal(espl_json_get_i64(doc, "f", "t.json", true, 0, 10, &n), ESPL_FORMAT);
    assert_string_equal(espl_base_error_text(), "t.json: \"f\" must be an integer");
    assert_int_equal(espl_json_get_i64(doc, "n", "t.json", true, 0, 2, &n), ESPL_FORMAT);
    assert_string_equal(espl_base_error_text(), "t.json: \"n\" is 3, expected 0 to 2");
    assert_int_equal(espl_json_get_i64(doc, "z", "t.json", true, 0, 2, &n), ESPL_FORMAT);
    assert_int_equal(espl_json_get_i64(doc, "z", "t.json", false, 0, 2, &n), ESPL_OK);
    assert_int_equal(n, 3);
    espl_json_free(&doc);
}

static void json_refuses_trailing_text_and_depth(void **state) {
    (void)state;
    struct cJSON *doc;
    assert_int_equal(espl_json_parse("{} x", 4, "t", &doc), ESPL_FORMAT);
    assert_null(doc);
    assert_int_equal(espl_json_parse("{} \n", 4, "t", &doc), ESPL_OK);
    espl_json_free(&doc);
    char deep[4000];
    memset(deep, '[', sizeof deep);
    assert_int_equal(espl_json_parse(deep, sizeof deep, "t", &doc), ESPL_FORMAT);
    assert_int_equal(espl_json_parse("", 0, "t", &doc), ESPL_FORMAT);
}

static void missing_file_is_an_io_error_with_its_name(void **state) {
    (void)state;
    char *text;
    int64_t len;
    espl_mapping m;
    assert_int_equal(espl_file_read("/nonexistent/file", 10, &text, &len), ESPL_IO);
    assert_non_null(strstr(espl_base_error_text(), "/nonexistent/file"));
    assert_int_equal(espl_file_map("/nonexistent/file", &m), ESPL_IO);
    assert_int_equal(espl_file_map("/", &m), ESPL_IO);
    espl_file_unmap(&m);
}

static void string_copies_end_in_nul_and_are_owned(void **state) {
    (void)state;
    int64_t before = espl_mem_balance();
    char *a, *b;
    assert_int_equal(espl_str_dup(&a, "text", "t"), ESPL_OK);
    assert_string_equal(a, "text");
    assert_int_equal(espl_str_ndup(&b, "text", 2, "t"), ESPL_OK);
    assert_string_equal(b, "te");
    espl_mem_free(&a);
    espl_mem_free(&b);
    assert_int_equal(espl_str_ndup(&b, NULL, 0, "t"), ESPL_OK);
    assert_string_equal(b, "");
    espl_mem_free(&b);
    assert_int_equal(espl_mem_balance(), before);
}

static espl_status leave_early(double seconds) {
    ESPL_REGION_SCOPE(ESPL_REGION_EXPORT);
    ESPL_REGION_SCOPE(ESPL_REGION_REPORT);
    for (double start = espl_clock_now(); espl_clock_now() - start < seconds;) {
    }
    ESPL_TRY(ESPL_FAILED);
    return ESPL_OK;
}

static void region_scope_counts_early_exits(void **state) {
    (void)state;
    espl_region_reset();
    assert_int_equal(leave_early(0.002), ESPL_FAILED);
    assert_int_equal(leave_early(0.002), ESPL_FAILED);
    assert_true(espl_region_seconds(ESPL_REGION_EXPORT) >= 0.004);
    assert_true(espl_region_seconds(ESPL_REGION_REPORT) >= 0.004);
    assert_true(espl_region_seconds(ESPL_REGION_LOAD) == 0);
    espl_region_reset();
    assert_true(espl_region_seconds(ESPL_REGION_EXPORT) == 0);
}

/* What one call wrote, without the time. */
static void read_without_time(const char *path, char *out, size_t size) {
    char *text;
    int64_t len;
    size_t used = 0;
    assert_int_equal(espl_file_read(path, 4000, &text, &len), ESPL_OK);
    for (char *line = strtok(text, "\n"); line && used < size; line = strtok(NULL, "\n")) {
        const char *time = strstr(line, ",\"time\":");
        if (!time) fail_msg("no time in %s", line);
        const char *after = time ? time + strcspn(time + 1, ",}") + 1 : "";
        used += (size_t)snprintf(out + used, size - used, "%.*s%s\n", (int)(time - line), line, after);
    }
    espl_mem_free(&text);
}

static void journal_forgets_iterations_beyond_the_last_kept(void **state) {
    (void)state;
    char path[] = "/tmp/espalier-journal-XXXXXX", text[4096];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int64_t keep = 0; keep < 3; keep++) {
        espl_journal *j;
        assert_int_equal(espl_journal_open(&j, path, keep, NULL), ESPL_OK);
        for (int64_t iteration = keep + 1; iteration < keep + 3; iteration++) {
            espl_str s = {0};
            espl_json_writer w = espl_journal_begin(&s, iteration, "note");
            espl_json_put_i64(&w, "keep", keep);
            assert_int_equal(espl_journal_end(j, &w), ESPL_OK);
        }
        espl_journal_close(&j);
    }
    FILE *f = fopen(path, "ab");
    assert_non_null(f);
    fputs("{\"iteration\":3,\"ty", f); /* as a kill leaves it */
    fclose(f);
    espl_journal *j;
    assert_int_equal(espl_journal_open(&j, path, 3, NULL), ESPL_OK);
    espl_journal_close(&j);
    read_without_time(path, text, sizeof text);
    assert_string_equal(text, "{\"iteration\":1,\"type\":\"note\",\"keep\":0}\n"
                              "{\"iteration\":2,\"type\":\"note\",\"keep\":1}\n"
                              "{\"iteration\":3,\"type\":\"note\",\"keep\":2}\n");
    unlink(path);
}

static int64_t nth_iteration(const void *iterations, int64_t i) { return ((const int64_t *)iterations)[i]; }

static espl_status put_nothing(const void *iterations, int64_t i, espl_json_writer *w) {
    espl_json_put_i64(w, "value", 10 * nth_iteration(iterations, i));
    return ESPL_OK;
}

/* A journal of the iterations 1 to 3, each with a note, its value and a seal. Bytes are then changed. */
static void journal_repairs_what_a_bad_disk_leaves(void **state) {
    (void)state;
    static const int64_t iterations[] = {1, 2, 3};
    static const espl_journal_source source = {"value", 3, iterations, nth_iteration, put_nothing};
    static const struct {
        const char *find, *put; /* NULL: cut off from there on */
        const char *said, *lines;
    } damages[] = {
        {"absent", "", NULL, "n1 v1 s1 n2 v2 s2 n3 v3 s3 "},
        {"value\":20", "value\":21", "lines 4 to 5 are not as they were written", "n1 v1 n2 v2 n3 v3 r3 s3 "},
        {"value\":20}", "value\":20]",
         "damaged lines left out: 1, lines 4 to 5 are not as they were written, lines \"value\" written again from "
         "the checkpoint: 1",
         "n1 v1 n2 V2 n3 v3 r3 s3 "},
        {"{\"iteration\":2,", "{\"iteration\":9,",
         "damaged lines left out: 1, lines 4 to 5 are not as they were written", "n1 v1 v2 n3 v3 r3 s3 "},
        {"{\"iteration\":3,\"type\":\"value", NULL,
         "lines of iterations 3 to 3 are lost, lines \"value\" written again from the checkpoint: 1",
         "n1 v1 n2 v2 n3 V3 r3 s3 "},
        {"{\"iteration\":1,\"type\":\"note", NULL, "lines \"value\" written again from the checkpoint: 3",
         "V1 V2 V3 r3 s3 "},
    };
    for (size_t k = 0; k < sizeof damages / sizeof *damages; k++) {
        char path[] = "/tmp/espalier-journal-XXXXXX", aside[64], shown[256] = "", *text, *said;
        int64_t len;
        espl_journal *j;
        espl_str s = {0};
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        close(fd);
        snprintf(aside, sizeof aside, "%s.damaged", path);
        assert_int_equal(espl_journal_open(&j, path, 0, NULL), ESPL_OK);
        for (int64_t i = 1; i <= 3; i++) {
            espl_json_writer w = espl_journal_begin(&s, i, "note");
            assert_int_equal(espl_journal_end(j, &w), ESPL_OK);
            w = espl_journal_begin(&s, i, "value");
            espl_json_put_i64(&w, "value", 10 * i);
            assert_int_equal(espl_journal_end(j, &w), ESPL_OK);
            assert_int_equal(espl_journal_seal(j, i), ESPL_OK);
        }
        espl_journal_close(&j);
        assert_int_equal(espl_file_read(path, 4000, &text, &len), ESPL_OK);
        char *at = strstr(text, damages[k].find);
        if (at && damages[k].put) memcpy(at, damages[k].put, strlen(damages[k].put));
        assert_int_equal(espl_file_replace(path, text, at && !damages[k].put ? at - text : len), ESPL_OK);
        espl_mem_free(&text);

        for (int again = 0; again < 2; again++) { /* the second time, there is nothing to repair */
            assert_int_equal(espl_journal_open(&j, path, 3, &source), ESPL_OK);
            espl_journal_close(&j);
        }
        assert_int_equal(espl_file_read(path, 4000, &text, &len), ESPL_OK);
        said = strstr(text, "\"repair\"");
        if (!damages[k].said) assert_null(said);
        if (damages[k].said) {
            assert_non_null(said);
            espl_str_put_json(&s, damages[k].said, (int64_t)strlen(damages[k].said));
            assert_non_null(strstr(said, s.data));
            espl_str_free(&s);
        }
        for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
            char type = strstr(line, "\"type\":\"")[8], number = line[strlen("{\"iteration\":")];
            const char *rebuilt = strstr(line, "\"rebuilt\":true");
            if (rebuilt && rebuilt < strchr(line, '\n')) type = 'V';
            snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%c%c ", type, number);
        }
        assert_string_equal(shown, damages[k].lines);
        assert_int_equal(espl_file_exists(aside), damages[k].said && k < 5);
        espl_mem_free(&text);
        unlink(path);
        unlink(aside);
    }
}

static void journal_refuses_an_open_member(void **state) {
    (void)state;
    espl_str s = {0};
    espl_json_writer w = espl_journal_begin(&s, 1, "note");
    espl_json_open_array(&w, "values", ESPL_JSON_COMPACT);
    assert_int_equal(espl_journal_end(NULL, &w), ESPL_INTERNAL);
}

/* 40 MB of numbers: refused at once instead of after minutes, with more than a gigabyte of memory. */
static void json_of_too_many_values_is_refused(void **state) {
    (void)state;
    enum { BYTES = 40000001 };
    struct cJSON *doc;
    char *text;
    assert_int_equal(espl_mem_alloc(&text, BYTES, 1, "test"), ESPL_OK);
    for (int i = 1; i < BYTES; i++) text[i] = i % 2 ? '1' : ',';
    text[0] = '[';
    text[BYTES - 1] = ']';
    assert_int_equal(espl_json_parse(text, BYTES, "t.json", &doc), ESPL_FORMAT);
    assert_non_null(strstr(espl_base_error_text(), "t.json: more than"));
    assert_int_equal(espl_json_parse(text, 2000001, "t.json", &doc), ESPL_FORMAT); /* cut off, but not too many */
    assert_non_null(strstr(espl_base_error_text(), "not valid JSON"));
    espl_mem_free(&text);
}

static void a_mapped_file_is_found_by_its_addresses(void **state) {
    (void)state;
    char path[] = "/tmp/espl-map-XXXXXX", text[] = "some bytes";
    espl_mapping m;
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    close(fd);
    assert_int_equal(espl_file_map(path, &m), ESPL_OK);
    const uint8_t *data = m.data;
    assert_string_equal(espl_file_mapped_at(data), path);
    assert_string_equal(espl_file_mapped_at(data + m.len - 1), path);
    assert_null(espl_file_mapped_at(data + m.len));
    assert_null(espl_file_mapped_at(data - 1));
    assert_null(espl_file_mapped_at(NULL));
    espl_file_unmap(&m);
    assert_null(espl_file_mapped_at(data));
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_codes_map_to_documented_exit_codes),
        cmocka_unit_test(fail_records_place_and_text_even_from_itself),
        cmocka_unit_test(alloc_refuses_overflow),
        cmocka_unit_test(an_arena_touches_no_page_before_its_user),
        cmocka_unit_test(arena_pieces_are_aligned_and_bounded),
        cmocka_unit_test(utf8_length_follows_unicode_table_3_7),
        cmocka_unit_test(json_strings_are_escaped_and_repaired),
        cmocka_unit_test(map_keeps_ten_thousand_keys_apart),
        cmocka_unit_test(rng_depends_on_every_seed_word),
        cmocka_unit_test(rng_is_xoshiro256starstar),
        cmocka_unit_test(json_getters_name_file_and_key),
        cmocka_unit_test(json_refuses_trailing_text_and_depth),
        cmocka_unit_test(string_copies_end_in_nul_and_are_owned),
        cmocka_unit_test(region_scope_counts_early_exits),
        cmocka_unit_test(journal_forgets_iterations_beyond_the_last_kept),
        cmocka_unit_test(journal_repairs_what_a_bad_disk_leaves),
        cmocka_unit_test(journal_refuses_an_open_member),
        cmocka_unit_test(missing_file_is_an_io_error_with_its_name),
        cmocka_unit_test(json_of_too_many_values_is_refused),
        cmocka_unit_test(a_mapped_file_is_found_by_its_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
