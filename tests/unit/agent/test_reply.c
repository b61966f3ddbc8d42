/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of replies, the prompt and the saved state: what is accepted, refused with which words, and bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/policy.h"
#include "prompt.h"
#include "simulation.h"
#include "view.h"

typedef struct parsed {
    espl_decision d;
    espl_str problems, notes;
} parsed;

static parsed parse_bytes(const simulation *s, const char *text, int64_t len) {
    parsed p = {0};
    espl_agent_view v = sim_view(s);
    assert_int_equal(espl_reply_parse(text, len, &v, &p.d, &p.problems, &p.notes), ESPL_OK);
    if (p.problems.len > 0) assert_true(p.d.n == 0 && !p.d.stop);
    return p;
}

static void parsed_free(parsed *p) {
    espl_decision_free(&p->d);
    espl_str_free(&p->problems);
    espl_str_free(&p->notes);
}

static simulation *plain(void) {
    static simulation s;
    sim_init(&s, 1, 1, 0.5);
    s.budget.max_linears = 4;
    return &s;
}

/* The reply is refused, and the text of the problems holds `word`. */
static void refused(const char *text, const char *word) {
    parsed p = parse_bytes(plain(), text, (int64_t)strlen(text));
    if (p.problems.len == 0 || !strstr(p.problems.data, word)) {
        print_message("%s\n-> %s\n", text, p.problems.len ? p.problems.data : "(accepted)");
        fail();
    }
    parsed_free(&p);
}

static void accepted(const char *text, int64_t n) {
    parsed p = parse_bytes(plain(), text, (int64_t)strlen(text));
    if (p.problems.len > 0) print_message("%s\n-> %s\n", text, p.problems.data);
    assert_int_equal(p.problems.len, 0);
    assert_int_equal(p.d.n, n);
    parsed_free(&p);
}

#define UP "{\"prune\":{\"layers.3.mlp.up_proj\":0.05}}"
/* Two linears: a test that counts one sees that it was not taken. */
#define DRAFT "{\"prune\":{\"layers.1.mlp.up_proj\":0.05,\"layers.2.mlp.up_proj\":0.05}}"
/* The example of the prompt. */
#define EXAMPLE                                                                                                        \
    "{\"reasoning\":\"" ESPL_EXAMPLE_REASON "\",\"reflection\":\"what the last outcome taught you\","                  \
    "\"prune\":{\"layers.0.mlp.up_proj\":0.05,\"layers.3.mlp.down_proj\":0.02},\"stop\":false}"

static void finds_the_object(void **state) {
    (void)state;
    accepted(UP, 1);
    accepted("{\"reasoning\":\"no <think> and no </think> here\",\"prune\":{\"layers.3.mlp.up_proj\":0.05}}", 1);
    accepted(" {\"reasoning\":\"nor <think> here\",\"prune\":{\"layers.3.mlp.up_proj\":0.05}}\r\n\t\t", 1);
    accepted("Sure!\n```json\n" UP "\n```\nBye {", 1);
    accepted("<think>{\"prune\":{\"x\":1}}</think>" UP, 1);
    accepted("<think>one</think> and <think>{</think>" UP "<think>{\"prune\":", 1);
    accepted("the template opened it {\"stop\": true}</think>" UP, 1);
    accepted("<thinking>{\"stop\":true}</thinking>" UP, 1);
    accepted("[THINK]" DRAFT "[/THINK]" UP, 1);
    accepted("<Reasoning>" DRAFT "</Reasoning>" UP, 1);
    accepted("<seed:think>" DRAFT "</seed:think>" UP, 1);
    accepted("\xE2\x97\x81think\xE2\x96\xB7" DRAFT "\xE2\x97\x81/think\xE2\x96\xB7" UP, 1);
    accepted("<|channel|>analysis<|message|>" DRAFT "<|end|><|start|>assistant<|channel|>final<|message|>" UP
             "<|return|>",
             1);
    accepted("<|channel|>analysis<|message|>" DRAFT "<|start|>assistant<|channel|>final<|message|>" UP, 1);
    accepted(UP "<|end|>", 1);
    accepted("{\"note\":\"not this one\"} but {this} and {\"a\":} then " UP, 1);
    accepted("{\"reasoning\":\"a } brace, a \\\" quote, a backslash \\\\\","
             "\"prune\":{\"model.layers.3.mlp.up_proj\":0.05}}",
             1);
    accepted("{\"prune\":{\"layers.3.mlp.up_proj\":0.05,\"layers.4.mlp.up_proj\":0}, \"extra\":[1]}", 1);
}

static void last_decision_counts(void **state) {
    (void)state;
    accepted("First idea: " DRAFT " Too much. Final answer: " UP, 1);
    accepted(UP " or rather " DRAFT, 2);
    accepted("The form is " EXAMPLE ". My answer: " UP, 1);
    accepted(UP " in the form " EXAMPLE, 1);
    accepted("like " EXAMPLE, 2); /* alone, it is a decision: small models copy it */
    accepted(DRAFT " {\"note\": 1} " UP " {\"done\": true}", 1);
    accepted("{\"prune\": {...}} is the form. " UP, 1);
    accepted("{ { { { open { braces { in { prose { { { { { " UP, 1);
    for (int k = 0; k < 2; k++) { /* more objects than anyone would count */
        espl_str s = {0};
        for (int i = 0; i < 500; i++) espl_str_puts(&s, "{\"note\": 1} " DRAFT);
        espl_str_puts(&s, UP);
        if (k == 1) espl_str_puts(&s, " {");
        accepted(s.data, 1);
        espl_str_free(&s);
    }
    /* What follows a draft was to replace it. */
    refused(DRAFT " Final: {\"prune\":{\"layers.3.mlp.up_proj\":0.0", "no complete JSON object");
    refused(DRAFT " Final: {\"prune\":{\"layers.3.mlp.up_proj\":0.05,}}",
            "0.05,}}\" is where the reply's object stops");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0.05}, // good\n}", "stops being valid JSON");
    refused("{'prune': {'layers.3.mlp.up_proj': 0.05}}", "stops being valid JSON");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0.05},\"stop\":False}", "False}\" is where");
}

static void refuses_with_reasons(void **state) {
    (void)state;
    refused("", "no complete JSON object");
    refused("I would rather not.", "no complete JSON object");
    refused("<think>" UP, "no complete JSON object");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0.05}", "no complete JSON object");
    refused("{\"reasoning\":\"so\",\"decision\":" UP "}", "has neither \"prune\" nor \"stop\"");
    refused("{} {}", "has neither \"prune\" nor \"stop\"");
    refused("{\"reasoning\":\"all is well\"}", "has neither \"prune\" nor \"stop\"");
    refused("{\"reasoning\":\"all is well\"}\n", "has neither \"prune\" nor \"stop\"");
    refused("[1,2]", "no complete JSON object");
    refused("{}", "has neither \"prune\" nor \"stop\"");
    refused("{\"prune\":{}}", "names no linear");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0}}", "names no linear");
    refused("{\"prune\":{\"layers.12.mlp.up_proj\":0.05}}", "\"layers.12.mlp.up_proj\" is no linear");
    refused("{\"prune\":{\"layers.-1.mlp.up_proj\":0.05}}", "is no linear");
    refused("{\"prune\":{\"layers.99999999999999999999.mlp.up_proj\":0.05}}", "is no linear");
    refused("{\"prune\":{\"lm_head\":0.05}}", "is no linear");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":5}}", "not percent");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":1e999}}", "must have a number");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":NaN}}", "NaN}}\" is where the reply's object stops being valid JSON");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":-0.05}}", "negative");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":\"0.05\"}}", "must have a number");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0.05,\"model.layers.3.mlp.up_proj\":0.05}}", "more than once");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0.05},\"prune\":{}}", "more than once");
    refused("{\"prune\":[\"layers.3.mlp.up_proj\"]}", "must be an object");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":0.05},\"stop\":\"no\"}", "true or false");
    refused("{\"reasoning\":7,\"prune\":{\"layers.3.mlp.up_proj\":0.05}}", "\"reasoning\" must be a string");
    refused("{\"prune\":{\"layers.1.mlp.up_proj\":0.05,\"layers.2.mlp.up_proj\":0.05,\"layers.3.mlp.up_proj\":0.05,"
            "\"layers.4.mlp.up_proj\":0.05,\"layers.5.mlp.up_proj\":0.05}}",
            "at most 4");
    refused("{\"prune\":{\"layers.3.mlp.up_proj\":1e-9}}", "these linears cannot be pruned further");
}

/* Large, deep and long: an answer within a moment, and problem lists that stay short. */
static void bounded(void **state) {
    (void)state;
    enum { BIG = 10 << 20 };
    char *text;
    assert_int_equal(espl_mem_alloc(&text, BIG, 1, "test"), ESPL_OK);
    static const char fills[] = {'{', '[', '"', ' ', 'a', '\\', '<'};
    double start = espl_clock_now();
    for (size_t f = 0; f < sizeof fills; f++)
        for (int64_t len = ESPL_AGENT_REPLY_MAX; len <= BIG; len *= 10) {
            memset(text, fills[f], (size_t)len);
            text[0] = '{';
            parsed p = parse_bytes(plain(), text, len);
            assert_true(p.problems.len > 0 && p.problems.len < 4096);
            parsed_free(&p);
        }
    espl_str s = {0};
    while (s.len < ESPL_AGENT_REPLY_MAX - 64) espl_str_puts(&s, "{ \"prune\" [ ] "); /* each brace reaches far */
    parsed many = parse_bytes(plain(), s.data, s.len);
    assert_true(many.problems.len > 0);
    parsed_free(&many);
    s.len = 0;
    espl_str_puts(&s, "{\"prune\":{\"x\":0");
    for (int k = 0; k < 20000; k++) espl_str_printf(&s, ",\"layer\033[31m %d\":0.05", k);
    espl_str_puts(&s, "}}");
    parsed p = parse_bytes(plain(), s.data, s.len);
    assert_true(p.problems.len > 0 && p.problems.len < 4096 && !strchr(p.problems.data, '\033'));
    parsed_free(&p);
    assert_true(espl_clock_now() - start < 10);
    espl_str_free(&s);
    espl_mem_free(&text);
}

static void texts_are_cleaned(void **state) {
    (void)state;
    espl_str s = {0};
    espl_str_puts(&s, "{\"reasoning\":\"bell\\u0007 esc\033[1m c1\\u009b bad\xFF \xE2\x82\xAC\",\"reflection\":\"");
    for (int k = 0; k < 9000; k++) espl_str_puts(&s, "\xE2\x82\xAC");
    espl_str_puts(&s, "\",\"prune\":{\"layers.3.mlp.up_proj\":0.05}}");
    parsed p = parse_bytes(plain(), s.data, s.len);
    assert_int_equal(p.problems.len, 0);
    assert_string_equal(p.d.reason, "bell  esc [1m c1  bad\xEF\xBF\xBD \xE2\x82\xAC");
    size_t n = strlen(p.d.reflection);
    assert_true(n <= ESPL_AGENT_TEXT_MAX + 3 && n > ESPL_AGENT_TEXT_MAX - 4);
    for (size_t i = 0; i + 3 < n; i += 3) assert_memory_equal(p.d.reflection + i, "\xE2\x82\xAC", 3);
    parsed_free(&p);
    espl_str_free(&s);
}

static void caps_and_target_are_enforced(void **state) {
    (void)state;
    simulation *s = plain();
    static const char text[] = "{\"prune\":{\"layers.1.mlp.up_proj\":0.1,\"layers.2.mlp.up_proj\":0.1,"
                               "\"layers.0.self_attn.k_proj\":0.1}}";
    int64_t a = espl_linear_index(SIM_LAYOUT, 1, ESPL_UP_PROJ), k = espl_linear_index(SIM_LAYOUT, 0, ESPL_K_PROJ);
    s->rows[a].pruned = (int64_t)(0.85 * (double)s->rows[a].weights);
    parsed p = parse_bytes(s, text, sizeof text - 1);
    assert_int_equal(p.d.n, 3);
    assert_int_equal(p.d.items[0].linear, k);
    assert_true(p.d.items[0].step == 0.1);
    assert_int_equal(llround(p.d.items[1].step * (double)s->rows[a].weights) + s->rows[a].pruned,
                     (int64_t)floor(0.9 * (double)s->rows[a].weights));
    assert_non_null(strstr(p.notes.data, "cap"));
    parsed_free(&p);

    for (int64_t i = 0; i < SIM_LINEARS; i++) s->rows[i].pruned = (int64_t)(0.4495 * (double)s->rows[i].weights);
    p = parse_bytes(s, text, sizeof text - 1);
    int64_t sum = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++) sum += s->rows[i].pruned;
    for (int64_t j = 0; j < p.d.n; j++)
        sum += llround(p.d.items[j].step * (double)s->rows[p.d.items[j].linear].weights);
    assert_int_equal(sum, llround(0.45 * (double)s->total));
    assert_non_null(strstr(p.notes.data, "scaled"));
    parsed_free(&p);
}

/* ------------------------------------------------------------------- N:M */

static simulation *mixed(void) {
    simulation *s = plain();
    s->mixed = true;
    return s;
}

static void parse_mixed(simulation *s, const char *text, const char *problem, parsed *p) {
    *p = parse_bytes(s, text, (int64_t)strlen(text));
    if (problem && (p->problems.len == 0 || !strstr(p->problems.data, problem)))
        fail_msg("%s\n-> %s", text, p->problems.len ? p->problems.data : "(accepted)");
    if (!problem && p->problems.len > 0) fail_msg("%s\n-> %s", text, p->problems.data);
}

static void bars(simulation *s, const char *text, const char *problem) {
    parsed p;
    parse_mixed(s, text, problem, &p);
    parsed_free(&p);
}

static void patterns_need_the_switch(void **state) {
    (void)state;
    bars(plain(), "{\"prune\":{\"layers.3.mlp.up_proj\":\"2:4\"}}", "must have a number");
}

static void patterns_are_read(void **state) {
    (void)state;
    parsed p, again;
    simulation *s = mixed();
    parse_mixed(s,
                "{\"prune\":{\"layers.3.mlp.up_proj\":\"4:8\",\"layers.0.mlp.down_proj\":0.05,"
                "\"layers.1.mlp.up_proj\":\"2:4\"}}",
                NULL, &p);
    assert_int_equal(p.notes.len, 0);
    assert_int_equal(p.d.n, 3);
    assert_int_equal(espl_pattern_choice(p.d.items[0].pattern), -1);
    assert_int_equal(espl_pattern_choice(p.d.items[1].pattern), ESPL_PATTERN_CHOICE_2_4);
    assert_int_equal(espl_pattern_choice(p.d.items[2].pattern), ESPL_PATTERN_CHOICE_4_8);
    assert_int_equal(p.d.items[2].linear, espl_linear_index(SIM_LAYOUT, 3, ESPL_UP_PROJ));
    assert_true(p.d.items[1].step == 0.5 && p.d.items[2].step == 0.5);
    espl_str text = {0};
    espl_reply_put(&text, SIM_LAYOUT, &p.d);
    assert_non_null(strstr(text.data, "\"layers.1.mlp.up_proj\":\"2:4\",\"layers.3.mlp.up_proj\":\"4:8\""));
    parse_mixed(s, text.data, NULL, &again);
    assert_memory_equal(p.d.items, again.d.items, 3 * sizeof *p.d.items);
    espl_str_free(&text);
    parsed_free(&p);
    parsed_free(&again);
}

static void patterns_are_barred(void **state) {
    (void)state;
    static const char two[] = "{\"prune\":{\"layers.3.mlp.up_proj\":\"2:4\"}}";
    simulation *s = mixed();
    int64_t up = espl_linear_index(SIM_LAYOUT, 3, ESPL_UP_PROJ);
    bars(s, "{\"prune\":{\"layers.3.mlp.up_proj\":\"1:4\"}}", "patterns \"2:4\" and \"4:8\"");
    bars(s, "{\"prune\":{\"layers.3.mlp.up_proj\":\"0.05\"}}", "must have a number");
    bars(s, "{\"prune\":{\"layers.3.mlp.up_proj\":[2,4]}}", "must have a number");
    bars(s, "{\"prune\":{\"layers.3.mlp.down_proj\":\"4:8\"}}", "its 171 inputs are no multiple of 8");
    bars(s, "{\"prune\":{\"layers.3.mlp.up_proj\":\"2:4\",\"model.layers.3.mlp.up_proj\":0.1}}", "more than once");
    bars(s, "{\"prune\":{\"layers.3.mlp.up_proj\":0.1,\"model.layers.3.mlp.up_proj\":\"2:4\"}}", "more than once");
    s->rows[up].pruned = 1;
    bars(s, two, "only a dense linear can");
    s->rows[up].pruned = s->rows[up].weights / 2;
    s->patterns[up] = espl_pattern_choices[ESPL_PATTERN_CHOICE_4_8];
    bars(s, two, "is 4:8 and finished");
    bars(s, UP, "is 4:8 and finished");
    bars(s, "{\"prune\":{\"layers.3.mlp.up_proj\":0,\"layers.4.mlp.up_proj\":0.1}}", NULL);
    s->mixed = false; /* it stays finished */
    bars(s, UP, "is 4:8 and finished");
    s = mixed();
    s->budget.cap = 0.45;
    bars(s, two, "above sparsity 0.45");
}

static int64_t weights_of(const simulation *s, const espl_decision *d) {
    int64_t sum = 0;
    for (int64_t k = 0; k < d->n; k++) sum += llround(d->items[k].step * (double)s->rows[d->items[k].linear].weights);
    return sum;
}

/* The target trims steps, never patterns: those are dropped where they do not fit. */
static void patterns_are_whole(void **state) {
    (void)state;
    static const char text[] = "{\"prune\":{\"layers.1.mlp.up_proj\":\"2:4\",\"layers.2.mlp.up_proj\":\"4:8\","
                               "\"layers.3.mlp.up_proj\":0.1}}";
    simulation *s = mixed();
    int64_t up = s->rows[espl_linear_index(SIM_LAYOUT, 1, ESPL_UP_PROJ)].weights;
    parsed p;
    s->budget.target = (1.05 * (double)up) / (double)s->total; /* two halves and half of the step */
    parse_mixed(s, text, NULL, &p);
    assert_int_equal(p.d.n, 3);
    assert_true(p.d.items[0].step == 0.5 && p.d.items[1].step == 0.5 && p.d.items[2].step < 0.06);
    assert_int_equal(weights_of(s, &p.d), llround(s->budget.target * (double)s->total));
    parsed_free(&p);
    s->budget.target = (0.7 * (double)up) / (double)s->total; /* one half and the step */
    parse_mixed(s, text, NULL, &p);
    assert_int_equal(p.d.n, 2);
    assert_non_null(strstr(p.notes.data, "1 linears not made N:M"));
    assert_int_equal(espl_pattern_choice(p.d.items[0].pattern), ESPL_PATTERN_CHOICE_2_4);
    assert_true(!espl_pattern_is_n_m(p.d.items[1].pattern) && p.d.items[1].step == 0.1);
    parsed_free(&p);
    s->budget.target = (0.3 * (double)up) / (double)s->total;
    bars(s, "{\"prune\":{\"layers.1.mlp.up_proj\":\"2:4\"}}", "would exceed the target");
}

static const espl_str no_lessons = {0};
static const espl_prompt_options how = {.model_name = "m", .max_bytes = 8192, .lessons = &no_lessons};

/* The prompt speaks of patterns only where they may be chosen. */
static void prompt_tells_of_patterns(void **state) {
    (void)state;
    simulation *s = plain();
    for (int on = 0; on < 2; on++) {
        espl_str text = {0};
        s->mixed = on;
        espl_agent_view v = sim_view(s);
        espl_prompt_put_system(&text, &v, &how);
        assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
        assert_int_equal(strstr(text.data, "2:4") != NULL, on);
        assert_int_equal(strstr(text.data, "does not fit the inputs of mlp.down_proj") != NULL, on);
        assert_null(strstr(text.data, "does not fit the inputs of mlp.up_proj"));
        espl_str_free(&text);
    }
    espl_decision d;
    espl_str text = {0};
    static const char reply[] = "{\"prune\":{\"layers.3.mlp.up_proj\":\"4:8\"}}";
    parsed p = parse_bytes(s, reply, sizeof reply - 1);
    d = p.d;
    s->budget.threshold = 100;
    sim_apply(s, &d);
    espl_agent_view v = sim_view(s);
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    assert_non_null(strstr(text.data, " 0.5 4:8\n"));                       /* the table */
    assert_non_null(strstr(text.data, "pruned: layers.3.mlp.up_proj 4:8")); /* the history */
    espl_str_free(&text);
    sim_free(s);
}

/* The table marks linears with limits of their own, and a reply keeps to them. */
static void prompt_and_reply_keep_limits_of_linears(void **state) {
    (void)state;
    static const char reply[] = "{\"prune\":{\"layers.1.mlp.up_proj\":0.1,\"layers.2.mlp.up_proj\":0.1,"
                                "\"layers.3.mlp.up_proj\":0.1,\"*.q_proj\":0.1}}";
    double caps[SIM_LAYERS * ESPL_LINEAR_KINDS];
    simulation *s = plain();
    espl_agent_view v = sim_view(s);
    espl_str text = {0}, problems = {0}, notes = {0};
    espl_decision d;
    for (int64_t i = 0; i < SIM_LAYERS * ESPL_LINEAR_KINDS; i++)
        caps[i] = espl_linear_kind_of(SIM_LAYOUT, i) == ESPL_Q_PROJ ? 0 : v.budget.cap;
    caps[espl_linear_index(SIM_LAYOUT, 1, ESPL_UP_PROJ)] = 0;
    caps[espl_linear_index(SIM_LAYOUT, 2, ESPL_UP_PROJ)] = 0.0625;
    v.caps = caps;
    espl_prompt_put_system(&text, &v, &how);
    assert_non_null(strstr(text.data, "those that must not be pruned"));
    assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
    const char *spared = strstr(text.data, "layers.1.mlp.up_proj "),
               *capped = strstr(text.data, "layers.2.mlp.up_proj ");
    assert_true(spared && strncmp(strchr(spared, '\n') - 19, " (not to be pruned)", 19) == 0);
    assert_true(capped && strncmp(strchr(capped, '\n') - 17, " (at most 0.0625)", 17) == 0);
    assert_int_equal(espl_reply_parse("{\"prune\":{\"*.q_proj\":0.1}}", 26, &v, &d, &problems, &notes), ESPL_OK);
    assert_true(problems.len > 0 && d.n == 0);
    espl_decision_free(&d);
    espl_str_free(&problems);
    espl_str_free(&notes);
    assert_int_equal(espl_reply_parse(reply, sizeof reply - 1, &v, &d, &problems, &notes), ESPL_OK);
    assert_int_equal(d.n, 2); /* layers 2 and 3 */
    assert_true(d.items[0].linear == espl_linear_index(SIM_LAYOUT, 2, ESPL_UP_PROJ) && d.items[0].step <= 0.0625);
    assert_true(d.items[1].linear == espl_linear_index(SIM_LAYOUT, 3, ESPL_UP_PROJ) && d.items[1].step == 0.1);
    espl_decision_free(&d);
    espl_str_free(&problems);
    espl_str_free(&notes);
    espl_str_free(&text);
    sim_free(s);
}

/* A linear's price: what its curve says of a further 0.05, only where all linears have a curve. */
static void prompt_tells_prices(void **state) {
    (void)state;
    static simulation s;
    sim_init(&s, 1, 1, 0.5);
    for (int on = 0; on < 2; on++) {
        espl_str text = {0};
        espl_agent_view v = sim_view(&s);
        assert_int_equal(espl_prompt_put_user(&text, &v, &how), ESPL_OK);
        assert_int_equal(strstr(text.data, "sparsity, price)") != NULL, on);
        assert_int_equal(strstr(text.data, " 0 10.5\n") != NULL, on); /* e^0.1 - 1, in % */
        espl_str_free(&text);
        sim_curves(&s, 1, 0);
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) /* linear in the sparsity: 0.1 nats at 0.05 */
            s.rows[8].damage[k] = 2 * (k + 1.0) / ESPL_DAMAGE_LEVELS;
    }
    sim_free(&s);
}

static void stop_wins(void **state) {
    (void)state;
    static const char text[] = "{\"stop\":true,\"prune\":{\"layers.1.mlp.up_proj\":0.1}}";
    parsed p = parse_bytes(plain(), text, sizeof text - 1);
    assert_true(p.d.stop && p.d.n == 0 && p.notes.len > 0 && p.problems.len == 0);
    parsed_free(&p);
}

/* The prompt names every linear, keeps to its size, and is the same twice. */
static void prompt_is_bounded(void **state) {
    (void)state;
    static simulation s;
    espl_agent_options o;
    espl_agent_options_init(&o);
    sim_init(&s, 1, 1, 0.5);
    int64_t longest = 0;
    for (int k = 0; k < 40; k++) {
        espl_agent_view v = sim_view(&s);
        espl_str user = {0}, again = {0}, json = {0}, problems = {0}, notes = {0};
        assert_int_equal(espl_prompt_put_user(&user, &v, &how), ESPL_OK);
        assert_int_equal(espl_prompt_put_user(&again, &v, &how), ESPL_OK);
        assert_string_equal(user.data, again.data);
        assert_non_null(strstr(user.data, "layers.11.mlp.down_proj "));
        longest = user.len > longest ? user.len : longest;
        espl_decision d;
        assert_int_equal(espl_policy_propose(&v, &o.policy, &json), ESPL_OK);
        assert_int_equal(espl_reply_parse(json.data, json.len, &v, &d, &problems, &notes), ESPL_OK);
        bool stop = d.stop;
        if (stop)
            espl_decision_free(&d);
        else
            sim_apply(&s, &d);
        espl_str_free(&user), espl_str_free(&again), espl_str_free(&json);
        espl_str_free(&problems), espl_str_free(&notes);
        if (stop) break;
    }
    assert_true(longest > 6000 && longest < 8192 + 84 * 64);
    sim_free(&s);
}

static void states_are_checked(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "{}",
                                      "null",
                                      "{\"version\":1}",
                                      "{\"version\":2,\"form\":3}",
                                      "{\"version\":2,\"form\":\"poem\",\"refused\":0,\"failures\":0}"};
    espl_agent_options o;
    espl_agent *a;
    espl_str before = {0}, after = {0};
    espl_agent_options_init(&o);
    assert_int_equal(espl_agent_create(&a, &o), ESPL_OK);
    assert_int_equal(espl_agent_state_save(a, &before), ESPL_OK);
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_int_equal(espl_agent_state_restore(a, bad[k], (int64_t)strlen(bad[k])), ESPL_FORMAT);
    assert_int_equal(espl_agent_state_save(a, &after), ESPL_OK);
    assert_string_equal(before.data, after.data);
    espl_agent_destroy(&a);
    o.policy.power = 0;
    assert_int_equal(espl_agent_create(&a, &o), ESPL_CONFIG);
    assert_null(a);
    espl_agent_options_init(&o);
    o.backend = ESPL_BACKEND_OPENAI;
    assert_int_equal(espl_agent_create(&a, &o), ESPL_CONFIG);
    espl_str_free(&before);
    espl_str_free(&after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_object),
        cmocka_unit_test(last_decision_counts),
        cmocka_unit_test(refuses_with_reasons),
        cmocka_unit_test(bounded),
        cmocka_unit_test(texts_are_cleaned),
        cmocka_unit_test(stop_wins),
        cmocka_unit_test(caps_and_target_are_enforced),
        cmocka_unit_test(prompt_is_bounded),
        cmocka_unit_test(states_are_checked),
        cmocka_unit_test(patterns_need_the_switch),
        cmocka_unit_test(patterns_are_read),
        cmocka_unit_test(patterns_are_barred),
        cmocka_unit_test(patterns_are_whole),
        cmocka_unit_test(prompt_tells_of_patterns),
        cmocka_unit_test(prompt_and_reply_keep_limits_of_linears),
        cmocka_unit_test(prompt_tells_prices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
