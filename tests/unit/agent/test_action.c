/* SPDX-License-Identifier: Apache-2.0 */
/* What a language model may do in its turn: plans by pattern and from the policy's, questions and their answers,
 * lessons; and what its prompt tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "action.h"
#include "forms.h"
#include "policy/policy.h"
#include "predict.h"
#include "prompt.h"
#include "random.h"

#include "simulation.h"
#include "tools.h"
#include "view.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

typedef struct acted {
    espl_action a;
    espl_str problems, notes;
} acted;

static simulation *model(void) {
    static simulation s;
    sim_free(&s);
    sim_init(&s, 1, 1, 0.5);
    sim_curves(&s, 1, 0.2);
    for (int64_t i = 0; i < SIM_LINEARS; i++) /* answers are lost twice as fast as text */
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) s.rows[i].damage_k[k] = 2 * s.rows[i].damage[k];
    return &s;
}

static acted act_in(const espl_agent_view *v, const char *text, espl_agent_sight sight) {
    acted r = {0};
    espl_agent_options o;
    espl_agent_options_init(&o);
    assert_int_equal(espl_action_parse(text, (int64_t)strlen(text), v, &o.policy, sight, &r.a, &r.problems, &r.notes),
                     ESPL_OK);
    if (r.problems.len > 0) assert_int_equal(r.a.plan.n, 0);
    return r;
}

static acted act_on(const espl_agent_view *v, const char *text) { return act_in(v, text, ESPL_VIEW_FULL); }

static acted act(const simulation *s, const char *text) {
    espl_agent_view v = sim_view(s);
    return act_on(&v, text);
}

static void acted_free(acted *r) {
    espl_action_free(&r->a);
    espl_str_free(&r->problems);
    espl_str_free(&r->notes);
}

static void refused(const simulation *s, const char *text, const char *word) {
    acted r = act(s, text);
    if (r.problems.len == 0 || !strstr(r.problems.data, word)) {
        print_message("%s\n-> %s\n", text, r.problems.len ? r.problems.data : "(accepted)");
        fail();
    }
    acted_free(&r);
}

/* The step of a linear in the plan of a valid reply; 0: the plan leaves it alone. */
static double step_of(const acted *r, const char *name) {
    if (r->problems.len > 0) print_message("%s\n", r->problems.data);
    assert_int_equal(r->problems.len, 0);
    int64_t i = espl_linear_parse(SIM_LAYOUT, name);
    for (int64_t k = 0; k < r->a.plan.n; k++)
        if (r->a.plan.items[k].linear == i) return r->a.plan.items[k].step;
    return 0;
}

/* ----------------------------------------------------------------- plans */

static void names_may_be_patterns(void **state) {
    (void)state;
    const simulation *s = model();
    acted r = act(s, "{\"prune\":{\"layers.3.mlp.up_proj\":0.02,\"*.up_proj\":0.05,\"layers.7.mlp.up_proj\":0}}");
    assert_int_equal(r.a.plan.n, SIM_LAYERS - 1);
    assert_true(step_of(&r, "layers.3.mlp.up_proj") == 0.02); /* its own name wins, wherever it stands */
    assert_true(step_of(&r, "layers.4.mlp.up_proj") == 0.05);
    assert_true(step_of(&r, "layers.7.mlp.up_proj") == 0); /* left alone */
    acted_free(&r);
    r = act(s, "{\"prune\":{\"model.layers.1.*\":0.05,\"layers.11.self_attn.*\":0.01}}"); /* 1 is not 11 */
    assert_int_equal(r.a.plan.n, ESPL_LINEAR_KINDS + 4);
    acted_free(&r);
    refused(s, "{\"prune\":{\"layers.12.*\":0.05}}", "\"layers.12.*\" matches no linear");
    refused(s, "{\"prune\":{\"*.up_proj\":5}}", "not percent");
    refused(s, "{\"prune\":{\"*\":\"much\"}}", "must have a number");
    refused(s, "{\"prune\":{\"***a**a****a***a**b*\":0.1}}", "matches no linear");
}

static void patterns_pass_over_what_cannot_be_pruned(void **state) {
    (void)state;
    simulation *s = model();
    s->mixed = true;
    s->rows[4].pruned = (int64_t)(0.9 * (double)s->rows[4].weights); /* layers.0.mlp.gate_proj is at the cap */
    acted r = act(s, "{\"prune\":{\"layers.0.*\":0.05}}");
    assert_int_equal(r.a.plan.n, ESPL_LINEAR_KINDS - 1);
    assert_int_equal(r.notes.len, 0);
    acted_free(&r);
    s->budget.max_linears = 2 * SIM_LAYERS;
    r = act(s, "{\"prune\":{\"layers.1.mlp.*\":\"2:4\"}}"); /* 171 inputs of down_proj are no groups of 4 */
    assert_int_equal(r.a.plan.n, 2);
    acted_free(&r);
}

/* As many linears as match count, so that a pattern cannot get round max_linears. */
static void patterns_keep_the_budget(void **state) {
    (void)state;
    simulation *s = model();
    s->budget.max_linears = 5;
    refused(s, "{\"prune\":{\"layers.0.*\":0.05}}", "7 linears are named; at most 5");
    s->budget.max_linears = SIM_LINEARS;
    s->budget.target = 0.03;
    acted r = act(s, "{\"prune\":{\"*\":0.1}}");
    espl_agent_view v = sim_view(s);
    espl_agent_options o;
    espl_agent_options_init(&o);
    assert_int_equal(espl_predict(&v, &o.policy, &r.a.plan).weights, llround(0.03 * (double)s->total));
    acted_free(&r);
}

static void a_plan_may_start_from_the_policys(void **state) {
    (void)state;
    const simulation *s = model();
    acted whole = act(s, "{\"base\":\"policy\"}"), half = act(s, "{\"base\":\"policy\",\"scale\":0.5}");
    assert_true(whole.a.plan.n > 3);
    assert_int_equal(half.a.plan.n, whole.a.plan.n);
    char name[ESPL_LINEAR_NAME_MAX], reply[256];
    for (int64_t k = 0; k < whole.a.plan.n; k++)
        assert_float_equal(half.a.plan.items[k].step, whole.a.plan.items[k].step / 2, 1e-12);
    espl_linear_name(SIM_LAYOUT, whole.a.plan.items[0].linear, name);
    snprintf(reply, sizeof reply, "{\"base\":\"policy\",\"prune\":{\"%s\":0}}", name);
    acted without = act(s, reply);
    assert_int_equal(without.a.plan.n, whole.a.plan.n - 1);
    assert_true(step_of(&without, name) == 0);
    acted_free(&whole), acted_free(&half), acted_free(&without);
    refused(s, "{\"base\":\"mine\"}", "\"base\" must be \"policy\"");
    refused(s, "{\"base\":\"policy\",\"scale\":-1}", "\"scale\" must be a number from 0 to 10");
    refused(s, "{\"base\":\"policy\",\"knowledge\":2}", "\"knowledge\" must be a number from 0 to 1");
}

/* With other costs of answers, the weight of knowledge moves the policy's plan. */
static void knowledge_moves_the_policys_plan(void **state) {
    (void)state;
    simulation *s = model();
    for (int64_t i = 0; i < SIM_LINEARS; i++) /* what is cheap for the text is dear for answers */
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) s->rows[i].damage_k[k] = s->rows[SIM_LINEARS - 1 - i].damage[k];
    s->budget.share = 0.2;
    acted text = act(s, "{\"base\":\"policy\",\"knowledge\":0}"), all = act(s, "{\"base\":\"policy\",\"knowledge\":1}");
    bool same = text.a.plan.n == all.a.plan.n;
    for (int64_t k = 0; same && k < text.a.plan.n; k++)
        same = text.a.plan.items[k].linear == all.a.plan.items[k].linear;
    assert_false(same);
    acted_free(&text), acted_free(&all);
}

static void the_exponent_is_bounded(void **state) {
    (void)state;
    const simulation *s = model();
    static const char reply[] = "{\"prune\":{\"layers.1.*\":0.05},\"power\":0.25}";
    espl_agent_view v = sim_view(s);
    acted none = act_on(&v, reply); /* another score has no exponent */
    assert_true(isnan(none.a.plan.power));
    v.power = 1;
    acted some = act_on(&v, reply), over = act_on(&v, "{\"prune\":{\"layers.1.*\":0.05},\"power\":2}");
    assert_true(some.a.plan.power == 0.25);
    assert_non_null(strstr(over.problems.data, "\"power\" must be a number from 0 to 1"));
    espl_str json = {0};
    espl_reply_put(&json, SIM_LAYOUT, &some.a.plan); /* a recorded decision keeps it */
    acted again = act_on(&v, json.data);
    assert_true(again.a.plan.power == 0.25);
    espl_str_free(&json);
    acted_free(&none), acted_free(&some), acted_free(&over), acted_free(&again);
}

/* --------------------------------------------------------------- actions */

static void actions_are_told_apart(void **state) {
    (void)state;
    const simulation *s = model();
    static const struct {
        const char *text;
        espl_action_kind kind;
    } cases[] = {
        {"{\"action\":\"predict\",\"prune\":{\"layers.1.*\":0.05}}", ESPL_ACTION_PREDICT},
        {"{\"action\":\"measure\",\"base\":\"policy\"}", ESPL_ACTION_MEASURE},
        {"I look first. {\"action\":\"inspect\",\"linears\":\"layers.1.*\"}", ESPL_ACTION_INSPECT},
        {"{\"action\":\"inspect\",\"linears\":[\"layers.1.*\"]}", ESPL_ACTION_INSPECT},
        {"{\"action\":\"propose\",\"prune\":{\"layers.1.*\":0.05}}", ESPL_ACTION_PROPOSE},
        {"{\"action\":\"inspect\",\"linears\":\"*\"} No: {\"prune\":{\"layers.1.*\":0.05}}", ESPL_ACTION_PROPOSE},
        {"<tool_call>{\"name\":\"predict\",\"arguments\":{\"prune\":{\"layers.1.*\":0.05}}}</tool_call>",
         ESPL_ACTION_PREDICT},
        {"{\"action\":null,\"prune\":{\"layers.1.*\":0.05}}", ESPL_ACTION_PROPOSE}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        acted r = act(s, cases[k].text);
        assert_int_equal(r.problems.len, 0);
        assert_int_equal(r.a.kind, cases[k].kind);
        assert_int_equal(r.a.linears != NULL, cases[k].kind == ESPL_ACTION_INSPECT);
        acted_free(&r);
    }
    refused(s, "{\"name\":\"guess\",\"arguments\":{}}", "neither \"prune\" nor \"stop\"");
    refused(s, "{\"action\":\"guess\",\"prune\":{\"layers.1.*\":0.05}}", "\"action\" must be");
    refused(s, "{\"action\":\"inspect\"}", "\"linears\" must be");
    refused(s, "{\"action\":\"search\",\"query\":\"pruning\"}",
            "neither \"prune\" nor \"stop\"\nthe actions are \"propose\" \"predict\" \"measure\" \"inspect\"\n");
}

static void lessons_are_cleaned_and_bounded(void **state) {
    (void)state;
    const simulation *s = model();
    acted r = act(s, "{\"prune\":{\"layers.1.*\":0.05},\"lessons\":[\"up is\\ncheap\", 7, \"q is dear\"]}");
    assert_string_equal(r.a.lessons.data, "up is cheap\nq is dear\n");
    acted_free(&r);
    r = act(s, "{\"prune\":{\"layers.1.*\":0.05},\"lessons\":[]}"); /* all are dropped */
    assert_true(r.a.has_lessons && r.a.lessons.len == 0);
    acted_free(&r);
    r = act(s, "{\"prune\":{\"layers.1.*\":0.05}}"); /* all are kept */
    assert_false(r.a.has_lessons);
    acted_free(&r);
    refused(s, "{\"prune\":{\"layers.1.*\":0.05},\"lessons\":\"one\"}", "\"lessons\" must be a list");
    espl_str many = {0};
    espl_str_puts(&many, "{\"prune\":{\"layers.1.*\":0.05},\"lessons\":[\"x\"");
    for (int k = 0; k < 40; k++) espl_str_puts(&many, ",\"x\"");
    espl_str_puts(&many, "]}");
    r = act(s, many.data);
    assert_int_equal(r.a.lessons.len, 2 * ESPL_LESSONS_MAX);
    assert_non_null(strstr(r.notes.data, "lessons"));
    acted_free(&r);
    espl_str_free(&many);
}

/* ------------------------------------------------------------ predictions */

/* The rise of a plan is the sum of the curves' own differences; N:M costs its factor more. */
static void predictions_are_sums_of_curves(void **state) {
    (void)state;
    simulation *s = model();
    espl_agent_options o;
    espl_agent_options_init(&o);
    s->mixed = true;
    s->budget.share = 0.25;
    s->rows[5].pruned = s->rows[5].weights / 4;
    espl_agent_view v = sim_view(s);
    acted r = act_on(&v, "{\"prune\":{\"layers.0.mlp.up_proj\":0.0625,\"layers.1.mlp.up_proj\":\"2:4\"}}");
    espl_prediction p = espl_predict(&v, &o.policy, &r.a.plan);
    double step = s->rows[5].damage[4] - s->rows[5].damage[3], half = s->rows[12].damage[7]; /* 5/16 - 4/16; 8/16 */
    assert_float_equal(p.text, step + o.policy.damage_2_4 * half, 1e-3 * p.text);
    assert_float_equal(p.answers, 2 * p.text, 1e-9);
    assert_float_equal(p.together, 0.75 * p.text + 0.25 * p.answers, 1e-12);
    int64_t weights = llround(0.0625 * (double)s->rows[5].weights) + s->rows[12].weights / 2;
    assert_int_equal(p.weights, weights);
    assert_float_equal(p.sparsity, v.sparsity + (double)weights / (double)s->total, 1e-12);
    s->rows[3].damage[0] = NAN; /* one curve missing: none can be used */
    assert_true(isnan(espl_predict(&v, &o.policy, &r.a.plan).text));
    acted_free(&r);
}

/* A plan that was rolled back is known again, also if it is a little different, until a step is accepted. */
static void repeats_are_known(void **state) {
    (void)state;
    simulation *s = model();
    static const char plan[] = "{\"prune\":{\"layers.1.*\":0.1,\"layers.2.*\":0.1}}";
    s->budget.threshold = 0;
    acted r = act(s, plan);
    sim_apply(s, &r.a.plan);
    assert_int_equal(s->rollbacks, 1);
    r.a.plan = (espl_decision){0};
    acted_free(&r);
    espl_agent_view with = sim_view(s);
    with.power = 0.5;
    r = act_on(&with, "{\"prune\":{\"layers.1.*\":0.1,\"layers.2.*\":0.1},\"power\":0.5}"); /* the one in force */
    assert_int_equal(espl_predict_repeated(&with, &r.a.plan), 1);
    acted_free(&r);
    static const struct {
        const char *text;
        bool same;
    } cases[] = {{plan, true},
                 {"{\"prune\":{\"layers.1.*\":0.1,\"layers.2.*\":0.098}}", true},
                 {"{\"prune\":{\"layers.1.*\":0.1,\"layers.2.*\":0.1,\"layers.3.self_attn.k_proj\":0.02}}", true},
                 {"{\"prune\":{\"layers.1.*\":0.1}}", false},
                 {"{\"prune\":{\"layers.1.*\":0.05,\"layers.2.*\":0.05}}", false},
                 {"{\"prune\":{\"layers.1.*\":0.1,\"layers.3.*\":0.1}}", false},
                 {"{\"stop\":true}", false}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        espl_agent_view v = sim_view(s);
        r = act_on(&v, cases[k].text);
        assert_int_equal(espl_predict_repeated(&v, &r.a.plan), cases[k].same);
        acted_free(&r);
    }
    s->budget.threshold = 100;
    r = act(s, "{\"prune\":{\"layers.5.self_attn.k_proj\":0.01}}");
    sim_apply(s, &r.a.plan);
    r.a.plan = (espl_decision){0};
    acted_free(&r);
    espl_agent_view v = sim_view(s);
    r = act_on(&v, plan); /* of another state, so it may be tried again */
    assert_int_equal(espl_predict_repeated(&v, &r.a.plan), 0);
    acted_free(&r);
}

static void inspections_tell_what_is_known(void **state) {
    (void)state;
    simulation *s = model();
    espl_str text = {0};
    s->budget.threshold = 0;
    acted r = act(s, "{\"prune\":{\"layers.1.mlp.up_proj\":0.1}}");
    sim_apply(s, &r.a.plan);
    r.a.plan = (espl_decision){0};
    acted_free(&r);
    espl_agent_view v = sim_view(s);
    espl_tools_put_inspection(&text, &v, "layers.1.mlp.*");
    assert_non_null(strstr(text.data, "layers.1.mlp.up_proj: "));
    assert_non_null(strstr(text.data, "tried: iteration 1 +0.1 ROLLED BACK"));
    assert_non_null(strstr(text.data, "a further 0.02: "));
    assert_null(strstr(text.data, "layers.2."));
    text.len = 0;
    espl_tools_put_inspection(&text, &v, "*");
    assert_non_null(strstr(text.data, "56 more linears match"));
    text.len = 0;
    espl_tools_put_inspection(&text, &v, "lm_head\x1b[31m");
    assert_non_null(strstr(text.data, "No linear matches \"lm_head [31m\""));
    espl_str_free(&text);
}

/* ---------------------------------------------------------------- random */

/* Random plans are valid to the end, also after many rollbacks, differ by seed, and reach the target if all is
 * accepted. */
static void random_plans_are_valid(void **state) {
    (void)state;
    espl_agent_options o;
    espl_agent_options_init(&o);
    o.backend = ESPL_BACKEND_RANDOM;
    for (int strict = 0; strict < 2; strict++) {
        simulation *s = model();
        espl_agent *a;
        espl_decision first = {0}, other = {0};
        s->budget.threshold = strict ? 1e-6 : 1000;
        for (o.run_seed = 1; o.run_seed < 3; o.run_seed++) {
            espl_agent_view v = sim_view(s);
            assert_int_equal(espl_agent_create(&a, &o), ESPL_OK);
            assert_int_equal(espl_agent_ask(a, &v, NULL, o.run_seed == 1 ? &first : &other), ESPL_OK);
            espl_agent_destroy(&a);
        }
        bool same = first.items && other.items && first.n == other.n && first.items[0].step == other.items[0].step;
        assert_false(same);
        espl_decision_free(&first), espl_decision_free(&other);
        assert_int_equal(espl_agent_create(&a, &o), ESPL_OK);
        for (int k = 0; k < 60; k++) {
            espl_agent_view v = sim_view(s);
            if (espl_view_left(&v) <= 0) break;
            espl_decision d;
            assert_int_equal(espl_agent_ask(a, &v, NULL, &d), ESPL_OK);
            assert_true(d.n > 0);
            sim_apply(s, &d);
        }
        espl_agent_view v = sim_view(s);
        assert_int_equal(espl_view_left(&v) == 0, !strict);
        espl_agent_destroy(&a);
    }
}

/* ---------------------------------------------------------------- prompt */

/* A run of one accepted and one rolled back step, with answers measured. */
static simulation *history(void) {
    simulation *s = model();
    espl_agent_options o;
    espl_agent_options_init(&o);
    s->budget.share = 0.2;
    for (int k = 0; k < 2; k++) {
        espl_agent_view v = sim_view(s);
        acted r = act_on(&v, k == 0 ? "{\"reasoning\":\"they look robust\",\"reflection\":\"nothing yet\","
                                      "\"prune\":{\"layers.1.*\":0.05}}"
                                    : "{\"reflection\":\"it was cheap\",\"prune\":{\"layers.2.*\":0.1}}");
        espl_predict_note(&v, &o.policy, &r.a.plan);
        s->budget.threshold = k == 0 ? 100 : 0;
        sim_apply(s, &r.a.plan);
        espl_outcome *x = &s->history[k];
        x->before.answers = 0.5, x->after.answers = 0.625;
        x->before.freebaseqa_right = 31, x->after.freebaseqa_right = 29;
        x->before.freebaseqa_total = x->after.freebaseqa_total = 100;
        x->before.mmlu_right = 62, x->after.mmlu_right = 60;
        x->before.mmlu_total = x->after.mmlu_total = 100;
        for (int c = 0; c < ESPL_MMLU_TOPICS; c++) {
            x->before.mmlu_category_right[c] = 15, x->after.mmlu_category_right[c] = 15 - c;
            x->before.mmlu_category_total[c] = x->after.mmlu_category_total[c] = 25;
        }
        r.a.plan = (espl_decision){0};
        acted_free(&r);
    }
    return s;
}

static void user_prompt(const simulation *s, const espl_prompt_options *how, espl_str *text) {
    espl_agent_view v = sim_view(s);
    text->len = 0;
    espl_prompt_put_system(text, &v, how);
    assert_int_equal(espl_prompt_put_user(text, &v, how), ESPL_OK);
}

/* Each of these is something that an agent is promised to learn from. */
static void the_prompt_tells_what_came_of_decisions(void **state) {
    (void)state;
    simulation *s = history();
    for (int64_t i = 0; i < SIM_LINEARS; i++) s->rows[i].z_k = 1.75;
    espl_str text = {0}, lessons = {0};
    espl_str_puts(&lessons, "k_proj is dear\n");
    const espl_prompt_options how = {.max_bytes = 16384, .questions = 8, .experiments = 2, .lessons = &lessons};
    user_prompt(s, &how, &text);
    static const char *const promised[] = {"iteration 1: accepted, 7 linears, sparsity 0.000 % -> ",
                                           "iteration 2: ROLLED BACK",
                                           ", perplexity 10 -> ",
                                           " %, expected +",
                                           ", loss of answers 0.5 -> 0.625 (+0.125, expected +",
                                           "; together +",
                                           ", FreebaseQA 31 -> 29 of 100",
                                           ", MMLU 62 -> 60 of 100, stem 15 -> 15 of 25, ",
                                           ", humanities 15 -> 14 of 25, social_sciences 15 -> 13 of 25, ",
                                           ", other 15 -> 12 of 25\n",
                                           "reasoning: they look robust",
                                           "reflection: it was cheap",
                                           "pruned: layers.2.self_attn.q_proj 0.1",
                                           "times the expected ones in sum",
                                           "Your lessons so far:\nk_proj is dear",
                                           "\"action\": \"measure\"",
                                           "of them 2 measurements",
                                           "z_s, z_g, z_k, sparsity, price):",
                                           " 1.75 ",
                                           "Knowledge counts too"};
    for (size_t k = 0; k < sizeof promised / sizeof *promised; k++) {
        if (!strstr(text.data, promised[k])) print_message("%s\n-- lacks: %s\n", text.data, promised[k]);
        assert_non_null(strstr(text.data, promised[k]));
    }
    espl_str_free(&text);
    espl_str_free(&lessons);
}

/* State and profiles, every number and every sign. */
static void the_prompt_tells_the_state_exactly(void **state) {
    (void)state;
    simulation *s = model();
    s->rows[3].z_s = -1.25;
    s->rows[3].z_g = 0.75;
    s->rows[3].z_k = -0.5;
    espl_str text = {0}, lessons = {0};
    const espl_prompt_options how = {.max_bytes = 16384, .lessons = &lessons};
    espl_agent_view v = sim_view(s);
    v.dense.perplexity = 8;
    v.last.perplexity = 10;
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    assert_non_null(strstr(text.data, "\nPerplexity: 10 (dense 8, +25.00 %).\n"));
    const char *line = strstr(text.data, "\nlayers.0.self_attn.o_proj ");
    assert_non_null(line);
    line = strstr(line, " -1.25 0.75 -0.50 0 ");
    assert_non_null(line);
    double price = strtod(line + strlen(" -1.25 0.75 -0.50 0 "), NULL),
           damage = espl_view_damage(&v, &s->rows[3], 0.05);
    assert_true(fabs(price / (100 * expm1(damage)) - 1) < 0.01);
    espl_str_free(&text);
}

/* Twice what was expected, of both losses: every number and every sign. */
static void what_came_of_a_decision_is_told_exactly(void **state) {
    (void)state;
    simulation *s = history();
    espl_str text = {0};
    const espl_str lessons = {0};
    const espl_prompt_options how = {.max_bytes = 16384, .lessons = &lessons};
    for (int k = 0; k < 2; k++) {
        espl_outcome *x = &s->history[k];
        x->before.perplexity = 10, x->before.nll = log(10), x->before.answers = 0.5;
        x->after.perplexity = 10 * exp(0.02), x->after.nll = log(10) + 0.02, x->after.answers = 0.52;
        x->decision.expected_text = x->decision.expected_answers = 0.01;
    }
    user_prompt(s, &how, &text);
    assert_non_null(strstr(text.data,
                           ", perplexity 10 -> 10.202 (+2.02 %, expected +1.01 %), loss of answers 0.5 -> 0.52 "
                           "(+0.02, expected +0.01); together +2.02 %, expected +1.01 %, FreebaseQA 31 -> 29 of"));
    assert_non_null(strstr(text.data, "Rises measured so far were 2 times the expected ones in sum."));
    espl_str_free(&text);
}

/* Counts stay from the step that asked last: an agent must not take them for the newest. */
static void old_answers_are_marked(void **state) {
    (void)state;
    simulation *s = history();
    espl_str text = {0};
    const espl_str lessons = {0};
    const espl_prompt_options how = {.max_bytes = 16384, .lessons = &lessons};
    espl_agent_view v = sim_view(s);
    v.dense.mmlu_total = v.last.mmlu_total = 100;
    v.dense.mmlu_right = v.last.mmlu_right = 62;
    v.last.mmlu_category_total[1] = v.dense.mmlu_category_total[1] = 40;
    v.last.mmlu_category_right[1] = 30, v.dense.mmlu_category_right[1] = 31;
    v.last.answers = 0.6, v.dense.answers = 0.5;
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    assert_non_null(strstr(text.data,
                           "MMLU: 62 of 100 right (dense 62 of 100); humanities: 30 of 40 right (dense 31 of "
                           "40).\n"));
    assert_non_null(strstr(text.data, "Loss of answers: 0.6 nats per token (dense 0.5)."));
    assert_null(strstr(text.data, "(These answers are"));
    s->history[0].after.mmlu_total = s->history[0].after.freebaseqa_total = 0;
    text.len = 0;
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    assert_non_null(strstr(text.data, "(These answers are the dense model's: no step has asked since.)"));
    espl_str_free(&text);
}

/* The longest list is longer than the shortest message may be. */
static void lessons_leave_room_for_the_history(void **state) {
    (void)state;
    simulation *s = history();
    espl_str whole = {0}, text = {0}, lessons = {0};
    espl_prompt_options how = {.max_bytes = 65536, .lessons = &lessons};
    for (int k = 0; k < ESPL_LESSONS_MAX; k++) espl_str_printf(&lessons, "%-*d\n", ESPL_LESSON_BYTES_MAX, k);
    espl_agent_view v = sim_view(s);
    assert_int_equal(espl_prompt_put_user(&whole, &v, &how), ESPL_OK);
    assert_null(strstr(whole.data, "do not fit"));
    how.max_bytes = 2048;
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    assert_non_null(strstr(text.data, "(10 more do not fit: be brief)"));
    assert_non_null(strstr(text.data, "iteration 2: ROLLED BACK"));
    const char *table = strstr(text.data, "\nProfiles ("), *after = strstr(text.data, "\nHistory, oldest first");
    assert_true(text.len - (after - table) <= how.max_bytes);
    espl_str_free(&whole);
    espl_str_free(&text);
    espl_str_free(&lessons);
}

/* The paper's input is z_s, z_g and sparsity, with outcomes and reflections. */
static void the_papers_agent_has_nothing_else(void **state) {
    (void)state;
    const simulation *s = model();
    static const char *const others[] = {
        "{\"base\":\"policy\",\"prune\":{}}", "{\"power\":0.5,\"prune\":{\"layers.1.mlp.up_proj\":0.05}}",
        "{\"lessons\":[],\"prune\":{\"layers.1.mlp.up_proj\":0.05}}", "{\"prune\":{\"layers.1.*\":0.05}}"};
    espl_agent_view v = sim_view(s);
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        acted r = act_in(&v, others[k], ESPL_VIEW_PAPER);
        assert_true(r.problems.len > 0);
        acted_free(&r);
    }
    acted r = act_in(&v, "{\"prune\":{\"layers.1.mlp.up_proj\":0.05}}", ESPL_VIEW_PAPER);
    assert_int_equal(r.problems.len, 0);
    acted_free(&r);
}

static void the_papers_view_holds_nothing_else(void **state) {
    (void)state;
    simulation *s = history();
    for (int64_t i = 0; i < SIM_LINEARS; i++) s->rows[i].z_k = 0.25;
    espl_str text = {0}, lessons = {0};
    espl_str_puts(&lessons, "k_proj is dear\n");
    const espl_prompt_options how = {.max_bytes = 16384, .paper = true, .questions = 8, .lessons = &lessons};
    user_prompt(s, &how, &text);
    static const char *const hidden[] = {"price",   "z_k",      "expected",      "\"action\"",
                                         "lessons", "\"base\"", "k_proj is dear"};
    for (size_t k = 0; k < sizeof hidden / sizeof *hidden; k++) assert_null(strstr(text.data, hidden[k]));
    assert_non_null(strstr(text.data, "z_s, z_g, sparsity):"));
    assert_non_null(strstr(text.data, "reflection: it was cheap"));
    espl_str_free(&text);
    espl_str_free(&lessons);
}

/* Chance, too, is repeated: by both seeds. A seed that is not sent to an endpoint counts as 0. */
static void random_plans_follow_their_seeds(void **state) {
    (void)state;
    espl_agent_view v = sim_view(model());
    espl_agent_options o;
    espl_str first = {0}, again = {0};
    espl_agent_options_init(&o);
    static const struct {
        int64_t run, own;
        bool same;
    } seeds[] = {{1, 0, true}, {1, -1, true}, {2, 0, false}, {1, 1, false}, {1, 2, false}};
    assert_int_equal(espl_random_propose(&v, &o.policy, 1, 0, &first), ESPL_OK);
    for (size_t k = 0; k < sizeof seeds / sizeof *seeds; k++) {
        again.len = 0;
        assert_int_equal(espl_random_propose(&v, &o.policy, seeds[k].run, seeds[k].own, &again), ESPL_OK);
        assert_int_equal(strcmp(first.data, again.data) == 0, seeds[k].same);
    }
    espl_str_free(&first);
    espl_str_free(&again);
}

/* A short table: sums and means by kind and layer, then linears from the cheapest on. A plan may use all of its names.
 */
static void a_table_of_groups(void **state) {
    (void)state;
    simulation *s = history();
    espl_agent_view v = sim_view(s);
    espl_str text = {0}, lessons = {0}, reply = {0};
    espl_prompt_options how = {.max_bytes = 16384, .groups = true, .lessons = &lessons};
    user_prompt(s, &how, &text);
    double z = 0, weights = 0, pruned = 0, all = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++) {
        all += (double)s->rows[i].weights;
        if (espl_linear_layer(v.layout, i) != 2) continue;
        z += s->rows[i].z_s / ESPL_LINEAR_KINDS;
        weights += (double)s->rows[i].weights;
        pruned += (double)s->rows[i].pruned;
    }
    char expected[128];
    snprintf(expected, sizeof expected, "\nlayers.2.* %.3g %.2f ", 100 * weights / all, z);
    const char *layer = strstr(text.data, expected);
    assert_non_null(layer);
    snprintf(expected, sizeof expected, " %.4g ", pruned / weights);
    assert_true(strstr(layer, expected) && strstr(layer, expected) < strchr(layer + 1, '\n'));
    assert_non_null(strstr(text.data, "\nlayers.*.mlp.up_proj "));
    /* Every name of the table, in one plan. */
    espl_str_puts(&reply, "{\"prune\":{");
    int64_t lines = 0, single = 0;
    double before = 0;
    for (const char *line = text.data; (line = strstr(line, "\nlayers.")); lines++) {
        int64_t n = (int64_t)strcspn(++line, " ");
        espl_str_printf(&reply, "%s\"%.*s\":0.01", lines ? "," : "", (int)n, line);
        if (memchr(line, '*', (size_t)n)) continue;
        int64_t i = 0;
        char name[ESPL_LINEAR_NAME_MAX];
        while (strncmp(espl_linear_name(v.layout, i, name), line, (size_t)n) != 0) i++;
        double now = espl_row_sparsity(&s->rows[i]);
        double price = (espl_view_damage(&v, &s->rows[i], now + 0.05) - espl_view_damage(&v, &s->rows[i], now)) /
                       (double)s->rows[i].weights;
        assert_true(price > 0.99 * before); /* the printed price is expm1 of this */
        before = price;
        single++;
    }
    espl_str_puts(&reply, "}}");
    assert_int_equal(lines, SIM_LAYERS + ESPL_LINEAR_KINDS + single);
    assert_int_equal(single, 16);
    acted r = act(s, reply.data);
    assert_int_equal(r.problems.len, 0);
    assert_int_equal(r.a.plan.n, SIM_LINEARS);
    acted_free(&r);
    how.paper = true;
    user_prompt(s, &how, &text);
    assert_null(strstr(text.data, "price"));
    assert_non_null(strstr(text.data, "\nlayers.2.* "));
    espl_str_free(&text);
    espl_str_free(&lessons);
    espl_str_free(&reply);
}

/* A template has its fields filled in; one with another field is refused. */
static void the_system_message_may_be_replaced(void **state) {
    (void)state;
    const simulation *s = model();
    espl_agent_view v = sim_view(s);
    espl_str text = {0};
    const espl_str lessons = {0};
    const espl_prompt_options how = {
        .system = "Prune{{model}} to {{target}} %. {{rules}}", .model_name = "m", .lessons = &lessons};
    espl_prompt_put_system(&text, &v, &how);
    assert_ptr_equal(strstr(text.data, "Prune (m) to 45 %. "), text.data);
    espl_str_free(&text);
    assert_int_equal(espl_prompt_check_template("{{rules}} {{answer}} {no field} }}", "f"), ESPL_OK);
    assert_int_equal(espl_prompt_check_template("{{rules}} {{rulez}}", "f.txt"), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "f.txt: {{rulez}} is no field"));
}

/* ----------------------------------------------------------------- forms */

static void forms_name_the_linears_and_bounds(void **state) {
    (void)state;
    simulation *s = model();
    s->rows[0].pruned = s->rows[0].weights; /* no room: a brief form does not name it */
    for (int64_t i = 0; i < ESPL_LINEAR_KINDS; i++) s->rows[7 + i].pruned = s->rows[7 + i].weights; /* nor layer 1 */
    for (int brief = 0; brief < 2; brief++) {
        espl_agent_view v = sim_view(s);
        espl_forms *forms;
        espl_str text = {0};
        espl_json_writer w = espl_json_writer_on(&text);
        unsigned offered = 1U << ESPL_ACTION_PROPOSE | 1U << ESPL_ACTION_INSPECT;
        assert_int_equal(espl_forms_create(&forms, &v, offered, brief ? ESPL_FORMS_BRIEF : ESPL_FORMS_WHOLE), ESPL_OK);
        assert_int_equal(espl_form_check(espl_forms_reply(forms)), ESPL_OK);
        espl_form_put_schema(&w, NULL, espl_forms_reply(forms));
        cJSON *doc = cJSON_Parse(text.data), *variants = cJSON_GetObjectItem(doc, "anyOf");
        assert_int_equal(cJSON_GetArraySize(variants), 2);
        cJSON *members = cJSON_GetObjectItem(cJSON_GetArrayItem(variants, 0), "properties");
        cJSON *linears = cJSON_GetObjectItem(cJSON_GetObjectItem(members, "prune"), "properties");
        assert_int_equal(cJSON_GetArraySize(linears),
                         SIM_LINEARS + ESPL_LINEAR_KINDS + SIM_LAYERS - (brief ? 1 + 7 + 1 : 0));
        cJSON *step = cJSON_GetObjectItem(linears, "layers.11.mlp.down_proj");
        assert_true(cJSON_GetObjectItem(step, "maximum")->valuedouble == s->budget.max_step);
        assert_non_null(cJSON_GetObjectItem(linears, "layers.*.mlp.up_proj"));
        assert_null(cJSON_GetObjectItem(members, "power")); /* this run has no exponent */
        cJSON_Delete(doc);
        espl_str_free(&text);
        espl_forms_free(&forms);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_may_be_patterns),
        cmocka_unit_test(patterns_pass_over_what_cannot_be_pruned),
        cmocka_unit_test(patterns_keep_the_budget),
        cmocka_unit_test(a_plan_may_start_from_the_policys),
        cmocka_unit_test(knowledge_moves_the_policys_plan),
        cmocka_unit_test(the_exponent_is_bounded),
        cmocka_unit_test(actions_are_told_apart),
        cmocka_unit_test(lessons_are_cleaned_and_bounded),
        cmocka_unit_test(predictions_are_sums_of_curves),
        cmocka_unit_test(repeats_are_known),
        cmocka_unit_test(inspections_tell_what_is_known),
        cmocka_unit_test(random_plans_are_valid),
        cmocka_unit_test(the_prompt_tells_what_came_of_decisions),
        cmocka_unit_test(the_prompt_tells_the_state_exactly),
        cmocka_unit_test(what_came_of_a_decision_is_told_exactly),
        cmocka_unit_test(old_answers_are_marked),
        cmocka_unit_test(lessons_leave_room_for_the_history),
        cmocka_unit_test(the_papers_agent_has_nothing_else),
        cmocka_unit_test(random_plans_follow_their_seeds),
        cmocka_unit_test(a_table_of_groups),
        cmocka_unit_test(the_papers_view_holds_nothing_else),
        cmocka_unit_test(the_system_message_may_be_replaced),
        cmocka_unit_test(forms_name_the_linears_and_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
