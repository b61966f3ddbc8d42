/* SPDX-License-Identifier: Apache-2.0 */
/* Options, from files and --set: values, messages, what reads back, and what must hold between them. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/config/table.h"

static espl_config defaults(void) {
    espl_config o;
    assert_int_equal(espl_config_init(&o), ESPL_OK);
    return o;
}

static espl_config parsed(const char *text) {
    espl_config o = defaults();
    if (espl_config_parse(text, (int64_t)strlen(text), "c.json", &o) != ESPL_OK)
        fail_msg("%s\n-> %s", text, espl_base_error_text());
    return o;
}

static void expect_words(espl_status st, const char *input, const char *words) {
    if (st != ESPL_CONFIG || !strstr(espl_base_error_text(), words))
        fail_msg("%s\n-> %s: %s\nexpected: %s", input, espl_status_name(st), espl_base_error_text(), words);
}

/* The text is refused with a message that holds `words`. */
static void refused(const char *text, const char *words) {
    espl_config o = defaults();
    espl_base_error_clear();
    expect_words(espl_config_parse(text, (int64_t)strlen(text), "c.json", &o), text, words);
    espl_config_free(&o);
}

static void set_refused(const char *assignment, const char *words) {
    espl_config o = defaults();
    espl_base_error_clear();
    expect_words(espl_config_set(assignment, &o), assignment, words);
    espl_config_free(&o);
}

static void set(espl_config *o, const char *assignment) {
    if (espl_config_set(assignment, o) != ESPL_OK) fail_msg("%s -> %s", assignment, espl_base_error_text());
}

/* ------------------------------------------------------------------ tests */

/* Every default is one that a file may hold: in its range, among its values. */
static void defaults_are_allowed(void **state) {
    (void)state;
    espl_config o = defaults();
#define DEFAULT_TEXT(key, value, lo, hi) assert_string_equal(o.key, value);
#define DEFAULT_CHOICE(key, value, lo, hi) assert_true(o.key == (value));
#define DEFAULT_INTEGER(key, value, lo, hi)                                                                            \
    assert_true(o.key == (value));                                                                                     \
    assert_true(o.key >= (lo) && o.key <= (hi));
#define DEFAULT_REAL(key, value, lo, hi) DEFAULT_INTEGER(key, value, lo, hi)
#define DEFAULT_FLAG(key, value, lo, hi) assert_true(o.key == (value));
#define DEFAULT_NUMBERS(key, value, lo, hi) assert_string_equal(o.key, value);
#define X(type, section, key, value, lo, hi, resume, meaning) DEFAULT_##type(section##_##key, value, lo, hi)
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type, key, value, lo, hi, meaning) DEFAULT_REAL(policy.key, value, lo, hi)
    ESPL_POLICY_LIST(X)
#undef X
    espl_config_free(&o);
}

static void reads_every_type(void **state) {
    (void)state;
    espl_config o = parsed("{\"model\": {\"path\": \"m\\u00e9 /\\\"x\\\\\"},\n"
                           " \"run\": {\"export\": false, \"seed\": 9007199254740991, \"max_minutes\": 1.5e2},\n"
                           " \"policy\": {\"weight_s\": -0.5}}");
    assert_string_equal(o.model_path, "m\xC3\xA9 /\"x\\");
    assert_false(o.run_export);
    assert_true(o.run_seed == 9007199254740991);
    assert_true(o.run_max_minutes == 150);
    assert_true(o.policy.weight_s == -0.5);
    assert_true(o.prune_target == 0.45); /* untouched */
    espl_config_free(&o);
}

static void comments_are_blanks(void **state) {
    (void)state;
    espl_config o = parsed("\xEF\xBB\xBF// head\n{/* a * / \" */ \"run\" /**/ : // x\r\n"
                           "{ \"dir\": \"a // b /* c */\", // last, \"seed\": 1\n /* \"seed\": 2, */ },}\n// tail");
    assert_string_equal(o.run_dir, "a // b /* c */");
    assert_true(o.run_seed == 0);
    espl_config_free(&o);
    o = parsed("{\"run\": {\"dir\": \"ends in a backslash\\\\\", \"keep\": /* 3 */ 4}}");
    assert_string_equal(o.run_dir, "ends in a backslash\\");
    assert_true(o.run_keep == 4);
    espl_config_free(&o);
    o = parsed(" {} ");
    espl_config_free(&o);
}

static void refuses_broken_json(void **state) {
    (void)state;
    refused("", "c.json:1: expected an object, { ... }, found the end of the file");
    refused("[]", "c.json:1: expected an object, { ... }, found a list");
    refused("{\n\"run\": {\n\"keep\": 1\n\"seed\": 2}}", "c.json:4: expected a comma or }, found \"seed\"");
    refused("{\"run\": {\"keep\" 1}}", "expected a colon after the name, found 1");
    refused("{\"run\": {keep: 1}}", "expected a name in quotes or }, found keep");
    refused("{\"run\": {\"keep\": 1}", "expected a comma or }, found the end of the file");
    refused("{\"run\": {,}}", "expected a name in quotes or }");
    refused("{\"run\": {\"keep\": 1,,}}", "expected a name in quotes or }");
    refused("{\"run\": {}} x", "expected the end of the file, found x");
    refused("{\"run\": {}}\n\n/* ", "c.json:3: the comment that begins here has no end");
    refused("{\"run\": {\"dir\":\n\"a\n\"}}", "c.json:2: the string that begins here does not end on its line");
    refused("{\"run\": {\"dir\": \"\\", "does not end on its line");
    refused("{\"run\": {\"dir\": \"\\x\"}}", "expected a text in quotes for run.dir");
    refused("{\"run\": {\"dir\": \"\\ud800\"}}", "expected a text in quotes for run.dir");
    refused("{\"run\": {\"dir\": \"a\\u0000b\"}}", "must not contain \\u0000");
    refused("{\"run\": {\"dir\": \"\xff\"}}", "not UTF-8");
    refused("{\"run\": 3}", "expected an object, { ... }, as a section, found 3");
    refused("{\"run\": /", "found /");
}

static void refuses_wrong_values(void **state) {
    (void)state;
    refused("{\n\"prune\": {\"target\": \"0.45\"}}",
            "c.json:2: prune.target is \"0.45\", expected a number from 0 to 1");
    refused("{\"prune\": {\"target\": 1.5}}", "prune.target is 1.5, expected a number from 0 to 1");
    refused("{\"prune\": {\"target\": 1e999}}", "prune.target is 1e999, expected a number from 0 to 1");
    refused("{\"prune\": {\"target\": nan}}", "expected a number from 0 to 1 for prune.target, found nan");
    refused("{\"prune\": {\"target\": 0.4.5}}", "found 0.4.5");
    refused("{\"run\": {\"keep\": 2.5}}", "run.keep is 2.5, expected an integer from 1 to 1000000");
    refused("{\"run\": {\"keep\": 0}}", "run.keep is 0, expected an integer from 1 to 1000000");
    refused("{\"run\": {\"seed\": 9007199254740993}}", "run.seed is 9007199254740993, expected");
    refused("{\"run\": {\"export\": 1}}", "run.export is 1, expected true or false");
    refused("{\"run\": {\"export\": truely}}", "expected true or false for run.export, found truely");
    refused("{\"run\": {\"dir\": null}}", "run.dir is null, expected a text in quotes");
    refused("{\"run\": {\"dir\": {}}}", "expected a text in quotes for run.dir, found an object");
    refused("{\"run\": {\"dir\": [1]}}", "expected a text in quotes for run.dir, found a list");
    refused("{\"prune\": {\"score\": \"wand\"}}", "prune.score is \"wand\", expected one of \"magnitude\", \"wanda\"");
    refused("{\"prune\": {\"score\": \"wanda|magnitude\"}}", "expected one of");
    refused("{\"prune\": {\"score\": \"\"}}", "expected one of");
}

static void suggests_names(void **state) {
    (void)state;
    refused("{\"prune\":\n{\"taregt\": 1}}", "c.json:2: prune.taregt: no such option; did you mean prune.target?");
    refused("{\"prun\": {}}", "prun: no such section; did you mean prune?");
    refused("{\"target\": 0.4}", "did you mean prune.target?");
    refused("{\"validation\": {\"forward\": 4}}", "did you mean calibration.forward?");
    refused("{\"validation\": {\"zzz\": 4}}", "validation has: text, window, windows");
    refused("{\"zzzzzzzz\": {}}", "sections are: model, run,");
    refused("{\"a\\u001b[2J\\n\": {}}", "a?[2J?: no such section");
    set_refused("agent.temprature=1", "--set: agent.temprature: no such option; did you mean agent.temperature?");
    set_refused("agnet.model=1", "did you mean agent.model?");
}

static void refuses_a_key_twice(void **state) {
    (void)state;
    refused("{\"run\": {\"keep\": 1,\n\n\"keep\": 1}}", "c.json:3: run.keep is given again, first on line 1");
    refused("{\"run\": {},\n\"run\": {}}", "c.json:2: run is given again, first on line 1");
}

static void hostile_sizes(void **state) {
    (void)state;
    static char text[1 << 16];
    espl_config o = defaults();
    memset(text, '{', sizeof text);
    assert_int_equal(espl_config_parse(text, sizeof text, "c.json", &o), ESPL_CONFIG);
    memset(text, 'a', sizeof text);
    memcpy(text, "{\"", 2);
    memcpy(text + sizeof text - 6, "\": {}}", 6);
    assert_int_equal(espl_config_parse(text, sizeof text, "c.json", &o), ESPL_CONFIG);
    assert_true(strlen(espl_base_error_text()) < 300);
    memcpy(text, "{\"run\": {\"keep\": ", 17);
    memset(text + 17, '1', sizeof text - 17);
    assert_int_equal(espl_config_parse(text, sizeof text, "c.json", &o), ESPL_CONFIG);
    espl_config_free(&o);
}

static void assigns(void **state) {
    (void)state;
    espl_config o = defaults();
    set(&o, "prune.target=0.5");
    set(&o, "run.dir=out/a=b \"c\"");
    set(&o, "model.path=\"quoted\\u0020\"");
    set(&o, "run.export=false");
    set(&o, "prune.score=magnitude");
    set(&o, "calibration.window= 64 ");
    assert_true(o.prune_target == 0.5 && !o.run_export && o.calibration_window == 64);
    assert_string_equal(o.run_dir, "out/a=b \"c\"");
    assert_string_equal(o.model_path, "quoted ");
    assert_int_equal(o.prune_score, ESPL_SCORE_MAGNITUDE);
    set(&o, "run.dir=");
    set(&o, "prune.target=0.6");
    assert_string_equal(o.run_dir, "");
    assert_true(o.prune_target == 0.6);
    espl_config_free(&o);
}

/* Numbers as shells and other programs write them. */
static void sets_numbers(void **state) {
    static const struct {
        const char *text;
        double value;
    } targets[] = {{".45", 0.45},   {"+.45", 0.45},  {"0.45", 0.45}, {"1.", 1},
                   {"45e-2", 0.45}, {".45e0", 0.45}, {"1.e-1", 0.1}};
    char assignment[64];
    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        espl_config o = defaults();
        snprintf(assignment, sizeof assignment, "prune.target=%s", targets[i].text);
        set(&o, assignment);
        assert_true(o.prune_target == targets[i].value);
        espl_config_free(&o);
    }
    espl_config o = defaults();
    set(&o, "run.seed=+7");
    set(&o, "prune.curvature_power=-.5");
    assert_true(o.run_seed == 7 && o.prune_curvature_power == -0.5);
    espl_config_free(&o);
    set_refused("prune.target=.", "expected a number from 0 to 1 for prune.target, found .");
    set_refused("prune.target=-", "found -");
    set_refused("prune.target=.4x", "found 0.4x");
    set_refused("prune.target=45%", "found 45%");
    refused("{\"prune\": {\"target\": .45}}", "expected a number"); /* JSON has no such number */
}

static void refuses_assignments(void **state) {
    (void)state;
    set_refused("prune.target", "expected section.key=value");
    set_refused("=", "expected section.key=value");
    set_refused("target=1", "did you mean prune.target?");
    set_refused("prune=1", "prune has: target, cap");
    set_refused("prune.target=", "expected a number from 0 to 1 for prune.target, found nothing");
    set_refused("prune.target=0.5 0.6", "found 0.6");
    set_refused("prune.milestones=0.2", "expected a list, [ ... ], of numbers from 0 to 1 for prune.milestones");
    set_refused("prune.milestones=[0.2 0.3]", "expected a comma or ]");
    set_refused("prune.milestones=[0.2, 3]", "prune.milestones is 3, expected a list");
    set_refused("prune.milestones=[0.2, \"0.3\"]", "prune.milestones is \"0.3\"");
    set_refused("prune.milestones=[0.2] 1", "expected nothing more");
    set_refused("prune.target=2", "prune.target is 2, expected a number from 0 to 1");
    set_refused("run.export=yes", "expected true or false for run.export, found yes");
    set_refused("prune.score=abc", "prune.score is abc, expected one of");
    set_refused("run.dir=\"open", "does not end on its line");
    set_refused("run.dir=\xC3", "not UTF-8");
}

/* The first choice of an option that is not its default. */
static const char *other_choice(const char *section, const char *key, int value) {
    const espl_choice *c = espl_option_find(section, key)->choices;
    return c->value == value ? c[1].name : c->name;
}

/* A configuration in which every option differs from its default. */
static espl_config everything_changed(void) {
    espl_config o = defaults();
    char assignment[256];
#define OTHER_TEXT(section, key, value, lo, hi) /* with all bytes that need care */                                    \
    snprintf(assignment, sizeof assignment, section "." key "=\xE4\xB8\xAD \t// \\ /* ' \x7F");
#define OTHER_CHOICE(section, key, value, lo, hi)                                                                      \
    snprintf(assignment, sizeof assignment, section "." key "=%s", other_choice(section, key, (int)(value)));
#define OTHER_INTEGER(section, key, value, lo, hi)                                                                     \
    snprintf(assignment, sizeof assignment, section "." key "=%lld", (long long)((value) == (lo) ? (hi) : (lo)));
#define OTHER_REAL(section, key, value, lo, hi)                                                                        \
    snprintf(assignment, sizeof assignment, section "." key "=%.17g", (lo) + ((hi) - (lo)) / 7.0);
#define OTHER_FLAG(section, key, value, lo, hi)                                                                        \
    snprintf(assignment, sizeof assignment, section "." key "=%s", (value) ? "false" : "true");
#define OTHER_NUMBERS(section, key, value, lo, hi)                                                                     \
    snprintf(assignment, sizeof assignment, section "." key "=[ %.17g ,%.17g]", (lo) + ((hi) - (lo)) / 7.0,            \
             (double)(hi));
#define X(type, section, key, value, lo, hi, resume, meaning)                                                          \
    OTHER_##type(#section, #key, value, lo, hi) set(&o, assignment);
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type, key, value, lo, hi, meaning) OTHER_REAL("policy", #key, value, lo, hi) set(&o, assignment);
    ESPL_POLICY_LIST(X)
#undef X
    return o;
}

static void same_values(const espl_config *a, const espl_config *b, bool differ) {
#define SAME_TEXT(key) assert_true((strcmp(a->key, b->key) != 0) == differ);
#define SAME_INTEGER(key) assert_true((a->key != b->key) == differ);
#define SAME_REAL(key) SAME_INTEGER(key)
#define SAME_CHOICE(key) SAME_INTEGER(key)
#define SAME_FLAG(key) SAME_INTEGER(key)
#define SAME_NUMBERS(key) SAME_TEXT(key)
#define X(type, section, key, value, lo, hi, resume, meaning) SAME_##type(section##_##key)
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type, key, value, lo, hi, meaning) SAME_REAL(policy.key)
    ESPL_POLICY_LIST(X)
#undef X
}

static void prints_what_reads_back(void **state) {
    (void)state;
    espl_config untouched = defaults(), changed = everything_changed();
    same_values(&untouched, &changed, true);
    for (int comments = 0; comments < 2; comments++) {
        espl_str text = {0}, again = {0};
        assert_int_equal(espl_config_print(&changed, comments ? ESPL_CONFIG_COMMENTED : ESPL_CONFIG_PLAIN, &text),
                         ESPL_OK);
        espl_config o = parsed(text.data);
        same_values(&changed, &o, false);
        assert_int_equal(espl_config_print(&o, comments ? ESPL_CONFIG_COMMENTED : ESPL_CONFIG_PLAIN, &again), ESPL_OK);
        assert_string_equal(text.data, again.data);
        assert_true((strstr(text.data, "sparsity of all prunable linears") != NULL) == comments);
        espl_str_free(&text);
        espl_str_free(&again);
        espl_config_free(&o);
    }
    espl_config_free(&untouched);
    espl_config_free(&changed);
}

/* ------------------------------------------------------------------ check */

static espl_config complete(void) {
    return parsed("{\"model\": {\"path\": \"m\"}, \"run\": {\"dir\": \"r\"}, \"calibration\": {\"text\": \"c\"},"
                  " \"validation\": {\"text\": \"v\"}}");
}

/* A complete configuration with this change fails, or, with words NULL, passes. */
static void check_with(const char *change, const char *second, const char *words) {
    espl_config o = complete();
    set(&o, change);
    set(&o, second);
    espl_status st = espl_config_check(&o);
    if (words) expect_words(st, change, words);
    if (!words && st != ESPL_OK) fail_msg("%s, %s -> %s", change, second, espl_base_error_text());
    espl_config_free(&o);
}

static void checks_between_options(void **state) {
    (void)state;
    const char *nothing = "run.seed=1";
    check_with(nothing, nothing, NULL);
    check_with("model.path=", nothing, "model.path is missing");
    check_with("run.dir=", nothing, "run.dir is missing");
    check_with("run.dir=m", nothing, "run.dir is model.path");
    check_with("checkpoint.hints=striping_factor=8, cb_nodes = 4", nothing, NULL);
    check_with("checkpoint.hints=cb_nodes", nothing, "checkpoint.hints: \"cb_nodes\" is no hint for MPI-IO");
    check_with("checkpoint.hints=cb_nodes=4,,a=b", nothing, "checkpoint.hints: \"\" is no hint");
    check_with("checkpoint.hints==4", nothing, "checkpoint.hints: \"=4\" is no hint");
    check_with("validation.text=", nothing, "validation.text is missing");
    bool bf16 = espl_arithmetic_check(ESPL_ARITHMETIC_BF16, "x") == ESPL_OK;
    check_with("compute.arithmetic=bf16", nothing, bf16 ? NULL : "compute.arithmetic is \"bf16\", but this");
    check_with("report.arithmetic=bf16", nothing, bf16 ? NULL : "report.arithmetic is \"bf16\", but this");
    check_with("calibration.text=", nothing, "calibration.text is missing");
    check_with("calibration.forward=0", nothing, "calibration.forward is 0, but prune.score \"wanda\" needs");
    check_with("calibration.forward=0", "prune.score=ria", "calibration.forward is 0, but prune.score \"ria\" needs");
    check_with("calibration.forward=0", "prune.score=magnitude", NULL);
    check_with("calibration.backward=0", "prune.score=curvature", "calibration.backward is 0, but prune.score");
    check_with("calibration.backward=0", nothing, NULL);
    check_with("prune.score=curvature", nothing, NULL);
    check_with("prune.score=curvature", "prune.pattern=row", NULL);
    check_with("prune.score=curvature", "prune.pattern=2:4", "prune.pattern is \"2:4\", but");
    check_with("prune.update=sparsegpt", nothing, NULL);
    check_with("prune.update=obs", "calibration.forward=1", "calibration.forward is 1, but prune.update \"obs\" needs");
    check_with("prune.update=reconstruct", "prune.damping=0", "update \"reconstruct\" with damping 0");
    check_with("prune.update=sparsegpt", "prune.damping=0", NULL);
    check_with("prune.update=obs", "prune.milestones=[0.1]", "prune.milestones: prune.update_when \"end\"");
    check_with("prune.score=rgs", nothing, "prune.score is \"rgs\", but");
    check_with("prune.allocation=global", nothing, "it goes with prune.score curvature");
    check_with("prune.allocation=search", "prune.score=rgs", "allocation \"search\" with score \"rgs\"");
    check_with("prune.allocation=owl", "prune.pattern=2:4", "allocation \"owl\" with pattern 2:4");
    check_with("prune.allocation=uniform", "prune.cap=0", "a one-shot method with target");
    check_with("prune.allocation=global", "prune.score=curvature", NULL);
    check_with("prune.ignore=*.up_proj", "prune.targets=*.up_proj,*.down_proj", NULL);
    check_with("prune.allocation=file", nothing, "prune.allocation_file is missing");
    check_with("prune.allocation=file", "prune.allocation_file=a.json", NULL);
    check_with("prune.allocation=owl", "prune.allocation_file=a.json",
               "goes with prune.allocation \"file\", not \"owl\"");
    check_with("prune.target=0.9", nothing, "prune.target is 0.9, but no linear may be pruned beyond prune.cap, 0.8");
    check_with("prune.target=0.8", nothing, NULL);
    check_with("prune.milestones=[0.1, 0.2]", nothing, NULL);
    check_with("prune.milestones=[0.2, 0.1]", nothing, "prune.milestones holds 0.1 after 0.2");
    check_with("prune.milestones=[0.1, 0.45]", "prune.target=0.45", "below prune.target, 0.45");
    check_with("prune.milestones=[0.1]", "prune.allocation=uniform", "prune.milestones: a one-shot method prunes once");
    check_with("prune.milestones=[0.1]", "prune.mixed=true",
               "prune.milestones: prune.mixed makes linears N:M for good");
    check_with("prune.milestones=[0.1]", "distill.passes=1", "prune.milestones: distill.passes trains the model");
    check_with("agent.backend=replay", nothing, "agent.replay is missing");
    check_with("agent.backend=replay", "agent.replay=d", NULL);
    check_with("agent.backend=openai", "agent.model=m", "agent.base_url is missing");
    check_with("agent.backend=openai", "agent.base_url=localhost:80", "expected http://... or https://...");
    check_with("agent.backend=openai", "agent.base_url=http://localhost", "agent.model is missing");
}

static void the_step_pattern_is_the_scores_unless_one_is_named(void **state) {
    static const struct {
        const char *score, *pattern;
        espl_group group;
    } cases[] = {{"wanda", "unstructured", ESPL_GROUP_ROW},       {"magnitude", "unstructured", ESPL_GROUP_ROW},
                 {"ria", "unstructured", ESPL_GROUP_ROW},         {"ria", "layer", ESPL_GROUP_LAYER},
                 {"curvature", "unstructured", ESPL_GROUP_LAYER}, {"curvature", "row", ESPL_GROUP_ROW}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        espl_config o = complete();
        char text[64];
        snprintf(text, sizeof text, "prune.score=%s", cases[i].score);
        set(&o, text);
        snprintf(text, sizeof text, "prune.pattern=%s", cases[i].pattern);
        set(&o, text);
        assert_int_equal(espl_config_step_pattern(&o).group, cases[i].group);
        espl_config_free(&o);
    }
}

static void names_missing_files(void **state) {
    (void)state;
    espl_config o = complete();
    set(&o, "model.path=/");
    set(&o, "calibration.text=/dev/null");
    set(&o, "validation.text=/no/such/file");
    assert_int_equal(espl_config_check_files(&o), ESPL_IO);
    assert_string_equal(espl_base_error_text(), "validation.text: /no/such/file: No such file or directory");
    set(&o, "validation.text=/dev/null");
    set(&o, "agent.replay=/no/such/file"); /* another backend's */
    assert_int_equal(espl_config_check_files(&o), ESPL_OK);
    set(&o, "agent.backend=replay");
    assert_int_equal(espl_config_check_files(&o), ESPL_IO);
    assert_int_equal(espl_config_read("/no/such/file", &o), ESPL_IO);
    espl_config_free(&o);
}

/* Every file of configs/ reads, and what must hold between its options does. */
static void shipped_configurations(void **state) {
    (void)state;
    char folder[512], path[1024];
    const char *root = getenv("ESPL_TEST_ROOT");
    int files = 0;
    snprintf(folder, sizeof folder, "%s/../configs", root ? root : "tests");
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        if (!strstr(e->d_name, ".json")) continue; /* configs/sweeps is test_sweep.c's */
        espl_config o = defaults();
        snprintf(path, sizeof path, "%s/%.255s", folder, e->d_name);
        if (espl_config_read(path, &o) != ESPL_OK || espl_config_check(&o) != ESPL_OK)
            fail_msg("%s: %s", path, espl_base_error_text());
        assert_true(o.prune_target == 0.45);
        espl_config_free(&o);
        files++;
    }
    closedir(d);
    assert_true(files >= 7);
}

static int no_leak(void **state) {
    (void)state;
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(defaults_are_allowed, no_leak),
        cmocka_unit_test_teardown(reads_every_type, no_leak),
        cmocka_unit_test_teardown(comments_are_blanks, no_leak),
        cmocka_unit_test_teardown(refuses_broken_json, no_leak),
        cmocka_unit_test_teardown(refuses_wrong_values, no_leak),
        cmocka_unit_test_teardown(suggests_names, no_leak),
        cmocka_unit_test_teardown(refuses_a_key_twice, no_leak),
        cmocka_unit_test_teardown(hostile_sizes, no_leak),
        cmocka_unit_test_teardown(assigns, no_leak),
        cmocka_unit_test_teardown(sets_numbers, no_leak),
        cmocka_unit_test_teardown(refuses_assignments, no_leak),
        cmocka_unit_test_teardown(prints_what_reads_back, no_leak),
        cmocka_unit_test_teardown(checks_between_options, no_leak),
        cmocka_unit_test_teardown(the_step_pattern_is_the_scores_unless_one_is_named, no_leak),
        cmocka_unit_test_teardown(names_missing_files, no_leak),
        cmocka_unit_test_teardown(shipped_configurations, no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
