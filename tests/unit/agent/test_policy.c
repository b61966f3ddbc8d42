/* SPDX-License-Identifier: Apache-2.0 */
/* The policy on simulated models: it keeps the budget, meets the target, backs off after rollbacks and resumes exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "simulation.h"

static espl_agent *policy_agent(void) {
    espl_agent_options o;
    espl_agent *a;
    espl_agent_options_init(&o);
    assert_int_equal(espl_agent_create(&a, &o), ESPL_OK);
    return a;
}

/* Every decision keeps the budget; the sum of counts is returned. */
static int64_t check_decision(const simulation *s, const espl_decision *d) {
    int64_t sum = 0;
    assert_true(d->n > 0 ? !d->stop : d->stop);
    assert_true(d->n <= s->budget.max_linears);
    for (int64_t k = 0; k < d->n; k++) {
        const espl_decision_item *item = &d->items[k];
        const espl_profile_row *r = &s->rows[item->linear];
        int64_t count = llround(item->step * (double)r->weights);
        assert_true(k == 0 || item->linear > d->items[k - 1].linear);
        assert_true(item->step > 0 && item->step <= (espl_pattern_is_n_m(item->pattern) ? 0.5 : s->budget.max_step));
        assert_false(espl_pattern_is_n_m(s->patterns[item->linear])); /* what is N:M is finished */
        if (espl_pattern_is_n_m(item->pattern)) assert_true(s->mixed && r->pruned == 0 && item->step == 0.5);
        assert_true(count > 0 && (double)(r->pruned + count) <= s->budget.cap * (double)r->weights + 1e-6);
        sum += count;
    }
    assert_true(strlen(d->reason) > 20);
    return sum;
}

static void run_to_end(simulation *s, espl_agent *a, int64_t until) {
    espl_decision d;
    while (s->n_history < until) {
        espl_agent_view v = sim_view(s);
        assert_int_equal(espl_agent_ask(a, &v, NULL, &d), ESPL_OK);
        check_decision(s, &d);
        if (d.stop) break;
        sim_apply(s, &d);
        assert_true(sim_sparsity(s) <= s->budget.target + 1.0 / (double)s->total);
    }
    if (s->n_history < until) espl_decision_free(&d);
}

static int64_t pruned(const simulation *s) {
    int64_t n = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++) n += s->rows[i].pruned;
    return n;
}

static void run_case(uint64_t seed, double spread, double hint, double threshold, int64_t max_linears, double *ratio) {
    static simulation s;
    espl_agent *a = policy_agent();
    sim_init(&s, seed, spread, hint);
    s.budget.threshold = threshold;
    s.budget.max_linears = max_linears;
    if (max_linears < SIM_LINEARS) s.budget.max_iterations = 150;
    run_to_end(&s, a, s.budget.max_iterations);
    *ratio = sim_damage_now(&s) / sim_damage_uniform(&s, s.budget.target);
    print_message(
        "seed %llu spread %.1f hint %.1f threshold %.3f linears %lld: %lld iterations, %lld rollbacks, %.4f of "
        "%.2f, damage %.3f nats, %.3f of uniform\n",
        (unsigned long long)seed, spread, hint, threshold, (long long)max_linears, (long long)s.n_history,
        (long long)s.rollbacks, sim_sparsity(&s), s.budget.target, sim_damage_now(&s), *ratio);
    assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
    const espl_outcome *last = &s.history[s.n_history - 1];
    assert_true(last->sparsity_after - last->sparsity_before > 1e-4); /* no iteration for crumbs */
    sim_free(&s);
    espl_agent_destroy(&a);
}

static void reaches_target_and_beats_uniform(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        for (int k = 0; k < 2; k++) {
            double ratio;
            run_case(seed, 1, k ? 0.6 : 0, 0.05, SIM_LINEARS, &ratio);
            assert_true(ratio < 0.95);
        }
}

static void few_linears_per_decision(void **state) {
    (void)state;
    double ratio;
    run_case(1, 1, 0.6, 0.1, 8, &ratio);
    assert_true(ratio < 1);
}

/* A threshold that the plan's steps break: it must back off and still arrive. */
static void narrow_threshold(void **state) {
    (void)state;
    double ratio;
    for (uint64_t seed = 5; seed <= 6; seed++) {
        run_case(seed, 1.5, 0.3, 0.02, SIM_LINEARS, &ratio);
        assert_true(ratio < 0.95);
    }
}

/* Damage curves that are right but for a common factor, then curves that are each off by a factor. */
static void curves_lead_to_less_damage(void **state) {
    (void)state;
    static simulation s;
    double ratio[2];
    for (int k = 0; k < 2; k++) {
        espl_agent *a = policy_agent();
        sim_init(&s, 11, 1, 0);
        sim_curves(&s, 11, 0.5 * k);
        run_to_end(&s, a, s.budget.max_iterations);
        ratio[k] = sim_damage_now(&s) / sim_damage_uniform(&s, s.budget.target);
        print_message("curves with doubt %.1f: %lld iterations, %lld rollbacks, damage %.3f of uniform\n", 0.5 * k,
                      (long long)s.n_history, (long long)s.rollbacks, ratio[k]);
        assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
        sim_free(&s);
        espl_agent_destroy(&a);
    }
    assert_true(ratio[0] < 0.75 && ratio[1] < 0.85 && ratio[0] < ratio[1]);
}

/* Some linears cost far more than their curves say: there are rollbacks, but the target is reached. */
static void curves_that_mislead(void **state) {
    (void)state;
    static simulation s;
    espl_agent *a = policy_agent();
    sim_init(&s, 7, 0.5, 0.5);
    sim_curves(&s, 7, 0.3);
    for (int64_t i = 5; i < SIM_LINEARS; i += 29) s.cost[i] *= 100;
    s.budget.max_iterations = 120;
    run_to_end(&s, a, s.budget.max_iterations);
    print_message("misled: %lld iterations, %lld rollbacks, %.4f, damage %.3f of uniform\n", (long long)s.n_history,
                  (long long)s.rollbacks, sim_sparsity(&s), sim_damage_now(&s) / sim_damage_uniform(&s, 0.45));
    assert_true(s.rollbacks > 0);
    assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
    sim_free(&s);
    espl_agent_destroy(&a);
}

/* Pruning some linears is ruinous: rollbacks reveal it, and they are left alone. */
static void untouchable_linears(void **state) {
    (void)state;
    static simulation s;
    espl_agent *a = policy_agent();
    sim_init(&s, 7, 0.5, 0.5);
    for (int64_t i = 5; i < SIM_LINEARS; i += 29) s.cost[i] *= 400;
    s.budget.max_iterations = 120;
    run_to_end(&s, a, s.budget.max_iterations);
    print_message("untouchable: %lld iterations, %lld rollbacks, %.4f, damage %.3f of uniform\n",
                  (long long)s.n_history, (long long)s.rollbacks, sim_sparsity(&s),
                  sim_damage_now(&s) / sim_damage_uniform(&s, 0.45));
    assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
    assert_true(s.rollbacks > 0);
    for (int64_t i = 5; i < SIM_LINEARS; i += 29)
        assert_true((double)s.rows[i].pruned / (double)s.rows[i].weights < 0.3);
    sim_free(&s);
    espl_agent_destroy(&a);
}

/* The cap is below the target: everything is pruned to the cap, then the policy stops and says why. */
static void stops_at_the_cap(void **state) {
    (void)state;
    static simulation s;
    espl_agent *a = policy_agent();
    sim_init(&s, 3, 0.2, 0.5);
    s.budget.cap = 0.3;
    s.budget.threshold = 0.5;
    s.budget.max_iterations = 390;
    run_to_end(&s, a, s.budget.max_iterations);
    assert_true(s.n_history < 390 && fabs(sim_sparsity(&s) - 0.3) < 0.001);
    sim_free(&s);
    espl_agent_destroy(&a);
}

/* Nothing is ever accepted: the policy keeps trying finer steps and does not crash. */
static void hopeless(void **state) {
    (void)state;
    static simulation s;
    espl_agent *a = policy_agent();
    sim_init(&s, 3, 0.2, 0.5);
    s.budget.threshold = 0;
    run_to_end(&s, a, 60);
    assert_int_equal(s.rollbacks, 60);
    sim_free(&s);
    espl_agent_destroy(&a);
}

/* Neither perplexity nor z-scores are known. */
static void works_blind(void **state) {
    (void)state;
    static simulation s;
    espl_agent *a = policy_agent();
    espl_decision d;
    sim_init(&s, 3, 1, 0.5);
    for (int64_t i = 0; i < SIM_LINEARS; i++) s.rows[i].z_s = i % 2 ? NAN : INFINITY;
    for (int64_t i = 0; i < SIM_LINEARS; i++) s.rows[i].z_g = NAN;
    while (s.n_history < 60) {
        espl_agent_view v = sim_view(&s);
        v.dense.perplexity = v.last.perplexity = NAN;
        assert_int_equal(espl_agent_ask(a, &v, NULL, &d), ESPL_OK);
        if (d.stop) break;
        sim_apply(&s, &d);
        s.history[s.n_history - 1].before.perplexity = s.history[s.n_history - 1].after.perplexity = NAN;
    }
    espl_decision_free(&d);
    assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
    sim_free(&s);
    espl_agent_destroy(&a);
}

/* ------------------------------------------------------------------- N:M */

/* Linears without a pattern, then those of each choice. */
enum {
    COUNTS = 1 + ESPL_PATTERN_CHOICES,
    COUNT_2_4 = 1 + ESPL_PATTERN_CHOICE_2_4,
    COUNT_4_8 = 1 + ESPL_PATTERN_CHOICE_4_8
};

/* The item of a decision for linear i, or NULL. */
static const espl_decision_item *item_of(const espl_decision *d, int64_t i) {
    for (int64_t k = 0; k < d->n; k++)
        if (d->items[k].linear == i) return &d->items[k];
    return NULL;
}

/* The policy decides under a threshold of 5 %, and nothing passes. */
static void roll_back_once(simulation *s, espl_agent *a) {
    espl_decision d;
    s->budget.threshold = 0.05;
    espl_agent_view v = sim_view(s);
    assert_int_equal(espl_agent_ask(a, &v, NULL, &d), ESPL_OK);
    s->budget.threshold = 0;
    sim_apply(s, &d);
    assert_false(s->history[s->n_history - 1].accepted);
}

/* The linear that is expected to have done most of a rollback's damage rests for `cooldown` iterations. */
static void culprits_rest(void **state) {
    (void)state;
    static simulation s;
    espl_agent_options o;
    espl_agent *a = policy_agent();
    espl_agent_options_init(&o);
    sim_init(&s, 1, 1, 0.5);
    sim_curves(&s, 1, 0);
    s.budget.max_linears = 8;
    roll_back_once(&s, a);
    const espl_decision *first = &s.history[0].decision;
    double most = 0;
    int64_t culprit = -1;
    for (int64_t k = 0; k < first->n; k++) {
        const espl_decision_item *item = &first->items[k];
        const double *d = s.rows[item->linear].damage;
        double damage = d[0] * pow(item->step * ESPL_DAMAGE_LEVELS, log2(d[1] / d[0])); /* as view.c draws the curve */
        if (damage > most) culprit = item->linear;
        most = fmax(most, damage);
    }
    for (int64_t k = 1; k <= (int64_t)o.policy.cooldown; k++) {
        roll_back_once(&s, a);
        assert_null(item_of(&s.history[k].decision, culprit));
    }
    sim_free(&s);
    espl_agent_destroy(&a);
}

/* The reflection tells the sign of what happened: here perplexity rises by 10 %. */
static void reflection_tells_rises_as_rises(void **state) {
    (void)state;
    static simulation s;
    espl_agent *a = policy_agent();
    espl_decision d;
    sim_init(&s, 1, 1, 0.5);
    run_to_end(&s, a, 1);
    s.history[0].before.perplexity = 10;
    s.history[0].after.perplexity = 11;
    espl_agent_view v = sim_view(&s);
    assert_int_equal(espl_agent_ask(a, &v, NULL, &d), ESPL_OK);
    assert_non_null(strstr(d.reflection, "changed perplexity by +10.00 %"));
    espl_decision_free(&d);
    sim_free(&s);
    espl_agent_destroy(&a);
}

static void count_patterns(const simulation *s, int64_t *counts) {
    memset(counts, 0, COUNTS * sizeof *counts);
    for (int64_t i = 0; i < SIM_LINEARS; i++) {
        counts[1 + espl_pattern_choice(s->patterns[i])]++;
        if (espl_pattern_is_n_m(s->patterns[i])) assert_int_equal(2 * s->rows[i].pruned, s->rows[i].weights);
        if (espl_linear_kind_of(SIM_LAYOUT, i) == ESPL_DOWN_PROJ) assert_false(espl_pattern_is_n_m(s->patterns[i]));
    }
}

/* The target is met to the weight, robust linears get patterns, and their cost stays near what the policy may spend. */
static void mixed_strategy(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        static simulation s, t;
        int64_t counts[COUNTS];
        espl_agent *a = policy_agent();
        sim_init(&s, seed, 1, 0.6);
        sim_init(&t, seed, 1, 0.6);
        s.mixed = true;
        run_to_end(&s, a, s.budget.max_iterations);
        run_to_end(&t, a, t.budget.max_iterations);
        count_patterns(&s, counts);
        print_message("mixed: %lld 2:4, %lld 4:8 in %lld iterations, %lld rollbacks, damage %.3f (unstructured %.3f)\n",
                      (long long)counts[COUNT_2_4], (long long)counts[COUNT_4_8], (long long)s.n_history,
                      (long long)s.rollbacks, sim_damage_now(&s), sim_damage_now(&t));
        assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
        assert_true(counts[COUNT_2_4] >= 5);
        assert_true(sim_damage_now(&s) < 1.6 * sim_damage_now(&t));
        count_patterns(&t, counts);
        assert_int_equal(counts[0], SIM_LINEARS);
        sim_free(&s);
        sim_free(&t);
        espl_agent_destroy(&a);
    }
}

/* Is this pattern of linear i in a decision of the history that was rolled back? */
static bool was_rolled_back(const simulation *s, int64_t i, espl_pattern pattern) {
    for (int64_t k = 0; k < s->n_history; k++)
        for (int64_t j = 0; !s->history[k].accepted && j < s->history[k].decision.n; j++)
            if (s->history[k].decision.items[j].linear == i &&
                espl_pattern_equal(s->history[k].decision.items[j].pattern, pattern))
                return true;
    return false;
}

/* Some linears seem robust but do not tolerate 2:4: rollbacks reveal it, and the target is still met. */
static void mixed_backs_off(void **state) {
    (void)state;
    static simulation s;
    int64_t counts[COUNTS], back = 0;
    espl_agent *a = policy_agent();
    sim_init(&s, 7, 0.5, 0.5);
    for (int64_t i = 0; i < SIM_LINEARS; i++) s.power[i] = 3.8; /* harmless at first, then not */
    for (int64_t i = 5; i < SIM_LINEARS; i += 21) s.cost[i] *= 60;
    s.mixed = true;
    s.budget.threshold = 0.02;
    s.budget.max_iterations = 200;
    run_to_end(&s, a, s.budget.max_iterations);
    count_patterns(&s, counts);
    for (int64_t i = 0; i < SIM_LINEARS; i++)
        back += was_rolled_back(&s, i, espl_pattern_choices[ESPL_PATTERN_CHOICE_2_4]);
    print_message("mixed: %lld 2:4, %lld 4:8, 2:4 of %lld rolled back, %lld iterations\n", (long long)counts[COUNT_2_4],
                  (long long)counts[COUNT_4_8], (long long)back, (long long)s.n_history);
    assert_true(back > 0);
    assert_int_equal(pruned(&s), llround(s.budget.target * (double)s.total));
    sim_free(&s);
    espl_agent_destroy(&a);
}

static bool same_history(const simulation *a, const simulation *b) {
    if (a->n_history != b->n_history) return false;
    for (int64_t k = 0; k < a->n_history; k++) {
        const espl_decision *x = &a->history[k].decision, *y = &b->history[k].decision;
        if (x->n != y->n || strcmp(x->reason, y->reason) != 0 || strcmp(x->reflection, y->reflection) != 0 ||
            memcmp(x->items, y->items, (size_t)x->n * sizeof *x->items) != 0)
            return false;
    }
    return true;
}

/* An agent that is created again from the saved state, after any iteration, decides as the first one does. */
static void resume(bool mixed) {
    static simulation s, t;
    espl_agent *a = policy_agent();
    sim_init(&s, 5, 1.5, 0.3);
    sim_init(&t, 5, 1.5, 0.3);
    s.mixed = t.mixed = mixed;
    s.budget.threshold = t.budget.threshold = 0.02;
    run_to_end(&s, a, s.budget.max_iterations);
    espl_agent_destroy(&a);
    a = policy_agent();
    while (t.n_history < s.n_history) {
        espl_str saved = {0};
        run_to_end(&t, a, t.n_history + 1);
        assert_int_equal(espl_agent_state_save(a, &saved), ESPL_OK);
        espl_agent_destroy(&a);
        a = policy_agent();
        assert_int_equal(espl_agent_state_restore(a, saved.data, saved.len), ESPL_OK);
        espl_str_free(&saved);
    }
    assert_true(same_history(&s, &t));
    sim_free(&s);
    sim_free(&t);
    espl_agent_destroy(&a);
}

static void resumed_equals_uninterrupted(void **state) {
    (void)state;
    resume(false);
    resume(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reaches_target_and_beats_uniform),
        cmocka_unit_test(few_linears_per_decision),
        cmocka_unit_test(narrow_threshold),
        cmocka_unit_test(curves_lead_to_less_damage),
        cmocka_unit_test(curves_that_mislead),
        cmocka_unit_test(untouchable_linears),
        cmocka_unit_test(stops_at_the_cap),
        cmocka_unit_test(hopeless),
        cmocka_unit_test(works_blind),
        cmocka_unit_test(culprits_rest),
        cmocka_unit_test(reflection_tells_rises_as_rises),
        cmocka_unit_test(mixed_strategy),
        cmocka_unit_test(mixed_backs_off),
        cmocka_unit_test(resumed_equals_uninterrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
