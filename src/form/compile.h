/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the form room: a form compiled for reading it byte by byte, and the phases of a value that is being read.
 * All functions are Local. */
#ifndef ESPL_FORM_COMPILE_H
#define ESPL_FORM_COMPILE_H

#include "espalier/form/automaton.h"
#include "numbers.h"

/* A string or key as JSON spells it, quotes included: no name is then the beginning of another one. */
typedef struct form_name {
    char *text;
    int64_t len;
    int64_t index; /* of its child, or its place in the form */
} form_name;

typedef struct form_node form_node;
typedef struct espl_automaton_frame form_frame;
struct form_node {
    const espl_form *form;   /* of which it was made: only compared, while compiling */
    espl_form_kind kind;     /* BOOLEAN is a CHOICE here */
    int64_t min, max;        /* as in the form */
    espl_number_range range; /* NUMBER */
    form_name key;           /* VARIANTS: of the first member */
    form_name *names;        /* [n_names] CHOICE, MAP, VARIANTS: sorted by bytes; OBJECT: in the form's order */
    int64_t n_names;
    form_node **children; /* [n_children] of members, by form_name.index; ARRAY: its element */
    int64_t n_children;
    int64_t *cheapest; /* MAP: indices of names, the one with the shortest entry first */
    int64_t *tail;     /* OBJECT: [n_names + 1] bytes of the shortest end behind the first i members */
    int64_t shortest;  /* bytes of the shortest value */
    int64_t longest;   /* bound of the distance from any state within a value */
};

struct espl_automaton {
    form_node **nodes; /* [n] children before their parents; the last one is the root */
    int64_t n;
    bool needs[256]; /* espl_automaton_needs_byte */
};

/* Where a value stands. TEXT: OPEN before its quote, INSIDE between two characters, then ESCAPE and CHARACTER.
 * OBJECT, MAP, ARRAY, VARIANTS: OPEN before the bracket; FIRST behind it; COMMA and SPACE behind a comma, before and
 * after the optional space; KEY within a name; COLON behind it; VALUE and VALUE_SPACE behind the colon; TAG within the
 * string that tells variants apart; AFTER behind a value. */
typedef enum form_phase {
    OPEN,
    INSIDE,
    ESCAPE,
    CHARACTER,
    FIRST,
    COMMA,
    SPACE,
    KEY,
    COLON,
    VALUE,
    VALUE_SPACE,
    TAG,
    AFTER
} form_phase;

/* Bytes of the shortest entry of a MAP or OBJECT with this name, without a comma. */
int64_t espl_form_entry_bytes(const form_node *node, int64_t name);

#endif
