/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four places of tokenizer.json that hold a component: normalizer, pre_tokenizer, post_processor, decoder. A
 * component is an object with a "type", or a "Sequence" of components, which may nest. This walker flattens them in
 * order, checks the keys of each, and hands it to the function that its table names for its type.
 */
#ifndef ESPL_TOKENIZER_COMPONENT_H
#define ESPL_TOKENIZER_COMPONENT_H

#include "espalier/base/status.h"
#include "json.h"

/* The most steps of one kind, sequences flattened: lists and scratch buffers have this size. */
enum { ESPL_TOK_MAX_STEPS = 32 };

/* Keys of components that appear in several places. */
#define ESPL_TOK_BYTE_LEVEL_KEYS "type|add_prefix_space|trim_offsets|use_regex"
#define ESPL_TOK_METASPACE_KEYS "type|replacement|add_prefix_space|prepend_scheme|split|str_rep"

/* Adds the component `node` to *target. `kind` is the one of the table's row. */
typedef espl_status (*espl_component_fn)(void *target, const struct cJSON *node, const espl_where *where, int kind);

typedef struct espl_component {
    const char *type;
    const char *keys;      /* "type|content": the keys it may have */
    espl_component_fn add; /* NULL: accepted, without effect here */
    int kind;
} espl_component;

typedef struct espl_component_place {
    const char *key;      /* in tokenizer.json: "normalizer" */
    const char *sequence; /* in a Sequence: "normalizers" */
    const espl_component *known;
    int64_t n_known;
} espl_component_place;

/* node: the member `key` of the document, NULL when there is none: then nothing is added. A type that is not in the
 * table is ESPL_UNSUPPORTED. */
espl_status espl_tok_components_parse(const espl_component_place *place, void *target, const struct cJSON *node,
                                      const char *file);

#endif
