/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many bytes are missing at least. The distance of a text is the sum over its open values: each counts what it
 * needs itself behind the value inside it.
 */
#include "compile.h"
#include "espalier/base/integer.h"
#include "espalier/form/automaton.h"

static int64_t text_distance(const form_frame *f) {
    switch ((form_phase)f->phase) {
    case OPEN:
    case ESCAPE:
        return 2;
    case CHARACTER:
        return f->depth + 1;
    default:
        return 1;
    }
}

static int64_t choice_distance(const form_frame *f) {
    int64_t best = INT64_MAX;
    for (int32_t i = f->lo; i < f->hi; i++) best = espl_min_i64(best, f->node->names[i].len - f->depth);
    return best;
}

static int64_t object_distance(const form_frame *f) {
    int64_t behind_comma = f->node->tail[f->at] - (f->at > 0 ? 1 : 0);
    switch ((form_phase)f->phase) {
    case OPEN:
        return f->node->shortest;
    case FIRST:
    case AFTER:
        return f->node->tail[f->at];
    case VALUE:
    case VALUE_SPACE:
        return behind_comma - f->depth - 1; /* depth is the length of the key now */
    default:                                /* COMMA, SPACE, KEY and COLON */
        return behind_comma - f->depth;
    }
}

/* Behind `count` elements. */
static int64_t array_rest(const form_node *node, int64_t count) {
    return espl_max_i64(node->min - count, 0) * (1 + node->children[0]->shortest) + 1;
}

static int64_t array_distance(const form_frame *f) {
    switch ((form_phase)f->phase) {
    case OPEN:
        return f->node->shortest;
    case FIRST:
        return f->node->shortest - 1;
    case AFTER:
        return array_rest(f->node, f->at);
    default: /* COMMA and SPACE */
        return f->node->children[0]->shortest + array_rest(f->node, f->at + 1);
    }
}

/* Of the names in [lo, hi) or, for a choice among variants, of what follows them, too. */
static int64_t tag_distance(const form_node *node, int32_t lo, int32_t hi) {
    int64_t best = INT64_MAX;
    for (int32_t i = lo; i < hi; i++)
        best = espl_min_i64(best, node->names[i].len + node->children[node->names[i].index]->tail[1]);
    return best;
}

static int64_t variants_distance(const form_frame *f) {
    const form_node *node = f->node;
    switch ((form_phase)f->phase) {
    case OPEN:
        return node->shortest;
    case TAG:
        return tag_distance(node, f->lo, f->hi) - f->depth;
    case VALUE:
    case VALUE_SPACE:
        return tag_distance(node, 0, (int32_t)node->n_names);
    default: /* FIRST, KEY and COLON */
        return node->key.len - f->depth + 1 + tag_distance(node, 0, (int32_t)node->n_names);
    }
}

static bool map_is_used(const espl_automaton_state *s, const form_frame *f, int64_t name) {
    for (int32_t i = f->used; i < s->n_used; i++)
        if (s->used_names[i] == name) return true;
    return false;
}

/* Bytes of the `count` shortest entries without a comma before the first one, of names that have none yet and are not
 * `but`. */
static int64_t map_cheapest(const espl_automaton_state *s, const form_frame *f, int64_t count, int64_t but) {
    int64_t sum = 0;
    for (int64_t i = 0, found = 0; i < f->node->n_names && found < count; i++) {
        int64_t name = f->node->cheapest[i];
        if (name == but || map_is_used(s, f, name)) continue;
        sum += espl_form_entry_bytes(f->node, name) + (found++ > 0 ? 1 : 0);
    }
    return sum;
}

static int64_t map_distance(const espl_automaton_state *s, const form_frame *f) {
    const form_node *node = f->node;
    int64_t missing = espl_max_i64(node->min - f->at, 0), best = INT64_MAX;
    switch ((form_phase)f->phase) {
    case OPEN:
        return node->shortest;
    case FIRST:
        return node->shortest - 1;
    case AFTER:
        return (missing > 0 ? 1 + map_cheapest(s, f, missing, -1) : 0) + 1;
    case COMMA:
    case SPACE:
        return map_cheapest(s, f, espl_max_i64(missing, 1), -1) + 1;
    default:
        break;
    }
    /* KEY: one of the names that match, then the cheapest others. COLON and VALUE: the name is known. */
    int64_t others = espl_max_i64(missing - 1, 0);
    for (int32_t i = f->lo; i < f->hi; i++) {
        if (f->phase == KEY && map_is_used(s, f, i)) continue;
        int64_t bytes = espl_form_entry_bytes(node, i) + (others > 0 ? 1 + map_cheapest(s, f, others, i) : 0);
        best = espl_min_i64(best, bytes);
    }
    return best - f->depth - (f->phase == VALUE || f->phase == VALUE_SPACE ? 1 : 0) + 1;
}

int64_t espl_automaton_distance(const espl_automaton_state *s) {
    int64_t sum = 0;
    for (int32_t i = 0; i < s->n; i++) {
        const form_frame *f = &s->frames[i];
        switch (f->node->kind) {
        case ESPL_FORM_TEXT:
            sum += text_distance(f);
            break;
        case ESPL_FORM_NUMBER:
            sum += espl_number_distance(&f->node->range,
                                        &(espl_number_prefix){f->number, f->whole, f->behind, f->negative, f->point});
            break;
        case ESPL_FORM_CHOICE:
        case ESPL_FORM_BOOLEAN:
            sum += choice_distance(f);
            break;
        case ESPL_FORM_OBJECT:
            sum += object_distance(f);
            break;
        case ESPL_FORM_MAP:
            sum += map_distance(s, f);
            break;
        case ESPL_FORM_ARRAY:
            sum += array_distance(f);
            break;
        case ESPL_FORM_VARIANTS:
            sum += variants_distance(f);
            break;
        case ESPL_FORM_EITHER:
            sum += f->node->shortest;
            break;
        }
    }
    return sum;
}
