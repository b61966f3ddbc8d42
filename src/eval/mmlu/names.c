/* SPDX-License-Identifier: Apache-2.0 */
/* Names of MMLU's splits and prompt styles, as users and files write them. */
#include <string.h>

#include "espalier/eval/mmlu.h"

static const char *const mmlu_split_labels[] = {
#define X(name, label) label,
    ESPL_MMLU_SPLIT_LIST(X)
#undef X
};

static const char *const mmlu_style_labels[] = {
#define X(name, label) label,
    ESPL_MMLU_STYLE_LIST(X)
#undef X
};

const char *espl_mmlu_split_name(espl_mmlu_split s) {
    return (unsigned)s < ESPL_MMLU_SPLIT_COUNT ? mmlu_split_labels[s] : "?";
}

const char *espl_mmlu_style_name(espl_mmlu_style s) {
    return (unsigned)s < ESPL_MMLU_STYLE_COUNT ? mmlu_style_labels[s] : "?";
}

bool espl_mmlu_split_parse(const char *name, espl_mmlu_split *out) {
    for (int i = 0; i < ESPL_MMLU_SPLIT_COUNT; i++)
        if (strcmp(mmlu_split_labels[i], name) == 0) return *out = (espl_mmlu_split)i, true;
    return false;
}

bool espl_mmlu_style_parse(const char *name, espl_mmlu_style *out) {
    for (int i = 0; i < ESPL_MMLU_STYLE_COUNT; i++)
        if (strcmp(mmlu_style_labels[i], name) == 0) return *out = (espl_mmlu_style)i, true;
    return false;
}
