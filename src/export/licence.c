/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Under which licence a model is published. A model card begins with front matter, YAML between two lines "---". Its
 * top-level keys are copied with the lines that belong to them, as they are: a fragment of YAML that begins at a key of
 * the top level and ends before the next one is YAML again, so it need not be understood.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/export.h"
#include "files.h"

enum { README_BYTES_MAX = 1 << 24, FIELD_BYTES_MAX = 4096 };

/* Reads a file of the source. *text NULL: it is not there, or is nothing that an export would copy. */
static espl_status licence_read(const char *source, const char *name, char **text) {
    struct stat info;
    int64_t len;
    espl_str path;
    *text = NULL;
    espl_status st = espl_export_join(source, name, "", &path);
    if (st == ESPL_OK && stat(path.data, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= README_BYTES_MAX &&
        !espl_export_leads_out(source, path.data))
        st = espl_file_read_regular(path.data, README_BYTES_MAX, text, &len);
    espl_str_free(&path);
    return st;
}

/* The line at *at, without its end; moves *at behind it. */
static const char *licence_next_line(const char **at, int64_t *len) {
    const char *line = *at, *end = strchrnul(line, '\n');
    *at = *end ? end + 1 : end;
    *len = end - line;
    if (*len > 0 && line[*len - 1] == '\r') (*len)--;
    return line;
}

static bool licence_is_rule(const char *line, int64_t len) { return len == 3 && memcmp(line, "---", 3) == 0; }

/* Does the line belong to the key above it? */
static bool licence_continues(const char *line, int64_t len) {
    return len > 0 && (*line == ' ' || (*line == '-' && !licence_is_rule(line, len)));
}

static bool licence_is_key(const char *line, int64_t len, const char *key) {
    int64_t n = (int64_t)strlen(key);
    return len > n && strncmp(line, key, (size_t)n) == 0 && line[n] == ':';
}

/* Printable ASCII only: what is copied stands in a file that other programs parse. */
static bool licence_is_plain(const espl_str *s) {
    for (int64_t i = 0; i < s->len; i++)
        if (s->data[i] != '\n' && !isprint((unsigned char)s->data[i])) return false;
    return s->len <= FIELD_BYTES_MAX;
}

/* Copies the wanted keys of a card's front matter. */
static espl_status licence_copy_fields(const char *card, espl_str *out, bool *known) {
    static const char *const keys[] = {"license", "license_name", "license_link", "language"};
    int64_t len;
    const char *line = licence_next_line(&card, &len);
    if (!licence_is_rule(line, len)) return ESPL_OK;
    line = licence_next_line(&card, &len);
    while (*line && !licence_is_rule(line, len)) {
        size_t k = 0;
        espl_str field = {0};
        while (k < sizeof keys / sizeof *keys && !licence_is_key(line, len, keys[k])) k++;
        do {
            espl_str_put(&field, line, len);
            espl_str_puts(&field, "\n");
            line = licence_next_line(&card, &len);
        } while (licence_continues(line, len));
        if (k < sizeof keys / sizeof *keys && licence_is_plain(&field)) {
            espl_str_put(out, field.data, field.len);
            *known |= k == 0;
        }
        bool failed = field.failed;
        espl_str_free(&field);
        if (failed) return ESPL_FAIL(ESPL_NOMEM, "no memory for the front matter of a model card");
    }
    return espl_str_status(out);
}

/* What Hugging Face calls the licence with this text. */
static const char *licence_identify(const char *text) {
    static const char apache[] = "Apache License", version[] = "Version 2.0, January 2004";
    static const char mit[] = "MIT License";
    while (isspace((unsigned char)*text)) text++;
    if (strncmp(text, mit, sizeof mit - 1) == 0) return "mit";
    if (strncmp(text, apache, sizeof apache - 1) != 0) return "other";
    text += sizeof apache - 1;
    while (isspace((unsigned char)*text)) text++;
    return strncmp(text, version, sizeof version - 1) == 0 ? "apache-2.0" : "other";
}

espl_status espl_export_put_licence(const char *source, espl_str *front_matter, bool *known) {
    static const char *const files[] = {"LICENSE", "LICENSE.txt", "LICENSE.md"};
    char *text;
    *known = false;
    ESPL_TRY(licence_read(source, ESPL_EXPORT_CARD, &text));
    espl_status st = text ? licence_copy_fields(text, front_matter, known) : ESPL_OK;
    espl_mem_free(&text);
    for (size_t i = 0; st == ESPL_OK && !*known && i < sizeof files / sizeof *files; i++) {
        ESPL_TRY(licence_read(source, files[i], &text));
        if (!text) continue;
        const char *name = licence_identify(text);
        espl_str_printf(front_matter, "license: %s\n", name);
        if (strcmp(name, "other") == 0)
            espl_str_printf(front_matter, "license_name: the-licence-of-the-base-model\nlicense_link: %s\n", files[i]);
        *known = true;
        espl_mem_free(&text);
        st = espl_str_status(front_matter);
    }
    return st;
}
