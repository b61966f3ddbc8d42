/* SPDX-License-Identifier: Apache-2.0 */
/* What a run gave each linear, as the next run, or another program, can read it. */
#include "allocation.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/model/shape.h"

enum { ALLOCATION_BYTES_MAX = 1 << 26, NAME_SHOWN_MAX = 80 };

typedef struct allocation_reader {
    const char *path;
    espl_layout layout;
    int64_t named;
    double *sparsity; /* NAN: not named so far */
} allocation_reader;

/* `value` NAN: what stands there is no number. */
static espl_status allocation_take(allocation_reader *r, const char *name, double value) {
    int64_t index = espl_linear_parse(r->layout, name);
    if (index < 0)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: \"%.*s\" is no linear of the model, expected names such as layers.0.mlp.%sup_proj, of "
                         "layers 0 to %" PRId64,
                         r->path, NAME_SHOWN_MAX, name, r->layout.experts > 0 ? "experts.0." : "",
                         r->layout.layers - 1);
    if (!isnan(r->sparsity[index])) return ESPL_FAIL(ESPL_FORMAT, "%s: %s appears twice", r->path, name);
    if (!(value >= 0 && value <= 1))
        return ESPL_FAIL(ESPL_FORMAT, "%s: the sparsity of %s is %s, expected a number from 0 to 1", r->path, name,
                         isnan(value) ? "no number" : "out of range");
    r->sparsity[index] = value;
    r->named++;
    return ESPL_OK;
}

static espl_status allocation_read_json(allocation_reader *r, const char *text, int64_t len) {
    cJSON *doc;
    const cJSON *item;
    ESPL_TRY(espl_json_parse(text, len, r->path, &doc));
    const cJSON *inner = espl_json_member(doc, "allocation");
    espl_status st = ESPL_OK;
    for (item = cJSON_IsObject(inner) ? inner->child : doc->child; st == ESPL_OK && item; item = item->next)
        st = allocation_take(r, item->string, cJSON_IsNumber(item) ? item->valuedouble : NAN);
    espl_json_free(&doc);
    return st;
}

/* Cuts the spaces around a text off, in place. */
static char *allocation_trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    return text;
}

static espl_status allocation_read_lines(allocation_reader *r, char *text) {
    bool first = true;
    for (char *line, *rest = text; (line = strsep(&rest, "\n"));) {
        char *value = line, *name = strsep(&value, ","), *end;
        name = allocation_trim(name);
        if (!*name && !value) continue;
        if (!value)
            return ESPL_FAIL(ESPL_FORMAT, "%s: \"%.*s\": expected a JSON object, or lines \"linear,sparsity\"", r->path,
                             NAME_SHOWN_MAX, name);
        value = allocation_trim(value);
        bool heads = first && strcmp(name, "linear") == 0;
        first = false;
        if (heads) continue;
        double number = strtod(value, &end);
        ESPL_TRY(allocation_take(r, name, *value && !*end ? number : NAN));
    }
    return ESPL_OK;
}

espl_status espl_allocation_read(const char *path, espl_layout layout, double *sparsity) {
    allocation_reader r = {.path = path, .layout = layout, .sparsity = sparsity};
    int64_t linears = espl_layout_linears(layout), len;
    char *text;
    ESPL_TRY(espl_file_read_regular(path, ALLOCATION_BYTES_MAX, &text, &len));
    for (int64_t i = 0; i < linears; i++) sparsity[i] = NAN;
    bool json = text[strspn(text, " \t\r\n")] == '{';
    espl_status st = json ? allocation_read_json(&r, text, len) : allocation_read_lines(&r, text);
    if (st == ESPL_OK && r.named == 0)
        st = ESPL_FAIL(ESPL_FORMAT, "%s: names no linear, expected a JSON object or lines linear,sparsity", path);
    for (int64_t i = 0; i < linears; i++)
        if (isnan(sparsity[i])) sparsity[i] = 0;
    espl_mem_free(&text);
    return st;
}

double espl_allocation_sparsity(const espl_model_config *c, const double *sparsity) {
    double pruned = 0, all = 0;
    for (int64_t i = 0; i < espl_model_linears_of(c); i++) {
        int64_t out, in;
        espl_model_linear_shape(c, espl_linear_kind_of(espl_model_layout(c), i), &out, &in);
        pruned += sparsity[i] * (double)(out * in);
        all += (double)(out * in);
    }
    return pruned / all;
}

void espl_allocation_put(espl_json_writer *w, const char *key, const espl_job *j, const int64_t *pruned) {
    char name[ESPL_LINEAR_NAME_MAX];
    espl_json_open_object(w, key, ESPL_JSON_LINES);
    for (int64_t i = 0; i < j->linears; i++) {
        int kind = (int)espl_linear_kind_of(espl_model_layout(&j->config), i);
        double weights = (double)(j->shape.out[kind] * j->shape.in[kind]);
        espl_json_put_shortest(w, espl_linear_name(espl_model_layout(&j->config), i, name),
                               (double)pruned[i] / weights);
    }
    espl_json_close(w);
}
