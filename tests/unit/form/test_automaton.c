/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The automaton against a checker of whole replies (tests/sample_forms.h): on valid replies, on mutated ones, and on
 * texts that follow its own advice. Its distances, byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../sample_forms.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/rng.h"
#include "espalier/form/automaton.h"

enum { ROUNDS = 400, TEXT_MAX = 4096 };

static espl_automaton *automata[SAMPLE_FORMS];

static bool accepts(int form, const char *text) {
    espl_automaton_state s;
    espl_automaton_start(automata[form], &s);
    for (; *text; text++)
        if (!espl_automaton_step(&s, *text)) return false;
    return espl_automaton_is_complete(&s);
}

static void these_replies(void **state) {
    (void)state;
    static const struct {
        const espl_form *form;
        const char *text;
        bool good;
    } table[] = {
        {&form_why, "\"\"", true},
        {&form_why, "\"twelve bytes\"", true},
        {&form_why, "\"thirteen byte\"", false},
        {&form_why, "\"eleven + \xC3\xA9\xC3\xA9\"", false},
        {&form_why, "\"eleven and\xC3\xA9\"", true},
        {&form_why, "\"a\\n\\\"\\\\\\/\"", true},
        {&form_why, "\"\\u0041\"", false},
        {&form_why, "\"\xC0\x80\"", false},
        {&form_why, "\"\xED\xA0\x80\"", false},
        {&form_why, "\"\xF4\x8F\xBF\xBF\"", true},
        {&form_why, "\"\xF4\x90\x80\x80\"", false},
        {&form_why, "\"\n\"", false},
        {&form_why, "\"a\" ", false},
        {&form_flag, "true", true},
        {&form_flag, "tru", false},
        {&form_pattern, "\"4:8\"", true},
        {&form_pattern, "\"4:\"", false},
        {&form_plan, "{\"layers.1\":0.01,\"layers.11\": 0.25}", true},
        {&form_plan, "{\"layers.1\": \"2:4\", \"l\":\"4:8\"}", true},
        {&form_plan, "{\"layers.1\":0.01}", false},
        {&form_plan, "{\"layers.1\":0.01,\"layers.1\":0.01}", false},
        {&form_plan, "{\"layers.1\":0.01, \"layers.11\":\"2:4\"}", false},
        {&form_plan, "{\"layers.1\":0.01,  \"layers.11\":0.01}", false},
        {&form_plan, "{\"layers.1\":0.01,\"layers.11\":0.250}", true},
        {&form_plan, "{\"layers.1\":0.01,\"layers.11\":0.2500}", false},
        {&form_plan, "{\"layers.1\":0.01,\"layers.11\":0.251}", false},
        {&form_plan, "{\"layers.1\":0.01,\"layers.11\":00.2}", false},
        {&form_plan, "{\"layers.1\":0.01,\"layers.11\":1e-1}", false},
        {&form_plan, "{\"other\":-12.5,\"\\\"\xC3\xA9\":0.1}", true},
        {&form_plan, "{\"other\":-12.51,\"\\\"\xC3\xA9\":0.1}", false},
        {&form_plan, "{\"other\":-0,\"l\":\"2:4\"}", true},
        {&form_plan, "{\"other\":107.25,\"l\":\"2:4\",\"layers.10\":0.2,\"layers.1\":0.2}", true},
        {&form_plan, "{\"other\":107.,\"l\":\"2:4\"}", false},
        {&form_plan, "{\"other\":1,\"l\":\"2:4\",\"layers.10\":0.2,\"layers.1\":0.2,\"layers.11\":0.2}", false},
        {&form_plan, "{\"other\":1,\"l\":\"2:4\",}", false},
        {&form_action, "{\"action\": \"st\"}", true},
        {&form_action, "{\"action\":\"propose\",\"why\":\"\",\"plan\":{},\"final\":false}", true},
        {&form_action, "{\"action\":\"propose\",\"plan\":{},\"why\":\"\",\"final\":false}", false},
        {&form_action, "{\"action\":\"predict\",\"why\":\"\",\"plan\":{},\"final\":false}", false},
        {&form_action, "{}", false},
        {&form_plans, "[{}]", true},
        {&form_plans, "[{}, {\"layers.10\":0.2}]", true},
        {&form_plans, "[]", false},
        {&form_plans, "[{},{},{}]", false},
        {&form_plans, "[{},]", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int form = 0;
        while (sample_forms[form] != table[i].form) form++;
        if (accepts(form, table[i].text) != table[i].good) fail_msg("%s: expected %d", table[i].text, table[i].good);
        if (checker_accepts(table[i].form, table[i].text) != table[i].good) fail_msg("checker: %s", table[i].text);
    }
}

/* Makes a reply of random bytes that the automaton takes; it ends by the way of the distance once `free_bytes` are
 * written. Checks each state on the way. Returns the length. */
static int64_t wander(int form, espl_rng *r, int64_t free_bytes, char *text) {
    espl_automaton_state s;
    int64_t n = 0;
    espl_automaton_start(automata[form], &s);
    while (!espl_automaton_is_complete(&s)) {
        espl_automaton_state next[256];
        int good[256], n_good = 0, closer[256], n_closer = 0;
        int64_t distance = espl_automaton_distance(&s), room;
        bool promised = false; /* by bytes that the vocabulary must have */
        assert_true(distance > 0 && distance <= espl_automaton_distance_max(automata[form]));
        for (int b = 0; b < 256; b++) {
            next[b] = s;
            if (!espl_automaton_step(&next[b], (char)b)) continue;
            int64_t then = espl_automaton_distance(&next[b]);
            assert_true(then >= distance - 1);
            assert_int_equal(then == 0, espl_automaton_is_complete(&next[b]));
            if (then == distance - 1) closer[n_closer++] = b;
            promised = promised || (then == distance - 1 && espl_automaton_needs_byte(automata[form], (uint8_t)b));
            good[n_good++] = b;
        }
        if (n_closer == 0) fail_msg("%.*s: no byte reduces the distance of %d", (int)n, text, (int)distance);
        assert_true(promised || closer[0] >= 0x80); /* only the rest of a character may need others */
        if (espl_automaton_is_in_text(&s, &room)) {
            espl_automaton_state plain = s;
            for (int64_t i = 0; i < room; i++) assert_true(espl_automaton_step(&plain, 'x'));
            assert_false(espl_automaton_step(&plain, 'x'));
        }
        int b = n < free_bytes ? good[espl_rng_below(r, n_good)] : closer[espl_rng_below(r, n_closer)];
        assert_true(n < TEXT_MAX - 1);
        text[n++] = (char)b;
        s = next[b];
    }
    text[n] = '\0';
    for (int b = 0; b < 256; b++) {
        espl_automaton_state behind = s;
        assert_false(espl_automaton_step(&behind, (char)b));
    }
    return n;
}

static void what_it_lets_through_is_valid(void **state) {
    (void)state;
    char text[TEXT_MAX];
    for (int form = 0; form < SAMPLE_FORMS; form++) {
        for (int round = 0; round < ROUNDS; round++) {
            espl_rng r;
            struct cJSON *doc;
            espl_rng_seed(&r, (uint64_t)round, (uint64_t)form, 1);
            int64_t n = wander(form, &r, espl_rng_below(&r, 200), text);
            if (!checker_accepts(sample_forms[form], text)) fail_msg("%s", text);
            assert_int_equal(espl_json_parse(text, n, "reply", &doc), ESPL_OK);
            espl_json_free(&doc);
        }
    }
}

/* One byte of a valid reply is replaced, dropped or added, mostly by a byte that occurs in it: the verdict must be the
 * checker's. */
static void mutated_replies_get_the_right_verdict(void **state) {
    (void)state;
    char text[TEXT_MAX], mutated[TEXT_MAX + 2];
    int64_t accepted = 0, refused = 0;
    for (int form = 0; form < SAMPLE_FORMS; form++) {
        for (int round = 0; round < ROUNDS; round++) {
            espl_rng r;
            espl_rng_seed(&r, (uint64_t)round, (uint64_t)form, 2);
            int64_t n = wander(form, &r, espl_rng_below(&r, 120), text);
            for (int change = 0; change < 40; change++) {
                int64_t at = espl_rng_below(&r, n), cut = espl_rng_below(&r, 2), add = espl_rng_below(&r, 2);
                memcpy(mutated, text, (size_t)at);
                if (add)
                    mutated[at] =
                        espl_rng_below(&r, 4) ? text[espl_rng_below(&r, n)] : (char)(1 + espl_rng_below(&r, 255));
                memcpy(mutated + at + add, text + at + cut, (size_t)(n - at - cut + 1));
                bool good = checker_accepts(sample_forms[form], mutated);
                if (accepts(form, mutated) != good) fail_msg("%s: the checker says %d", mutated, good);
                good ? accepted++ : refused++;
            }
        }
    }
    print_message("%d mutated replies are valid, %d are not\n", (int)accepted, (int)refused);
    assert_true(accepted > 1000 && refused > 1000);
}

static void a_number_by_itself_is_refused(void **state) {
    (void)state;
    espl_automaton *a;
    assert_int_equal(espl_automaton_create(&a, &form_share), ESPL_INTERNAL);
    assert_int_equal(espl_automaton_create(&a, &form_step), ESPL_INTERNAL);
    assert_null(a);
    assert_int_equal(espl_automaton_create(&a, &(espl_form){.kind = ESPL_FORM_CHOICE}), ESPL_INTERNAL);
    assert_null(a);
}

/* Every number of a range, and no other, in every spelling with up to one digit too many. */
static void ranges_of_numbers_are_exact(void **state) {
    (void)state;
    static const struct {
        double lo, hi;
        int decimals;
    } ranges[] = {{0, 1, 0}, {0.07, 0.11, 2}, {-1.5, 1.25, 2}, {9, 12, 1}, {-20, -7, 1}, {99.5, 100.5, 1}, {0, 0, 2}};
    for (size_t k = 0; k < sizeof ranges / sizeof *ranges; k++) {
        espl_form number = {
            .kind = ESPL_FORM_NUMBER, .lo = ranges[k].lo, .hi = ranges[k].hi, .decimals = ranges[k].decimals};
        espl_form list = {.kind = ESPL_FORM_ARRAY, .element = &number, .min = 1, .max = 1};
        espl_automaton *a;
        assert_int_equal(espl_automaton_create(&a, &list), ESPL_OK);
        for (int decimals = 0; decimals <= ranges[k].decimals + 1; decimals++) {
            int unit = (int)lround(pow(10, decimals));
            for (int i = -130 * unit; i <= 130 * unit; i++) {
                char text[64];
                espl_automaton_state s;
                snprintf(text, sizeof text, "[%.*f]", decimals, (double)i / unit);
                espl_automaton_start(a, &s);
                bool taken = true;
                for (const char *p = text; taken && *p; p++) taken = espl_automaton_step(&s, *p);
                if (taken != checker_accepts(&list, text)) fail_msg("%g to %g: %s", ranges[k].lo, ranges[k].hi, text);
            }
        }
        espl_automaton_destroy(&a);
    }
}

static int create(void **state) {
    (void)state;
    for (int i = 0; i < SAMPLE_FORMS; i++)
        if (espl_automaton_create(&automata[i], sample_forms[i]) != ESPL_OK) return -1;
    return 0;
}

static int destroy(void **state) {
    (void)state;
    for (int i = 0; i < SAMPLE_FORMS; i++) espl_automaton_destroy(&automata[i]);
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(these_replies),
        cmocka_unit_test(what_it_lets_through_is_valid),
        cmocka_unit_test(mutated_replies_get_the_right_verdict),
        cmocka_unit_test(a_number_by_itself_is_refused),
        cmocka_unit_test(ranges_of_numbers_are_exact),
    };
    return cmocka_run_group_tests(tests, create, destroy);
}
