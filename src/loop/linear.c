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

const char *espl_linear_name(espl_layout l, int64_t index, char *buf) {
    int64_t layer = espl_linear_layer(l, index), expert = espl_linear_expert(l, index);
    const char *path = espl_linear_path(espl_linear_kind_of(l, index));
    if (expert < 0)
        snprintf(buf, ESPL_LINEAR_NAME_MAX, "layers.%" PRId64 ".%s", layer, path);
    else
        snprintf(buf, ESPL_LINEAR_NAME_MAX, "layers.%" PRId64 ".mlp.experts.%" PRId64 "%s", layer, expert,
                 strchr(path, '.'));
    return buf;
}

const char *espl_linear_pattern(espl_layout l, espl_linear_kind kind) {
    static const char *const experts[ESPL_MLP_LINEARS] = {"mlp.experts.*.gate_proj", "mlp.experts.*.up_proj",
                                                          "mlp.experts.*.down_proj"};
    return l.experts > 0 && kind >= ESPL_GATE_PROJ ? experts[kind - ESPL_GATE_PROJ] : linear_paths[kind];
}

static const char *linear_skip_model(const char *name) {
    static const char model[] = "model.";
    return strncmp(name, model, sizeof model - 1) == 0 ? name + sizeof model - 1 : name;
}

/* Reads a number below `below` and moves *text behind it; -1: there is none. */
static int64_t linear_parse_number(const char **text, int64_t below) {
    if (**text < '0' || **text > '9') return -1; /* strtoll would take a sign or a space */
    char *end;
    int64_t n = strtoll(*text, &end, 10); /* saturates on overflow, which is then beyond any limit */
    *text = end;
    return n < below ? n : -1;
}

int64_t espl_linear_parse(espl_layout l, const char *name) {
    static const char prefix[] = "layers.", experts[] = ".mlp.experts.";
    int64_t expert = -1;
    name = linear_skip_model(name);
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    name += sizeof prefix - 1;
    int64_t layer = linear_parse_number(&name, l.layers);
    if (layer < 0 || *name != '.') return -1;
    if (strncmp(name, experts, sizeof experts - 1) == 0) {
        name += sizeof experts - 1;
        expert = linear_parse_number(&name, l.experts);
        if (expert < 0) return -1;
    }
    int first = expert < 0 ? 0 : ESPL_GATE_PROJ, end = expert < 0 && l.experts > 0 ? ESPL_GATE_PROJ : ESPL_LINEAR_KINDS;
    for (int k = first; k < end; k++) {
        const char *path = expert < 0 ? linear_paths[k] : strchr(linear_paths[k], '.') + 1;
        if (*name == '.' && strcmp(name + 1, path) == 0)
            return espl_linear_index(l, layer, espl_linear_at((espl_linear_kind)k, expert < 0 ? 0 : expert));
    }
    return -1;
}

/* Not fnmatch: patterns come from language models, and its time grows exponentially with the stars. Here, only the last
 * star is ever moved. */
bool espl_linear_matches(espl_layout l, int64_t index, const char *pattern) {
    char buf[ESPL_LINEAR_NAME_MAX];
    const char *name = espl_linear_name(l, index, buf), *p = linear_skip_model(pattern), *star = NULL, *from = NULL;
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
