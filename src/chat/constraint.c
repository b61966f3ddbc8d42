/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which tokens keep a reply within its form. A token is allowed if the automaton takes all its bytes, and if the tokens
 * that are left then suffice for the shortest completion, byte by byte. So there is always an allowed token: a byte on
 * the way of that completion, which the vocabulary has as a token of its own.
 */
#include "constraint.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/base/memory.h"

espl_status espl_constraint_create(espl_constraint *k, const espl_vocabulary *v, const espl_form *f,
                                   int64_t max_tokens) {
    *k = (espl_constraint){.vocabulary = v, .left = max_tokens};
    ESPL_TRY(espl_automaton_create(&k->automaton, f));
    ESPL_TRY(espl_mem_alloc(&k->stack, v->longest + 1, sizeof *k->stack, "states of a reply"));
    ESPL_TRY(espl_mem_alloc(&k->marks, v->vocab, sizeof *k->marks, "allowed tokens"));
    espl_automaton_start(k->automaton, &k->state);
    for (int b = 0; b < 256; b++) {
        if (b >= 0x80 && b <= 0xBF && !v->single[b]) k->whole_characters = true;
        if (!v->single[b] && espl_automaton_needs_byte(k->automaton, (uint8_t)b))
            return ESPL_FAIL(ESPL_CONFIG,
                             "the tokenizer has no token for byte 0x%02X, which the form of the reply needs",
                             (unsigned)b);
    }
    int64_t shortest = espl_automaton_distance(&k->state);
    if (max_tokens < shortest)
        return ESPL_FAIL(ESPL_CONFIG,
                         "a reply of at most %" PRId64 " tokens is too short for its form, which may need %" PRId64,
                         max_tokens, shortest);
    return ESPL_OK;
}

void espl_constraint_free(espl_constraint *k) {
    espl_automaton_destroy(&k->automaton);
    espl_mem_free(&k->stack);
    espl_mem_free(&k->marks);
    espl_str_free(&k->text);
}

/* May the text stand as in s after the next token? */
static bool constraint_can_close(const espl_constraint *k, const espl_automaton_state *s) {
    int64_t left = k->left - 1;
    if (k->whole_characters && espl_automaton_is_in_character(s)) return false;
    return left >= espl_automaton_distance_max(k->automaton) || left >= espl_automaton_distance(s);
}

/* Tokens in sorted order share the states of their common bytes. Where a token fails at a byte, all that follow it with
 * the same bytes up to there fail, too. */
static void constraint_walk(espl_constraint *k, const espl_vocabulary_list *list) {
    int32_t failed = INT32_MAX; /* so many first bytes of the token before are impossible */
    k->stack[0] = k->state;
    for (int64_t i = 0; i < list->n; i++) {
        const espl_vocabulary_token *token = &list->tokens[i];
        const char *text = espl_vocabulary_text(k->vocabulary, token);
        if (token->common >= failed) continue;
        failed = INT32_MAX;
        for (int32_t d = token->common; d < token->len && failed == INT32_MAX; d++) {
            k->stack[d + 1] = k->stack[d];
            if (!espl_automaton_step(&k->stack[d + 1], text[d])) failed = d + 1;
        }
        if (failed == INT32_MAX && constraint_can_close(k, &k->stack[token->len])) k->marks[token->id] = 1;
    }
}

int64_t espl_constraint_allow(espl_constraint *k, int32_t *allowed) {
    const espl_vocabulary *v = k->vocabulary;
    int64_t room, n = 0;
    memset(k->marks, 0, (size_t)v->vocab);
    if (!espl_automaton_is_in_text(&k->state, &room)) {
        constraint_walk(k, &v->plain);
    } else if (constraint_can_close(k, &k->state)) { /* plain tokens leave everything but the room as it is */
        for (int64_t i = 0; i < v->plain.n; i++)
            if (v->plain.tokens[i].len <= room) k->marks[v->plain.tokens[i].id] = 1;
    }
    constraint_walk(k, &v->other);
    for (int32_t id = 0; id < v->vocab; id++)
        if (k->marks[id]) allowed[n++] = id;
    return n;
}

espl_status espl_constraint_take(espl_constraint *k, const espl_tokenizer *t, int32_t id, bool *more) {
    int64_t at = k->text.len;
    *more = false;
    k->left--;
    ESPL_TRY(espl_tokenizer_token_bytes(t, id, &k->text));
    for (; at < k->text.len; at++)
        if (!espl_automaton_step(&k->state, k->text.data[at]))
            return ESPL_FAIL(ESPL_INTERNAL, "token %d does not keep the reply within its form", id);
    *more = !espl_automaton_is_complete(&k->state);
    return ESPL_OK;
}
