/* SPDX-License-Identifier: Apache-2.0 */
/* Forms: the schema to the byte, and which forms are refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../sample_forms.h"
#include "espalier/base/memory.h"
#include "espalier/form/schema.h"

static void the_schema_is_these_bytes(void **state) {
    (void)state;
    espl_str s = {0};
    espl_json_writer w = espl_json_writer_on(&s);
    espl_form_put_schema(&w, NULL, &form_reply);
    assert_int_equal(espl_str_status(&s), ESPL_OK);
    assert_string_equal(
        s.data,
        "{\"type\":\"object\",\"properties\":{"
        "\"lessons\":{\"type\":\"array\",\"items\":{\"description\":\"the "
        "reason\",\"type\":\"string\",\"maxLength\":12},"
        "\"minItems\":0,\"maxItems\":3},"
        "\"debt\":{\"type\":\"number\",\"minimum\":-0.75,\"maximum\":-0.5},"
        "\"at\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":995,\"maximum\":20040},"
        "\"minItems\":2,\"maxItems\":5},"
        "\"plans\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{"
        "\"layers.1\":{\"anyOf\":[{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "{\"type\":\"string\",\"enum\":[\"2:4\",\"4:8\",\"unstructured\"]}]},"
        "\"layers.11\":{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "\"layers.10\":{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25}},"
        "\"minProperties\":0,\"maxProperties\":3,\"additionalProperties\":false},\"minItems\":1,\"maxItems\":2},"
        "\"next\":{\"description\":\"what to do next\",\"anyOf\":["
        "{\"type\":\"object\",\"properties\":{\"action\":{\"type\":\"string\",\"enum\":[\"predict\"]},"
        "\"plan\":{\"type\":\"object\",\"properties\":{"
        "\"layers.1\":{\"anyOf\":[{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "{\"type\":\"string\",\"enum\":[\"2:4\",\"4:8\",\"unstructured\"]}]},"
        "\"layers.11\":{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "\"layers.10\":{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "\"l\":{\"type\":\"string\",\"enum\":[\"2:4\",\"4:8\",\"unstructured\"]},"
        "\"\\\"\xC3\xA9\":{\"anyOf\":[{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "{\"type\":\"string\",\"enum\":[\"2:4\",\"4:8\",\"unstructured\"]}]},"
        "\"other\":{\"type\":\"number\",\"minimum\":-12.5,\"maximum\":107.25}},"
        "\"minProperties\":2,\"maxProperties\":4,\"additionalProperties\":false}},"
        "\"required\":[\"action\",\"plan\"],\"additionalProperties\":false},"
        "{\"type\":\"object\",\"properties\":{\"action\":{\"type\":\"string\",\"enum\":[\"propose\"]},"
        "\"why\":{\"description\":\"the reason\",\"type\":\"string\",\"maxLength\":12},"
        "\"plan\":{\"type\":\"object\",\"properties\":{"
        "\"layers.1\":{\"anyOf\":[{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "{\"type\":\"string\",\"enum\":[\"2:4\",\"4:8\",\"unstructured\"]}]},"
        "\"layers.11\":{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25},"
        "\"layers.10\":{\"type\":\"number\",\"minimum\":0.01,\"maximum\":0.25}},"
        "\"minProperties\":0,\"maxProperties\":3,\"additionalProperties\":false},"
        "\"final\":{\"type\":\"boolean\"}},"
        "\"required\":[\"action\",\"why\",\"plan\",\"final\"],\"additionalProperties\":false},"
        "{\"type\":\"object\",\"properties\":{\"action\":{\"type\":\"string\",\"enum\":[\"st\"]}},"
        "\"required\":[\"action\"],\"additionalProperties\":false}]},"
        "\"sure\":{\"type\":\"boolean\"}},"
        "\"required\":[\"lessons\",\"debt\",\"at\",\"plans\",\"next\",\"sure\"],\"additionalProperties\":false}");
    espl_str_free(&s);
}

static void refused(espl_form f, const char *word) {
    assert_int_equal(espl_form_check(&f), ESPL_INTERNAL);
    if (!strstr(espl_base_error_text(), word)) fail_msg("\"%s\" lacks \"%s\"", espl_base_error_text(), word);
}

static void senseless_forms_are_refused(void **state) {
    (void)state;
    static const char *const twice[] = {"a", "b", "a"}, *const broken[] = {"\xFF"}, *const missing[] = {NULL};
    static const espl_form_member no_form[] = {{"a", NULL}};
    static const espl_form_member same[] = {{"a", &form_flag}, {"a", &form_flag}};
    static const espl_form_member alike[] = {{NULL, &form_why}, {NULL, &form_pattern}};
    static const espl_form_member no_tag[] = {{NULL, &form_reply}};
    static const espl_form_member same_tag[] = {{NULL, &form_stop}, {NULL, &form_stop}};
    static const espl_form_member other_key[] = {{"kind", &form_stop_tag}};
    static const espl_form other = {.kind = ESPL_FORM_OBJECT, .members = other_key, .n_members = 1};
    static const espl_form_member two_keys[] = {{NULL, &form_stop}, {NULL, &other}};
    refused((espl_form){.kind = ESPL_FORM_CHOICE}, "0 names");
    refused((espl_form){.kind = ESPL_FORM_CHOICE, .names = twice, .n_names = 3}, "\"a\" appears twice");
    refused((espl_form){.kind = ESPL_FORM_CHOICE, .names = broken, .n_names = 1}, "UTF-8");
    refused((espl_form){.kind = ESPL_FORM_CHOICE, .names = missing, .n_names = 1}, "missing");
    refused((espl_form){.kind = ESPL_FORM_OBJECT, .members = no_form, .n_members = 1}, "no form");
    refused((espl_form){.kind = ESPL_FORM_OBJECT, .members = same, .n_members = 2}, "twice");
    refused((espl_form){.kind = ESPL_FORM_MAP, .members = plan_entries, .n_members = 6, .max = 7}, "0 to 6");
    refused((espl_form){.kind = ESPL_FORM_MAP, .members = plan_entries, .n_members = 6, .min = 3, .max = 2}, "3 to 2");
    refused((espl_form){.kind = ESPL_FORM_ARRAY, .max = 2}, "no form");
    refused((espl_form){.kind = ESPL_FORM_TEXT, .max = -1}, "0 to -1");
    refused((espl_form){.kind = ESPL_FORM_NUMBER, .lo = 0.11, .hi = 0.19, .decimals = 1}, "no number");
    refused((espl_form){.kind = ESPL_FORM_NUMBER, .hi = (double)INFINITY}, "finite");
    refused((espl_form){.kind = ESPL_FORM_NUMBER, .hi = 1, .decimals = 10}, "at most 9");
    refused((espl_form){.kind = ESPL_FORM_NUMBER, .hi = 1e10, .decimals = 9}, "too long");
    refused((espl_form){.kind = ESPL_FORM_EITHER, .members = alike, .n_members = 2}, "first byte");
    refused((espl_form){.kind = ESPL_FORM_EITHER}, "between no values");
    refused((espl_form){.kind = ESPL_FORM_VARIANTS}, "0 variants");
    refused((espl_form){.kind = ESPL_FORM_VARIANTS, .members = no_tag, .n_members = 1}, "string of its own");
    refused((espl_form){.kind = ESPL_FORM_VARIANTS, .members = same_tag, .n_members = 2}, "\"st\" appears twice");
    refused((espl_form){.kind = ESPL_FORM_VARIANTS, .members = two_keys, .n_members = 2}, "\"action\" and \"kind\"");
    refused((espl_form){.kind = (espl_form_kind)99}, "unknown kind");
}

static void nesting_has_a_bound(void **state) {
    (void)state;
    espl_form nested[ESPL_FORM_DEPTH + 1] = {{.kind = ESPL_FORM_BOOLEAN}};
    for (int i = 1; i <= ESPL_FORM_DEPTH; i++)
        nested[i] = (espl_form){.kind = ESPL_FORM_ARRAY, .element = &nested[i - 1], .max = 1};
    assert_int_equal(espl_form_check(&nested[ESPL_FORM_DEPTH - 1]), ESPL_OK);
    refused(nested[ESPL_FORM_DEPTH], "deeper than 8");

    espl_str s = {0};
    espl_json_writer w = espl_json_writer_on(&s);
    espl_form_put_schema(&w, NULL, &nested[ESPL_FORM_DEPTH - 1]);
    assert_int_equal(espl_str_status(&s), ESPL_OK);
    espl_str_free(&s);
}

static void write_schema(const espl_form *f, espl_str *s) {
    espl_json_writer w = espl_json_writer_on(s);
    espl_form_put_schema(&w, NULL, f);
    assert_int_equal(espl_str_status(s), ESPL_OK);
}

static void schemas_are_read_back(void **state) {
    (void)state;
    for (int i = 0; i < SAMPLE_FORMS; i++) {
        espl_str written = {0}, again = {0};
        espl_form_schema schema;
        write_schema(sample_forms[i], &written);
        if (espl_form_schema_parse(written.data, written.len, "x.json", &schema) != ESPL_OK)
            fail_msg("%s", espl_base_error_text());
        assert_int_equal(schema.form->kind, sample_forms[i]->kind);
        write_schema(schema.form, &again);
        assert_string_equal(written.data, again.data);
        espl_form_schema_free(&schema);
        espl_str_free(&written);
        espl_str_free(&again);
    }
}

static void other_schemas_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *word;
        espl_status status;
    } table[] = {
        {"[", "x.json: not valid JSON", ESPL_FORMAT},
        {"[]", "expected a schema", ESPL_FORMAT},
        {"{}", "\"type\" is missing", ESPL_FORMAT},
        {"{\"type\":\"null\"}", "\"null\"", ESPL_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"a\"}", "\"pattern\" is not supported", ESPL_UNSUPPORTED},
        {"{\"type\":\"string\",\"minLength\":1}", "expected 0 to 0", ESPL_FORMAT},
        {"{\"type\":\"number\",\"minimum\":1}", "\"maximum\" is missing", ESPL_FORMAT},
        {"{\"type\":\"integer\",\"minimum\":0.2,\"maximum\":0.8}", "no number", ESPL_FORMAT},
        {"{\"enum\":[1]}", "more than strings", ESPL_UNSUPPORTED},
        {"{\"enum\":1}", "no array", ESPL_FORMAT},
        {"{\"const\":1}", "no string", ESPL_UNSUPPORTED},
        {"{\"type\":\"array\",\"maxItems\":2}", "items: expected a schema", ESPL_FORMAT},
        {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}", "\"maxItems\" is missing", ESPL_FORMAT},
        {"{\"type\":\"object\",\"additionalProperties\":true}", "additionalProperties", ESPL_UNSUPPORTED},
        {"{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":\"boolean\"},\"b\":"
         "{\"type\":\"boolean\"}},\"required\":[\"a\"]}",
         "all properties are required, or none", ESPL_UNSUPPORTED},
        {"{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":\"array\",\"items\":{"
         "\"type\":\"x\"},\"maxItems\":1}}}",
         "x.json: properties.a.items.type is \"x\"", ESPL_UNSUPPORTED},
        {"{\"anyOf\":[{\"type\":\"string\"},{\"enum\":[\"a\"]}]}", "first byte", ESPL_FORMAT},
        {"{\"anyOf\":[]}", "variants", ESPL_FORMAT},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        espl_form_schema schema;
        espl_status st = espl_form_schema_parse(table[i].json, (int64_t)strlen(table[i].json), "x.json", &schema);
        if (st != table[i].status || !strstr(espl_base_error_text(), table[i].word))
            fail_msg("%s: %s (%s)", table[i].json, espl_base_error_text(), espl_status_name(st));
        espl_form_schema_free(&schema);
    }
}

static int no_leak(void **state) {
    (void)state;
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_schema_is_these_bytes), cmocka_unit_test(senseless_forms_are_refused),
        cmocka_unit_test(nesting_has_a_bound),       cmocka_unit_test(schemas_are_read_back),
        cmocka_unit_test(other_schemas_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
