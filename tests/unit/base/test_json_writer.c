/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON writer: each layout to the byte, numbers that read back exactly, failures that are not lost. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/base/json_writer.h"
#include "espalier/base/rng.h"

static void layouts_are_these_bytes(void **state) {
    (void)state;
    espl_str s = {0};
    espl_json_writer w = espl_json_writer_on(&s);
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "name", "a \"b\"\n");
    espl_json_open_object(&w, "spaced", ESPL_JSON_SPACED);
    espl_json_put_i64(&w, "n", INT64_MIN);
    espl_json_put_bool(&w, "yes", true);
    espl_json_close(&w);
    espl_json_open_array(&w, "compact", ESPL_JSON_COMPACT);
    espl_json_put_i64(&w, NULL, 1);
    espl_json_put_f64(&w, NULL, (double)NAN);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_close(&w);
    espl_json_close(&w);
    espl_json_open_object(&w, "lines", ESPL_JSON_LINES);
    espl_json_put_raw(&w, "raw", "[]", 2);
    espl_json_put_text(&w, "none", NULL);
    espl_json_put_fixed(&w, "seconds", 1.23456, 3);
    espl_json_put_rounded(&w, "rate", 2.0 / 3, 4);
    espl_json_put_printf(&w, "hash", "%04x", 255u);
    espl_json_close(&w);
    espl_json_close(&w);
    assert_string_equal(s.data, "{\n  \"name\": \"a \\\"b\\\"\\n\",\n"
                                "  \"spaced\": {\"n\": -9223372036854775808, \"yes\": true},\n"
                                "  \"compact\": [1,null,{}],\n"
                                "  \"lines\": {\n    \"raw\": [],\n    \"none\": null,\n    \"seconds\": 1.235,\n"
                                "    \"rate\": 0.6667,\n    \"hash\": \"00ff\"\n  }\n}");
    assert_int_equal(espl_str_status(&s), ESPL_OK);
    espl_str_free(&s);
}

static void an_object_can_be_continued(void **state) {
    (void)state;
    espl_str s = {0};
    espl_str_puts(&s, "{\"a\":1");
    espl_json_writer w = espl_json_writer_inside(&s, ESPL_JSON_COMPACT, false);
    espl_json_put_i64(&w, "b", 2);
    espl_json_close(&w);
    assert_string_equal(s.data, "{\"a\":1,\"b\":2}");
    espl_str_free(&s);
}

static void numbers_read_back(void **state) {
    (void)state;
    static const double values[] = {
        0, -0.0, 0.1, 1.0 / 3, 0.45, 1e300, 5e-324, 123456789012345678.0, 1e9, 0.30000000000000004};
    espl_rng rng;
    espl_rng_seed(&rng, 7, 0, 0);
    for (int i = 0; i < 1000; i++) {
        double v = i < (int)(sizeof values / sizeof *values) ? values[i] : espl_rng_uniform(&rng);
        espl_str s = {0};
        espl_str_put_shortest(&s, v);
        assert_true(strtod(s.data, NULL) == v);
        if (v == 0.45) assert_string_equal(s.data, "0.45");
        s.len = 0;
        espl_json_writer w = espl_json_writer_on(&s);
        espl_json_put_f64(&w, NULL, v);
        assert_true(strtod(s.data, NULL) == v);
        espl_str_free(&s);
    }
}

static void too_deep_is_a_failure(void **state) {
    (void)state;
    espl_str s = {0};
    espl_json_writer w = espl_json_writer_on(&s);
    for (int i = 0; i < ESPL_JSON_DEPTH; i++) espl_json_open_array(&w, NULL, ESPL_JSON_COMPACT);
    assert_int_equal(espl_str_status(&s), ESPL_OK);
    espl_json_open_array(&w, NULL, ESPL_JSON_COMPACT);
    assert_int_equal(espl_str_status(&s), ESPL_NOMEM);
    espl_str_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_are_these_bytes),
        cmocka_unit_test(an_object_can_be_continued),
        cmocka_unit_test(numbers_read_back),
        cmocka_unit_test(too_deep_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
