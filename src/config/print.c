/* The effective configuration, as a file that reads back as itself. */
#include "espalier/config/table.h"

#include <string.h>

static void put_value(espl_str *s, const espl_option *row, const espl_config *o) {
    const void *field = espl_option_value(row, o);
    switch (row->type) {
    case ESPL_OPTION_TEXT: {
        const char *text = *(char *const *)field;
        espl_str_put_json(s, text, (int64_t)strlen(text));
        return;
    }
    case ESPL_OPTION_INTEGER:
        espl_str_printf(s, "%lld", (long long)*(const int64_t *)field);
        return;
    case ESPL_OPTION_REAL:
        espl_option_put_real(s, *(const double *)field);
        return;
    case ESPL_OPTION_FLAG:
        espl_str_puts(s, *(const bool *)field ? "true" : "false");
        return;
    }
}

static void put_comment(espl_str *s, const espl_option *row) {
    espl_str_printf(s, "    // %s", row->meaning);
    if (row->type != ESPL_OPTION_TEXT || row->values) {
        espl_str_puts(s, " (");
        espl_option_put_expected(s, row);
        espl_str_puts(s, ")");
    }
    espl_str_puts(s, "\n");
}

static void put_section(espl_str *s, const espl_section *section, const espl_config *o, bool comments) {
    const char *end = "";
    if (comments) espl_str_printf(s, "  // %s.\n", section->meaning);
    espl_str_printf(s, "  \"%s\": {\n", section->name);
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        const espl_option *row = &espl_option_table[i];
        if (strcmp(row->section, section->name) != 0) continue;
        espl_str_puts(s, end);
        if (comments) put_comment(s, row);
        espl_str_printf(s, "    \"%s\": ", row->key);
        put_value(s, row, o);
        end = ",\n";
    }
    espl_str_puts(s, "\n  }");
}

espl_status espl_config_print(const espl_config *o, bool comments, espl_str *out) {
    espl_str_puts(out, "{\n");
    for (int i = 0; i < ESPL_SECTIONS; i++) {
        if (i > 0) espl_str_puts(out, ",\n");
        put_section(out, &espl_section_table[i], o, comments);
    }
    espl_str_puts(out, "\n}\n");
    return espl_str_status(out);
}
