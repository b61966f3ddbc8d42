/* SPDX-License-Identifier: Apache-2.0 */
/* A model with experts as the agent sees it: as large as Qwen3-30B-A3B, which has 18 624 linears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "action.h"
#include "find.h"
#include "forms.h"
#include "policy/policy.h"
#include "prompt.h"

#include "espalier/agent/reply.h"
#include "espalier/base/memory.h"
#include "simulation.h"
#include "tools.h"
#include "view.h"

#include <cjson/cJSON.h>

enum { LAYERS = 48, EXPERTS = 128, LINEARS = LAYERS * (4 + 3 * EXPERTS), PROMPT_MAX = 48 << 10 };
#define LAYOUT ((espl_layout){.layers = LAYERS, .experts = EXPERTS})

static const espl_str none;
static const espl_prompt_options how = {.model_name = "m", .max_bytes = 16384, .questions = 8, .lessons = &none};

static int64_t linear(const char *name) {
    int64_t i = espl_linear_parse(LAYOUT, name);
    assert_true(i >= 0);
    return i;
}

/* Expert 17 of layer 3 is the cheapest, expert 5 saw no token. */
static espl_agent_view view(void) {
    static espl_profile_row rows[LINEARS];
    static espl_pattern patterns[LINEARS];
    espl_rng r;
    espl_rng_seed(&r, 3, 0, 0);
    for (int64_t i = 0; i < LINEARS; i++) {
        int64_t expert = espl_linear_expert(LAYOUT, i), layer = espl_linear_layer(LAYOUT, i);
        double cost = (expert == 17 && layer == 3 ? 1e-9 : 1e-6) * (1 + espl_rng_uniform(&r));
        rows[i] = (espl_profile_row){.weights = expert < 0 ? 4096 : 1024, .tokens = expert == 5 ? 0 : 100};
        rows[i].z_s = test_normal(&r);
        rows[i].z_g = test_normal(&r);
        rows[i].z_k = NAN;
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) {
            rows[i].damage[k] = cost * (k + 1) * (k + 1);
            rows[i].damage_k[k] = NAN;
        }
    }
    return (espl_agent_view){
        .iteration = 1,
        .budget =
            {.target = 0.45, .cap = 0.9, .max_step = 0.1, .max_linears = 2000, .threshold = 0.1, .max_iterations = 40},
        .layout = LAYOUT,
        .rows = rows,
        .dense = {.perplexity = 10},
        .last = {.perplexity = 10},
        .power = NAN,
        .mixed = true,
        .in = {64, 64, 64, 64, 64, 64, 32},
        .patterns = patterns};
}

static int64_t lines_of(const char *text, const char *word) {
    int64_t n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

static void the_prompt_is_bounded(void **state) {
    (void)state;
    espl_agent_view v = view();
    espl_str text = {0};
    espl_prompt_put_system(&text, &v, &how);
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    assert_in_range(text.len, 1, PROMPT_MAX);
    assert_int_equal(lines_of(text.data, "\nlayers."), 7 * LAYERS);
    assert_non_null(strstr(text.data, "Layers have 128 experts."));
    assert_non_null(strstr(text.data, "{\"layers.0.mlp.experts.*.up_proj\": 0.05, "));
    const char *line = strstr(text.data, "\nlayers.3.mlp.experts.*.up_proj ");
    assert_non_null(line);
    assert_non_null(strstr(line, "(1 saw no token); cheapest 17, "));
    assert_true(strstr(line, "cheapest 17, ") < strchr(line + 1, '\n'));
    espl_str_free(&text);
}

/* Plans of whole layers and all linears: what is shown of one is bounded, too. */
static void plans_are_shown_in_groups(void **state) {
    (void)state;
    espl_agent_view v = view();
    static espl_decision_item items[LINEARS];
    espl_decision plan = {.items = items};
    espl_str text = {0};
    for (int64_t i = 0; i < LINEARS; i++)
        if (espl_linear_layer(LAYOUT, i) < 2)
            items[plan.n++] =
                (espl_decision_item){.linear = i, .step = espl_linear_expert(LAYOUT, i) == 9 ? 0.02 : 0.05};
    espl_tools_put_items(&text, v.layout, &plan);
    assert_non_null(strstr(text.data, " layers.0.self_attn.q_proj 0.05"));
    assert_non_null(strstr(text.data, " layers.1.mlp.experts.*.down_proj (128 experts) 0.02 to 0.05"));
    assert_null(strstr(text.data, "more"));
    assert_int_equal(lines_of(text.data, "layers."), 14);
    espl_str_free(&text);
}

static espl_action acted(const espl_agent_view *v, const char *text, espl_str *problems) {
    espl_action a;
    espl_str notes = {0};
    espl_agent_options o;
    espl_agent_options_init(&o);
    problems->len = 0;
    assert_int_equal(espl_action_parse(text, (int64_t)strlen(text), v, &o.policy, ESPL_VIEW_FULL, &a, problems, &notes),
                     ESPL_OK);
    espl_str_free(&notes);
    return a;
}

static void experts_are_named_together_or_alone(void **state) {
    (void)state;
    espl_agent_view v = view();
    espl_str problems = {0};
    espl_action a = acted(&v,
                          "{\"prune\": {\"layers.3.mlp.experts.*.up_proj\": 0.05, "
                          "\"layers.3.mlp.experts.17.up_proj\": 0.1, \"layers.4.mlp.experts.2.down_proj\": \"2:4\"}}",
                          &problems);
    assert_int_equal(problems.len, 0);
    assert_int_equal(a.plan.n, EXPERTS + 1);
    for (int64_t k = 0; k < a.plan.n; k++) {
        const espl_decision_item *item = &a.plan.items[k];
        if (item->linear == linear("layers.3.mlp.experts.17.up_proj")) assert_true(item->step == 0.1);
        if (item->linear == linear("layers.3.mlp.experts.16.up_proj")) assert_true(item->step == 0.05);
        if (item->linear == linear("layers.4.mlp.experts.2.down_proj")) assert_true(espl_pattern_is_n_m(item->pattern));
    }
    espl_action_free(&a);
    static const char *const wrong[] = {"{\"prune\": {\"layers.3.mlp.up_proj\": 0.05}}",
                                        "{\"prune\": {\"layers.3.mlp.experts.128.up_proj\": 0.05}}",
                                        "{\"prune\": {\"layers.*.mlp.experts.*.up_proj\": 0.05}}"}; /* 6144 linears */
    static const char *const why[] = {"is no linear", "is no linear", "6144 linears are named; at most 2000"};
    for (int i = 0; i < 3; i++) {
        a = acted(&v, wrong[i], &problems);
        assert_non_null(strstr(problems.data, why[i]));
        espl_action_free(&a);
    }
    espl_str_free(&problems);
}

static void the_example_is_no_answer(void **state) {
    (void)state;
    static const char example[] =
        "{\"prune\": {\"layers.2.mlp.experts.3.up_proj\": 0.1}} as in {\"reasoning\": \"" ESPL_EXAMPLE_REASON
        "\", \"prune\": {\"" ESPL_EXAMPLE_EXPERTS "\": 0.05}, \"stop\": false}";
    espl_agent_view v = view();
    espl_str problems = {0};
    espl_action a = acted(&v, example, &problems);
    assert_int_equal(problems.len, 0);
    assert_true(a.plan.n == 1 && a.plan.items[0].linear == linear("layers.2.mlp.experts.3.up_proj"));
    espl_action_free(&a);
    espl_str_free(&problems);
}

static void forms_are_bounded(void **state) {
    (void)state;
    espl_agent_view v = view();
    for (int brief = 0; brief < 2; brief++) {
        espl_forms *forms;
        espl_str text = {0};
        espl_json_writer w = espl_json_writer_on(&text);
        assert_int_equal(
            espl_forms_create(&forms, &v, 1U << ESPL_ACTION_PROPOSE, brief ? ESPL_FORMS_BRIEF : ESPL_FORMS_WHOLE),
            ESPL_OK);
        assert_int_equal(espl_form_check(espl_forms_reply(forms)), ESPL_OK);
        espl_form_put_schema(&w, NULL, espl_forms_reply(forms));
        cJSON *doc = cJSON_Parse(text.data), *variants = cJSON_GetObjectItem(doc, "anyOf");
        cJSON *members = cJSON_GetObjectItem(variants ? cJSON_GetArrayItem(variants, 0) : doc, "properties");
        cJSON *linears = cJSON_GetObjectItem(cJSON_GetObjectItem(members, "prune"), "properties");
        /* A layer and a kind have more linears than a plan may name: a brief form does not offer them. */
        assert_int_equal(cJSON_GetArraySize(linears), 7 * LAYERS + (brief ? 0 : LAYERS + ESPL_LINEAR_KINDS));
        assert_non_null(cJSON_GetObjectItem(linears, "layers.47.mlp.experts.*.gate_proj"));
        cJSON_Delete(doc);
        espl_str_free(&text);
        espl_forms_free(&forms);
    }
}

/* The policy's plan reads back as itself. */
static void the_policy_plans_single_experts(void **state) {
    (void)state;
    espl_agent_view v = view();
    espl_agent_options o;
    espl_str json = {0}, problems = {0}, notes = {0};
    espl_decision d;
    espl_agent_options_init(&o);
    assert_int_equal(espl_policy_propose(&v, &o.policy, &json), ESPL_OK);
    assert_int_equal(espl_reply_parse(json.data, json.len, &v, &d, &problems, &notes), ESPL_OK);
    assert_int_equal(problems.len, 0);
    assert_in_range(d.n, 1, v.budget.max_linears);
    espl_decision_free(&d);
    espl_str_free(&json);
    espl_str_free(&problems);
    espl_str_free(&notes);
}

static void inspections_show_tokens(void **state) {
    (void)state;
    espl_agent_view v = view();
    espl_str text = {0};
    espl_tools_put_inspection(&text, &v, "layers.3.mlp.experts.5.*");
    assert_int_equal(lines_of(text.data, "layers.3.mlp.experts.5."), 3);
    assert_non_null(strstr(text.data, " 0 tokens were routed to it;"));
    espl_str_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prompt_is_bounded),
        cmocka_unit_test(plans_are_shown_in_groups),
        cmocka_unit_test(experts_are_named_together_or_alone),
        cmocka_unit_test(the_example_is_no_answer),
        cmocka_unit_test(forms_are_bounded),
        cmocka_unit_test(the_policy_plans_single_experts),
        cmocka_unit_test(inspections_show_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
