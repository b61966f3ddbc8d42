/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The automaton: a stack of open values. A byte goes to the innermost one, which takes it, refuses it, or passes it on:
 * to a value that begins with it, or, if it is a number that the byte ends, to the value around it.
 */
#include "espalier/form/automaton.h"

#include "compile.h"

#include <string.h>

typedef enum form_outcome { REFUSED, TAKEN, PASSED } form_outcome;

static void state_push(espl_automaton_state *s, const form_node *node) {
    s->frames[s->n++] = (form_frame){.node = node, .hi = (int32_t)node->n_names, .used = s->n_used};
}

static form_outcome state_pop(espl_automaton_state *s) {
    s->n_used = s->frames[--s->n].used;
    return TAKEN;
}

void espl_automaton_start(const espl_automaton *a, espl_automaton_state *s) {
    s->n = s->n_used = 0;
    state_push(s, a->nodes[a->n - 1]);
}

/* ------------------------------------------------------------------ scalars */

static form_outcome text_step(espl_automaton_state *s, form_frame *f, uint8_t byte) {
    switch ((form_phase)f->phase) {
    case OPEN:
        f->phase = INSIDE;
        return byte == '"' ? TAKEN : REFUSED;
    case ESCAPE:
        f->phase = INSIDE;
        return byte && strchr("\"\\/bfnrt", byte) ? TAKEN : REFUSED;
    case CHARACTER:
        if (byte < f->lo || byte > f->hi) return REFUSED;
        f->lo = 0x80;
        f->hi = 0xBF;
        if (--f->depth == 0) f->phase = INSIDE;
        return TAKEN;
    default:
        break;
    }
    int64_t room = f->node->max - f->at;
    if (byte == '"') return state_pop(s);
    if (byte < 0x20 || room < 1) return REFUSED;
    if (byte == '\\') f->phase = ESCAPE;
    if (byte < 0x80) {
        f->at++;
        return TAKEN;
    }
    /* The first byte of a longer character, and the bounds of the second one (Unicode 15, table 3-7). */
    if (byte < 0xC2 || byte > 0xF4) return REFUSED;
    f->depth = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    f->lo = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    f->hi = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    f->phase = CHARACTER;
    f->at += f->depth + 1;
    return room > f->depth ? TAKEN : REFUSED;
}

static espl_number_prefix number_prefix(const form_frame *f) {
    return (espl_number_prefix){f->number, f->whole, f->behind, f->negative, f->point};
}

static form_outcome number_step(espl_automaton_state *s, form_frame *f, char byte) {
    espl_number_prefix p = number_prefix(f);
    if (espl_number_step(&f->node->range, &p, byte)) {
        f->number = p.digits;
        f->whole = p.whole;
        f->behind = p.behind;
        f->negative = p.negative;
        f->point = p.point;
        return TAKEN;
    }
    if (espl_number_distance(&f->node->range, &p) != 0) return REFUSED;
    state_pop(s);
    return PASSED;
}

/* -------------------------------------------------------------------- names */

/* The first of names[lo..hi), which share their first `depth` bytes, whose next byte is at least `byte`. */
static int32_t names_bound(const form_node *node, int32_t lo, int32_t hi, int32_t depth, int byte) {
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)node->names[mid].text[depth] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Narrows the names that the frame may still mean. *done: one of them has been read to its end. */
static bool names_step(form_frame *f, uint8_t byte, bool *done) {
    int32_t lo = f->lo, hi = f->hi;
    f->lo = names_bound(f->node, lo, hi, f->depth, byte);
    f->hi = names_bound(f->node, lo, hi, f->depth, byte + 1);
    f->depth++;
    *done = f->lo < f->hi && f->node->names[f->lo].len == f->depth;
    return f->lo < f->hi;
}

/* Names of a MAP that the frame may still mean and that have no entry yet. */
static bool map_has_unused(const espl_automaton_state *s, const form_frame *f) {
    int32_t unused = f->hi - f->lo;
    for (int32_t i = f->used; i < s->n_used; i++) unused -= s->used_names[i] >= f->lo && s->used_names[i] < f->hi;
    return unused > 0;
}

static form_outcome choice_step(espl_automaton_state *s, form_frame *f, uint8_t byte) {
    bool done;
    if (!names_step(f, byte, &done)) return REFUSED;
    return done ? state_pop(s) : TAKEN;
}

/* One byte of a key. An OBJECT's is known; a MAP's is chosen among those without an entry; VARIANTS' is that of all. */
static form_outcome key_step(espl_automaton_state *s, form_frame *f, uint8_t byte) {
    const form_node *node = f->node;
    bool done;
    f->phase = KEY;
    if (node->kind == ESPL_FORM_MAP) {
        if (!names_step(f, byte, &done) || !map_has_unused(s, f)) return REFUSED;
        if (done) s->used_names[s->n_used++] = (uint16_t)f->lo;
    } else {
        const form_name *name = node->kind == ESPL_FORM_VARIANTS ? &node->key : &node->names[f->at];
        if ((uint8_t)name->text[f->depth] != byte) return REFUSED;
        done = ++f->depth == name->len;
    }
    if (done) f->phase = COLON;
    return TAKEN;
}

/* --------------------------------------------------------------- containers */

/* Opens the value behind a colon, or an element. The frame waits behind it. */
static form_outcome container_push_value(espl_automaton_state *s, form_frame *f) {
    const form_node *node = f->node;
    int64_t child = node->kind == ESPL_FORM_ARRAY ? 0
                    : node->kind == ESPL_FORM_MAP ? node->names[f->lo].index
                                                  : node->names[f->at].index;
    f->phase = AFTER;
    f->at++;
    state_push(s, node->children[child]);
    return PASSED;
}

/* The tag has been read: the frame becomes the variant's, behind its first member. */
static form_outcome variants_choose(form_frame *f) {
    const form_node *object = f->node->children[f->node->names[f->lo].index];
    *f = (form_frame){.node = object, .phase = AFTER, .at = 1, .used = f->used};
    return TAKEN;
}

/* What may come where a value has just ended, or the bracket has been opened. */
static bool container_may_end(const form_frame *f) {
    const form_node *node = f->node;
    if (node->kind == ESPL_FORM_OBJECT) return f->at == node->n_names;
    return node->kind != ESPL_FORM_VARIANTS && f->at >= node->min;
}

static bool container_may_go_on(const form_frame *f) {
    return f->at < (f->node->kind == ESPL_FORM_OBJECT ? f->node->n_names : f->node->max);
}

static form_outcome container_step(espl_automaton_state *s, form_frame *f, uint8_t byte) {
    const form_node *node = f->node;
    bool array = node->kind == ESPL_FORM_ARRAY, variants = node->kind == ESPL_FORM_VARIANTS, done;
    switch ((form_phase)f->phase) {
    case OPEN:
        f->phase = FIRST;
        return byte == (array ? '[' : '{') ? TAKEN : REFUSED;
    case FIRST:
    case AFTER:
        if (byte == (array ? ']' : '}')) return container_may_end(f) ? state_pop(s) : REFUSED;
        if (f->phase == AFTER && byte == ',') {
            f->phase = COMMA;
            f->depth = f->lo = 0; /* the next name is any */
            f->hi = (int32_t)node->n_names;
            return container_may_go_on(f) ? TAKEN : REFUSED;
        }
        if (f->phase == AFTER || (!variants && !container_may_go_on(f))) return REFUSED;
        return array ? container_push_value(s, f) : key_step(s, f, byte);
    case COMMA:
        f->phase = SPACE;
        if (byte == ' ') return TAKEN;
        return array ? container_push_value(s, f) : key_step(s, f, byte);
    case SPACE:
        return array ? container_push_value(s, f) : key_step(s, f, byte);
    case KEY:
        return key_step(s, f, byte);
    case COLON:
        f->phase = VALUE;
        return byte == ':' ? TAKEN : REFUSED;
    case VALUE:
        f->phase = VALUE_SPACE;
        if (byte == ' ') return TAKEN;
        break;
    default: /* VALUE_SPACE and TAG */
        break;
    }
    if (!variants) return container_push_value(s, f);
    if (f->phase != TAG) f->depth = 0; /* it counted the key's bytes */
    f->phase = TAG;
    if (!names_step(f, byte, &done)) return REFUSED;
    return done ? variants_choose(f) : TAKEN;
}

/* The alternative that begins with the byte takes the place of the choice. */
static form_outcome either_step(espl_automaton_state *s, const form_frame *f, char byte) {
    const form_node *node = f->node;
    for (int64_t i = 0; i < node->n_children; i++) {
        espl_automaton_state probe = {.n_used = s->n_used};
        state_push(&probe, node->children[i]);
        if (!espl_automaton_step(&probe, byte)) continue;
        s->n--;
        state_push(s, node->children[i]);
        return PASSED;
    }
    return REFUSED;
}

bool espl_automaton_step(espl_automaton_state *s, char byte) {
    form_outcome o = PASSED;
    while (o == PASSED && s->n > 0) {
        form_frame *f = &s->frames[s->n - 1];
        switch (f->node->kind) {
        case ESPL_FORM_TEXT:
            o = text_step(s, f, (uint8_t)byte);
            break;
        case ESPL_FORM_NUMBER:
            o = number_step(s, f, byte);
            break;
        case ESPL_FORM_CHOICE:
        case ESPL_FORM_BOOLEAN:
            o = choice_step(s, f, (uint8_t)byte);
            break;
        case ESPL_FORM_EITHER:
            o = either_step(s, f, byte);
            break;
        default:
            o = container_step(s, f, (uint8_t)byte);
        }
    }
    return o == TAKEN;
}

bool espl_automaton_is_complete(const espl_automaton_state *s) { return s->n == 0; }

bool espl_automaton_is_in_text(const espl_automaton_state *s, int64_t *room) {
    const form_frame *f = s->n > 0 ? &s->frames[s->n - 1] : NULL;
    if (!f || f->node->kind != ESPL_FORM_TEXT || f->phase != INSIDE) return false;
    *room = f->node->max - f->at;
    return true;
}

bool espl_automaton_is_in_character(const espl_automaton_state *s) {
    const form_frame *f = s->n > 0 ? &s->frames[s->n - 1] : NULL;
    return f && f->node->kind == ESPL_FORM_TEXT && f->phase == CHARACTER;
}
