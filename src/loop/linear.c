/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of linears. Agents and users write them: parsing accepts the Hugging Face prefix "model." and nothing else.
 */
#include "espalier/loop/linear.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const linear_paths[ESPL_LINEAR_KINDS] = {
#define X(name, path) path,
    ESPL_LINEAR_LIST(X)
#undef X
};

const char *espl_linear_path(espl_linear_kind kind) { return linear_paths[kind]; }

const char *espl_linear_name(int64_t index, char *buf) {
    snprintf(buf, ESPL_LINEAR_NAME_MAX, "layers.%" PRId64 ".%s", espl_linear_layer(index),
             espl_linear_path(espl_linear_kind_of(index)));
    return buf;
}

static const char *linear_skip_model(const char *name) {
    static const char model[] = "model.";
    return strncmp(name, model, sizeof model - 1) == 0 ? name + sizeof model - 1 : name;
}

int64_t espl_linear_parse(const char *name, int64_t layers) {
    static const char prefix[] = "layers.";
    name = linear_skip_model(name);
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    name += sizeof prefix - 1;
    if (*name < '0' || *name > '9') return -1; /* strtoll would take a sign or a space */
    char *end;
    int64_t layer = strtoll(name, &end, 10); /* saturates on overflow, which is then no layer */
    if (*end != '.' || layer >= layers) return -1;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        if (strcmp(end + 1, linear_paths[k]) == 0) return espl_linear_index(layer, (espl_linear_kind)k);
    return -1;
}

/* Not fnmatch: patterns come from language models, and its time grows exponentially with the stars. Here, only the last
 * star is ever moved. */
bool espl_linear_matches(int64_t index, const char *pattern) {
    char buf[ESPL_LINEAR_NAME_MAX];
    const char *name = espl_linear_name(index, buf), *p = linear_skip_model(pattern), *star = NULL, *from = NULL;
    while (*name) {
        if (*p == '*') {
            star = p++;
            from = name;
        } else if (*p == *name) {
            p++;
            name++;
        } else if (star) { /* the last star stands for one character more */
            p = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*p == '*') p++;
    return *p == '\0';
}
