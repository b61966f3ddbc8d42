/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An automaton over the bytes of a reply: which bytes may come next so that the text stays the beginning of a valid
 * reply, whether it is complete, and how many bytes are missing at least. All functions are Local.
 *
 * It accepts one layout of the JSON: no white space but one space, or none, behind each colon and comma; texts in UTF-8
 * without \u escapes; numbers without exponents.
 */
#ifndef ESPALIER_FORM_AUTOMATON_H
#define ESPALIER_FORM_AUTOMATON_H

#include "espalier/form/form.h"

#include <stdbool.h>

typedef struct espl_automaton espl_automaton;

/* Where a text stands. Plain data, valid as long as its automaton: a copy is another text that began alike. */
typedef struct espl_automaton_state {
    struct espl_automaton_frame { /* one for each value that is open, the outermost first */
        const struct form_node *node;
        int64_t number; /* NUMBER: its digits as one integer */
        int32_t at;     /* OBJECT: member; MAP, ARRAY: entries so far; TEXT: bytes so far */
        int32_t lo, hi; /* names that still match; TEXT: bounds of the next byte */
        int32_t depth;  /* bytes of a name that have matched; TEXT: bytes that a character lacks */
        int32_t used;   /* MAP: where its entries begin in used_names */
        uint8_t phase;
        int8_t whole, behind; /* NUMBER: digits before and behind the point */
        bool negative, point;
    } frames[ESPL_FORM_DEPTH];
    int32_t n, n_used;
    uint16_t used_names[ESPL_FORM_ENTRIES]; /* of the open MAPs */
} espl_automaton_state;

/* Compiles a form, which is not needed afterwards. Errors of espl_form_check; ESPL_INTERNAL for a form whose end cannot
 * be seen, a NUMBER by itself; ESPL_NOMEM. Owned by the caller. */
espl_status espl_automaton_create(espl_automaton **out, const espl_form *f);
/* NULL-safe. */
void espl_automaton_destroy(espl_automaton **a);

/* The state before the first byte. */
void espl_automaton_start(const espl_automaton *a, espl_automaton_state *s);
/* Reads one byte. False if no valid reply goes on with it; *s is then undefined. */
bool espl_automaton_step(espl_automaton_state *s, char byte);
/* True if the text is a valid reply. Nothing may follow it. */
bool espl_automaton_is_complete(const espl_automaton_state *s);
/* Bytes of the shortest text that completes the reply; 0 if it is complete. The first of them is a byte that
 * espl_automaton_step takes, and with it the distance falls by one. */
int64_t espl_automaton_distance(const espl_automaton_state *s);
/* A bound of espl_automaton_distance over all states, of which it is a small multiple: as long as a budget is larger,
 * the distance need not be computed. */
int64_t espl_automaton_distance_max(const espl_automaton *a);
/* True if the state is within a TEXT, between two characters. *room: bytes that it may still take. Then any sequence of
 * at most so many bytes is accepted that is UTF-8 without control characters, quotes and backslashes, and leaves
 * everything but the room as it is. */
bool espl_automaton_is_in_text(const espl_automaton_state *s, int64_t *room);
/* True if the text ends within a character of several bytes: only the bytes 0x80 to 0xBF can follow. */
bool espl_automaton_is_in_character(const espl_automaton_state *s);
/* True if some shortest completion may need this byte: a vocabulary that cannot write it by itself cannot promise to
 * complete a reply. Texts need more: see espl_automaton_is_in_character. */
bool espl_automaton_needs_byte(const espl_automaton *a, uint8_t byte);

#endif
