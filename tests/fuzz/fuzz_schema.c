/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: form */
/* A JSON schema as hostile input: any bytes become a form or are refused; a form compiles, and is written and read
 * back. */
#include "espalier/base.h"
#include "espalier/form/automaton.h"
#include "espalier/form/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    espl_form_schema schema, again;
    espl_automaton *a = NULL;
    espl_str text = {0};
    espl_json_writer w = espl_json_writer_on(&text);
    if (espl_form_schema_parse((const char *)data, (int64_t)size, "schema", &schema) == ESPL_OK) {
        espl_automaton_state s;
        if (espl_automaton_create(&a, schema.form) == ESPL_OK) {
            espl_automaton_start(a, &s);
            if (espl_automaton_distance(&s) < 1) __builtin_trap();
        }
        espl_form_put_schema(&w, NULL, schema.form);
        if (espl_str_status(&text) != ESPL_OK) __builtin_trap();
        if (espl_form_schema_parse(text.data, text.len, "again", &again) != ESPL_OK) __builtin_trap();
        espl_form_schema_free(&again);
    }
    espl_automaton_destroy(&a);
    espl_str_free(&text);
    espl_form_schema_free(&schema);
    return 0;
}
