/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: form */
/*
 * Bytes of a language model as hostile input: whatever prefix of them the automaton takes can be completed within its
 * distance, and the result is a valid reply. The first byte selects the form.
 */
#include "../sample_forms.h"
#include "espalier/form/automaton.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static espl_automaton *automata[SAMPLE_FORMS];
    espl_automaton_state s;
    espl_str text = {0};
    if (size == 0) return 0;
    int form = data[0] % SAMPLE_FORMS;
    if (!automata[form] && espl_automaton_create(&automata[form], sample_forms[form]) != ESPL_OK) __builtin_trap();
    espl_automaton_start(automata[form], &s);
    for (size_t i = 1; i < size && !espl_automaton_is_complete(&s); i++) {
        espl_automaton_state next = s;
        if (!espl_automaton_step(&next, (char)data[i])) break;
        espl_str_put(&text, data + i, 1);
        s = next;
    }
    for (int64_t left = espl_automaton_distance(&s); left > 0; left--) {
        espl_automaton_state next = s;
        int b = 0;
        for (; b < 256; b++) {
            next = s;
            if (espl_automaton_step(&next, (char)b) && espl_automaton_distance(&next) == left - 1) break;
        }
        if (b == 256) __builtin_trap();
        espl_str_put(&text, &(char){(char)b}, 1);
        s = next;
    }
    if (!espl_automaton_is_complete(&s) || espl_str_status(&text) != ESPL_OK) __builtin_trap();
    if (!checker_accepts(sample_forms[form], text.data)) __builtin_trap();
    espl_str_free(&text);
    return 0;
}
