/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: configuration_doc          writes docs/configuration.md to standard output
 *        configuration_doc FILE     checks that FILE is that text; exit code 1 if it is not
 *
 * The page comes from the table of options, like the parser, so that it cannot be out of date.
 */
#include <string.h>

#include "espalier/base/json_writer.h"
#include "espalier/config/table.h"
#include "page.h"

static const char introduction[] =
    "# Configuration\n"
    "\n"
    "    espalier prune CONFIG.json [--set section.key=value]... [--print-config] [--print-schema] [--dry-run]\n"
    "\n"
    "A configuration is a JSON object of sections; each section is an object of the options below. Options that\n"
    "are not given have their defaults. `configs/` holds commented configurations for several models.\n"
    "\n"
    "- Comments run from `//` to the end of the line, or between `/*` and `*/`. A comma may stand before a\n"
    "  closing brace.\n"
    "- `--set` replaces a single value and may be given many times: `--set prune.target=0.5`,\n"
    "  `--set run.dir=runs/half`. A text needs no quotes there.\n"
    "- `--print-config` prints the effective configuration with the meaning of every option; the program reads\n"
    "  it back unchanged. Without a file it prints the defaults, a start for a configuration of your own.\n"
    "- `--print-schema` prints a JSON Schema (2020-12) of configuration files, for editors that complete and\n"
    "  check them. JSON Schema does not know comments: tell the editor that the files are JSON with comments.\n"
    "- An unknown name, a wrong type, a value out of range or a name given twice is an error. The message names\n"
    "  file, line and key, the value found, and what was expected (exit code 2). Options that exclude each\n"
    "  other are refused likewise, and so are, before anything is computed, files that cannot be read (exit\n"
    "  code 74).\n"
    "- Paths are relative to the directory in which the program runs. Only rank 0 reads the configuration.\n"
    "\n"
    "This page is written by `build/release/tests/tools/configuration_doc` from the table `ESPL_CONFIG_OPTIONS`\n"
    "in `include/espalier/config/config.h`; a test compares them.\n";

static void doc_put_default(espl_str *s, const espl_option *row) {
    if ((row->type == ESPL_OPTION_TEXT || row->type == ESPL_OPTION_NUMBERS) && !*row->text) {
        espl_str_puts(s, "none");
        return;
    }
    const char *quote = row->type == ESPL_OPTION_TEXT || row->type == ESPL_OPTION_CHOICE ? "`" : "";
    espl_str_puts(s, quote);
    espl_option_put_default(s, row);
    espl_str_puts(s, quote);
}

static void doc_put_allowed(espl_str *s, const espl_option *row) {
    switch (row->type) {
    case ESPL_OPTION_CHOICE:
        for (const espl_choice *c = row->choices; c->name; c++)
            espl_str_printf(s, "%s`%s`", c == row->choices ? "" : ", ", c->name);
        return;
    case ESPL_OPTION_TEXT:
        espl_str_puts(s, "text");
        return;
    case ESPL_OPTION_FLAG:
        espl_str_puts(s, "true, false");
        return;
    case ESPL_OPTION_INTEGER:
    case ESPL_OPTION_REAL:
    case ESPL_OPTION_NUMBERS:
        espl_str_puts(s, row->type == ESPL_OPTION_INTEGER ? "integer, "
                         : row->type == ESPL_OPTION_REAL  ? "number, "
                                                          : "list of numbers, ");
        espl_str_put_shortest(s, row->lo);
        espl_str_puts(s, " to ");
        espl_str_put_shortest(s, row->hi);
        return;
    }
}

static void doc_put_section(espl_str *s, const espl_section *section) {
    espl_str_printf(s, "\n## %s\n\n%s.\n\n| option | default | allowed | meaning |\n|---|---|---|---|\n", section->name,
                    section->meaning);
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        const espl_option *row = &espl_option_table[i];
        if (strcmp(row->section, section->name) != 0) continue;
        espl_str_printf(s, "| `%s.%s` | ", row->section, row->key);
        doc_put_default(s, row);
        espl_str_puts(s, " | ");
        doc_put_allowed(s, row);
        espl_str_printf(s, " | %s |\n", row->meaning);
    }
}

int main(int argc, char **argv) {
    espl_str s = {0};
    espl_str_puts(&s, introduction);
    for (int i = 0; i < ESPL_SECTIONS; i++) doc_put_section(&s, &espl_section_table[i]);
    int code = page_publish(&s, argc > 1 ? argv[1] : NULL, "configuration_doc");
    espl_str_free(&s);
    return code;
}
