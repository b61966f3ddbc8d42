/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the chat room: keeps a reply within a form, token by token, and completes it within a number of tokens.
 * All functions are Local.
 */
#ifndef ESPL_CHAT_CONSTRAINT_H
#define ESPL_CHAT_CONSTRAINT_H

#include "espalier/form/automaton.h"
#include "vocabulary.h"

/* Zero-initialise; free with espl_constraint_free, also after a failed creation. */
typedef struct espl_constraint {
    const espl_vocabulary *vocabulary; /* borrowed */
    espl_automaton *automaton;
    espl_automaton_state state;  /* behind `text` */
    espl_automaton_state *stack; /* [vocabulary->longest + 1] along a token */
    uint8_t *marks;              /* [vocab] allowed ids */
    int64_t left;                /* tokens that the reply may still have */
    bool whole_characters;       /* the vocabulary cannot complete every character that one of its tokens begins */
    espl_str text;               /* of the reply so far */
} espl_constraint;

/* ESPL_CONFIG: max_tokens cannot hold the shortest reply; the vocabulary lacks a byte that the form needs. Errors of
 * espl_automaton_create; ESPL_NOMEM. */
espl_status espl_constraint_create(espl_constraint *k, const espl_vocabulary *v, const espl_form *f,
                                   int64_t max_tokens);
void espl_constraint_free(espl_constraint *k);

/* Writes the ids that the next token may be, ascending, to allowed [vocab], and returns how many: at least one, as long
 * as every token was an allowed one. */
int64_t espl_constraint_allow(espl_constraint *k, int32_t *allowed);
/* Takes an allowed token. *more: the reply is not complete yet. ESPL_NOMEM; ESPL_INTERNAL: the token was not allowed.
 */
espl_status espl_constraint_take(espl_constraint *k, const espl_tokenizer *t, int32_t id, bool *more);

#endif
