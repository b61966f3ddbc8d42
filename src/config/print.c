/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration as a file that reads back as itself, and the JSON Schema of such files.
 *
 * The text is also how rank 0's configuration reaches the other ranks, and what manifests and checkpoints store, so
 * numbers are printed to read back as the same bits. Comments are not JSON: the writer of base cannot place them, and
 * this file is laid out by hand.
 */
#include "espalier/config/table.h"

#include <string.h>

#include "espalier/base/json_writer.h"
#include "espalier/model/locate.h"

static void print_path(espl_str *out, const espl_option *row, const espl_config *o) {
    espl_str name = {0};
    espl_model_put_id(*(char *const *)(const void *)((const char *)o + row->offset), &name);
    if (name.failed) out->failed = true;
    espl_str_put_json(out, name.len > 0 ? name.data : "", name.len);
    espl_str_free(&name);
}

espl_status espl_config_print(const espl_config *o, espl_config_form form, espl_str *out) {
    espl_str_puts(out, "{");
    for (int i = 0; i < ESPL_SECTIONS; i++) {
        const espl_section *section = &espl_section_table[i];
        bool first = true;
        espl_str_puts(out, i > 0 ? ",\n" : "\n");
        if (form == ESPL_CONFIG_COMMENTED) espl_str_printf(out, "  // %s.\n", section->meaning);
        espl_str_printf(out, "  \"%s\": {\n", section->name);
        for (const espl_option *row = espl_option_table; row < espl_option_table + ESPL_OPTIONS; row++) {
            if (strcmp(row->section, section->name) != 0) continue;
            if (!first) espl_str_puts(out, ",\n");
            first = false;
            if (form == ESPL_CONFIG_COMMENTED) {
                espl_str_printf(out, "    // %s", row->meaning);
                if (row->type != ESPL_OPTION_TEXT) {
                    espl_str_puts(out, " (");
                    espl_option_put_expected(out, row);
                    espl_str_puts(out, ")");
                }
                espl_str_puts(out, "\n");
            }
            espl_str_printf(out, "    \"%s\": ", row->key);
            if (form >= ESPL_CONFIG_CONTENT && row->resume == ESPL_RESUME_CIRCUMSTANCE)
                espl_option_put_default(out, row);
            else if (form == ESPL_CONFIG_PORTABLE && espl_option_is_path(row))
                print_path(out, row, o);
            else
                espl_option_put_value(out, row, o);
        }
        espl_str_puts(out, "\n  }");
    }
    espl_str_puts(out, "\n}\n");
    return espl_str_status(out);
}

/* Ranges and choices of the schema are those of the reader, since both come from the row. */
static void schema_put_option(espl_json_writer *w, const espl_option *row) {
    static const char *const types[] = {
        [ESPL_OPTION_TEXT] = "string", [ESPL_OPTION_CHOICE] = "string", [ESPL_OPTION_INTEGER] = "integer",
        [ESPL_OPTION_REAL] = "number", [ESPL_OPTION_FLAG] = "boolean",  [ESPL_OPTION_NUMBERS] = "array"};
    espl_str value = {0};
    espl_json_open_object(w, row->key, ESPL_JSON_SPACED);
    espl_json_put_text(w, "description", row->meaning);
    espl_json_put_text(w, "type", types[row->type]);
    if (row->type == ESPL_OPTION_CHOICE) {
        espl_json_open_array(w, "enum", ESPL_JSON_SPACED);
        for (const espl_choice *c = row->choices; c->name; c++) espl_json_put_text(w, NULL, c->name);
        espl_json_close(w);
    }
    if (row->type == ESPL_OPTION_INTEGER || row->type == ESPL_OPTION_REAL) {
        espl_json_put_shortest(w, "minimum", row->lo);
        espl_json_put_shortest(w, "maximum", row->hi);
    }
    if (row->type == ESPL_OPTION_NUMBERS) {
        espl_json_open_object(w, "items", ESPL_JSON_SPACED);
        espl_json_put_text(w, "type", "number");
        espl_json_put_shortest(w, "minimum", row->lo);
        espl_json_put_shortest(w, "maximum", row->hi);
        espl_json_close(w);
    }
    espl_option_put_default(&value, row);
    if (value.failed)
        w->out->failed = true;
    else
        espl_json_put_raw(w, "default", value.data, value.len);
    espl_str_free(&value);
    espl_json_close(w);
}

espl_status espl_config_print_schema(espl_str *out) {
    espl_json_writer w = espl_json_writer_on(out);
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "$schema", "https://json-schema.org/draft/2020-12/schema");
    espl_json_put_text(&w, "title", "espalier configuration");
    espl_json_put_text(&w, "type", "object");
    espl_json_put_bool(&w, "additionalProperties", false);
    espl_json_open_object(&w, "properties", ESPL_JSON_LINES);
    for (int i = 0; i < ESPL_SECTIONS; i++) {
        const espl_section *section = &espl_section_table[i];
        espl_json_open_object(&w, section->name, ESPL_JSON_LINES);
        espl_json_put_text(&w, "description", section->meaning);
        espl_json_put_text(&w, "type", "object");
        espl_json_put_bool(&w, "additionalProperties", false);
        espl_json_open_object(&w, "properties", ESPL_JSON_LINES);
        for (const espl_option *row = espl_option_table; row < espl_option_table + ESPL_OPTIONS; row++)
            if (strcmp(row->section, section->name) == 0) schema_put_option(&w, row);
        espl_json_close(&w);
        espl_json_close(&w);
    }
    espl_json_close(&w);
    espl_json_close(&w);
    espl_str_puts(out, "\n");
    return espl_str_status(out);
}
