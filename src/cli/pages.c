/* SPDX-License-Identifier: Apache-2.0 */
/*
 * espalier_pages DIR SOURCE: writes the manual pages and the completions of bash and zsh into a directory. A program of
 * the build, linked with the commands, so that all of these follow from the option tables that --help prints. It runs
 * while espalier is built, where MPI may not work, and therefore does not start it.
 *
 *     espalier.1, espalier-COMMAND.1   manual pages
 *     espalier.bash, _espalier         completions: commands, options, files, and SECTION.KEY=VALUE of --set
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/config/table.h"
#include "espl_revision.h"
#include "options.h"

typedef struct page_command {
    const char *name, *operand, *summary;
    const struct argp *argp;
} page_command;

static const page_command page_commands[] = {
#define X(name, operand, summary) {#name, operand, summary, &cli_##name##_argp},
    CLI_COMMAND_LIST(X)
#undef X
};
enum { PAGE_COMMANDS = sizeof page_commands / sizeof *page_commands };

/* ---------------------------------------------------------------- options */

enum { PAGE_OPTIONS_MAX = 64 };

/* The options of an argp and of its children, headers included, in the order of --help. */
typedef struct page_options {
    const struct argp_option *rows[PAGE_OPTIONS_MAX];
    int n;
} page_options;

static void page_collect(const struct argp *argp, page_options *out) {
    for (const struct argp_option *o = argp->options; o && (o->name || o->key || o->doc); o++)
        if (out->n < PAGE_OPTIONS_MAX) out->rows[out->n++] = o;
    for (const struct argp_child *child = argp->children; child && child->argp; child++) page_collect(child->argp, out);
}

/* By group (all of ours are below zero, the help's is the last), a header before the options of its group. Stable. */
static page_options page_sorted(const struct argp *argp) {
    page_options out = {.n = 0};
    page_collect(argp, &out);
    for (int i = 1; i < out.n; i++)
        for (int k = i; k > 0; k--) {
            const struct argp_option *a = out.rows[k - 1], *b = out.rows[k];
            if (a->group < b->group || (a->group == b->group && (!a->name || b->name))) break;
            out.rows[k - 1] = b;
            out.rows[k] = a;
        }
    return out;
}

/* ----------------------------------------------------------- manual pages */

/* Appends text for troff: hyphens that stay hyphens, no requests by accident. */
static void man_put(espl_str *s, const char *text) {
    for (const char *p = text; *p; p++) {
        bool starts_line = s->len == 0 || s->data[s->len - 1] == '\n';
        if (starts_line && (*p == '.' || *p == '\'')) espl_str_puts(s, "\\&");
        if (*p == '\\')
            espl_str_puts(s, "\\e");
        else if (*p == '-')
            espl_str_puts(s, "\\-");
        else
            espl_str_put(s, p, 1);
    }
}

static void man_put_head(espl_str *s, const char *name, const char *summary) {
    espl_str_printf(s, ".TH %s 1 \"\" \"espalier %s\" \"User Commands\"\n.SH NAME\n", name, ESPL_VERSION);
    man_put(s, name);
    espl_str_puts(s, " \\- ");
    man_put(s, summary);
    espl_str_puts(s, "\n.SH SYNOPSIS\n");
}

static void man_put_options(espl_str *s, const struct argp *argp) {
    page_options options = page_sorted(argp);
    espl_str_puts(s, ".SH OPTIONS\n");
    for (int i = 0; i < options.n; i++) {
        const struct argp_option *o = options.rows[i];
        if (!o->name) {
            espl_str_puts(s, ".SS ");
            espl_str_put(s, o->doc, (int64_t)strcspn(o->doc, ":"));
            espl_str_puts(s, "\n");
            continue;
        }
        espl_str_puts(s, ".TP\n");
        if (o->key > ' ' && o->key < CLI_KEY_FIRST) espl_str_printf(s, "\\fB\\-%c\\fR, ", o->key);
        espl_str_puts(s, "\\fB\\-\\-");
        man_put(s, o->name);
        espl_str_printf(s, "\\fR%s%s%s\n", o->arg ? "=\\fI" : "", o->arg ? o->arg : "", o->arg ? "\\fR" : "");
        man_put(s, o->doc);
        espl_str_puts(s, "\n");
    }
}

/* argp's documentation: what comes before the options, and after the \v what comes behind them. */
static void man_put_doc(espl_str *s, const char *doc, bool after) {
    const char *split = strchr(doc, '\v');
    espl_str part = {0};
    if (after && split)
        espl_str_puts(&part, split + 1);
    else if (!after)
        espl_str_put(&part, doc, split ? split - doc : (int64_t)strlen(doc));
    if (part.len > 0) {
        if (after) espl_str_puts(s, ".SH NOTES\n");
        man_put(s, part.data);
        espl_str_puts(s, "\n");
    }
    espl_str_free(&part);
}

static const char man_exit_codes[] = ".SH EXIT STATUS\n" CLI_EXIT_CODES "\n";

static void man_put_command(espl_str *s, const page_command *c) {
    char name[64];
    snprintf(name, sizeof name, "espalier-%s", c->name);
    man_put_head(s, name, c->summary);
    espl_str_printf(s, "[\\fBmpirun \\-n\\fR \\fIN\\fR] \\fBespalier %s\\fR [\\fIOPTION\\fR]...%s\n.SH DESCRIPTION\n",
                    c->name, c->operand);
    man_put_doc(s, c->argp->doc, false);
    man_put_options(s, c->argp);
    man_put_doc(s, c->argp->doc, true);
    espl_str_puts(s, man_exit_codes);
    espl_str_puts(s, ".SH SEE ALSO\n.BR espalier (1)\n");
}

static void man_put_program(espl_str *s) {
    man_put_head(s, "espalier", "compress large language models by agent-guided adaptive pruning");
    espl_str_puts(s, "\\fBespalier\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n"
                     "Results go to standard output, progress to standard error.\n.SH COMMANDS\n");
    for (int i = 0; i < PAGE_COMMANDS; i++) {
        espl_str_printf(s, ".TP\n\\fB%s\\fR%s\n", page_commands[i].name, page_commands[i].operand);
        man_put(s, page_commands[i].summary);
        espl_str_puts(s, "\n");
    }
    man_put_options(s, &cli_argp_help);
    espl_str_puts(s, ".SH CONFIGURATION\nOptions of configuration files, and of \\fB\\-\\-set\\fR.\n");
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        const espl_option *row = &espl_option_table[i];
        if (i == 0 || strcmp(row->section, row[-1].section) != 0) espl_str_printf(s, ".SS %s\n", row->section);
        espl_str_puts(s, ".TP\n\\fB");
        espl_str_printf(s, "%s.%s\\fR (", row->section, row->key);
        espl_str default_value = {0};
        espl_option_put_default(&default_value, row);
        man_put(s, default_value.data ? default_value.data : "");
        espl_str_free(&default_value);
        espl_str_puts(s, ")\n");
        man_put(s, row->meaning);
        espl_str_puts(s, "\n");
    }
    espl_str_puts(s, ".SH ENVIRONMENT\n");
    man_put(s, CLI_ENVIRONMENT);
    espl_str_puts(s, "\n");
    espl_str_puts(s, man_exit_codes);
    espl_str_puts(s, ".SH SEE ALSO\n");
    for (int i = 0; i < PAGE_COMMANDS; i++)
        espl_str_printf(s, ".BR espalier\\-%s (1)%s\n", page_commands[i].name, i + 1 < PAGE_COMMANDS ? "," : "");
}

/* ------------------------------------------------------------ completions
 *
 * The shells' own code is in completion.bash and completion.zsh. Both ask these functions, which every Bourne shell
 * understands; each prints one word per line:
 *     _espalier_options [COMMAND]   "--name:description"; without COMMAND the commands, "name:description"
 *     _espalier_argument COMMAND OPTION   "path", "value" or "none": what follows the option
 *     _espalier_keys                "prune.target"
 *     _espalier_values KEY          the named values of an option of the configuration; none for numbers and texts */

static const char *page_argument(const struct argp_option *o) {
    if (!o->arg) return "none";
    return strcmp(o->arg, "FILE") == 0 || strcmp(o->arg, "DIR") == 0 || strstr(o->arg, ".h5") ? "path" : "value";
}

static void tables_put_options(espl_str *s, const struct argp *argp) {
    page_options options = page_sorted(argp);
    for (int i = 0; i < options.n; i++)
        if (options.rows[i]->name) espl_str_printf(s, "--%s:%s\n", options.rows[i]->name, options.rows[i]->doc);
}

static void tables_put_arguments(espl_str *s, const page_command *c) {
    page_options options = page_sorted(c->argp);
    for (int i = 0; i < options.n; i++)
        if (options.rows[i]->name && options.rows[i]->arg)
            espl_str_printf(s, "    %s:--%s) echo %s ;;\n", c->name, options.rows[i]->name,
                            page_argument(options.rows[i]));
}

static void tables_put(espl_str *s) {
    espl_str_puts(s, "_espalier_options() {\n  case ${1-} in\n    '') cat <<'END'\n");
    for (int i = 0; i < PAGE_COMMANDS; i++)
        espl_str_printf(s, "%s:%s\n", page_commands[i].name, page_commands[i].summary);
    tables_put_options(s, &cli_argp_help);
    espl_str_puts(s, "END\n    ;;\n");
    for (int i = 0; i < PAGE_COMMANDS; i++) {
        espl_str_printf(s, "    %s) cat <<'END'\n", page_commands[i].name);
        tables_put_options(s, page_commands[i].argp);
        espl_str_puts(s, "END\n    ;;\n");
    }
    espl_str_puts(s, "  esac\n}\n_espalier_argument() {\n  case $1:$2 in\n");
    for (int i = 0; i < PAGE_COMMANDS; i++) tables_put_arguments(s, &page_commands[i]);
    espl_str_puts(s, "    *) echo none ;;\n  esac\n}\n_espalier_keys() {\n  cat <<'END'\n");
    for (int i = 0; i < ESPL_OPTIONS; i++)
        espl_str_printf(s, "%s.%s\n", espl_option_table[i].section, espl_option_table[i].key);
    espl_str_puts(s, "END\n}\n_espalier_values() {\n  case $1 in\n");
    for (int i = 0; i < ESPL_OPTIONS; i++) {
        const espl_option *row = &espl_option_table[i];
        if (row->type != ESPL_OPTION_FLAG && row->type != ESPL_OPTION_CHOICE) continue;
        espl_str_printf(s, "    %s.%s) printf '%%s\\n'", row->section, row->key);
        if (row->type == ESPL_OPTION_FLAG) espl_str_puts(s, " true false");
        for (const espl_choice *c = row->choices; c && c->name; c++) espl_str_printf(s, " %s", c->name);
        espl_str_puts(s, " ;;\n");
    }
    espl_str_puts(s, "  esac\n}\n");
}

/* ------------------------------------------------------------------ files */

static espl_status page_write(const char *dir, const char *name, espl_str *text) {
    espl_str path = {0};
    espl_str_printf(&path, "%s/%s", dir, name);
    espl_status st = espl_str_status(&path);
    if (st == ESPL_OK) st = espl_str_status(text);
    if (st == ESPL_OK) st = espl_file_replace(path.data, text->data, text->len);
    espl_str_free(&path);
    espl_str_free(text);
    return st;
}

/* `head`, the tables, and the shell's code from `source`/`code`. */
static espl_status page_write_completion(const char *dir, const char *name, const char *head, const char *source,
                                         const char *code) {
    enum { CODE_BYTES_MAX = 1 << 16 };
    espl_str text = {0}, path = {0};
    char *script = NULL;
    int64_t len = 0;
    espl_status st;
    espl_str_puts(&text, head);
    tables_put(&text);
    espl_str_printf(&path, "%s/%s", source, code);
    ESPL_CHECK(st, done, espl_str_status(&path));
    ESPL_CHECK(st, done, espl_file_read(path.data, CODE_BYTES_MAX, &script, &len));
    espl_str_put(&text, script, len);
    st = page_write(dir, name, &text);
done:
    espl_mem_free(&script);
    espl_str_free(&path);
    espl_str_free(&text);
    return st;
}

static espl_status pages_write(const char *dir, const char *source) {
    espl_str text = {0};
    man_put_program(&text);
    ESPL_TRY(page_write(dir, "espalier.1", &text));
    for (int i = 0; i < PAGE_COMMANDS; i++) {
        char name[64];
        snprintf(name, sizeof name, "espalier-%s.1", page_commands[i].name);
        man_put_command(&text, &page_commands[i]);
        ESPL_TRY(page_write(dir, name, &text));
    }
    ESPL_TRY(page_write_completion(dir, "espalier.bash", "# Completion of espalier for bash, made from its options.\n",
                                   source, "completion.bash"));
    return page_write_completion(dir, "_espalier", "#compdef espalier\n# Made from the options of espalier.\n", source,
                                 "completion.zsh");
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: espalier_pages DIR SOURCE (the directory with completion.bash)\n");
        return 2;
    }
    espl_status st = pages_write(argv[1], argv[2]);
    if (st != ESPL_OK) fprintf(stderr, "espalier_pages: %s\n", espl_base_error_text());
    return espl_status_exit_code(st);
}
