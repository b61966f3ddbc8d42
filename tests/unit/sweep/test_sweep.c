/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeps: reading, expansion, names, configurations, and the states of run directories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "espalier/config/config.h"
#include "espalier/sweep.h"

static espl_sweep *parsed(const char *text) {
    espl_sweep *s;
    if (espl_sweep_parse(text, (int64_t)strlen(text), "s.json", &s) != ESPL_OK)
        fail_msg("%s\n-> %s", text, espl_base_error_text());
    return s;
}

/* The text is refused with a message that holds `words`. */
static void refused(const char *text, const char *words) {
    espl_sweep *s = NULL;
    espl_base_error_clear();
    espl_status st = espl_sweep_parse(text, (int64_t)strlen(text), "s.json", &s);
    if (st != ESPL_CONFIG || !strstr(espl_base_error_text(), words))
        fail_msg("%s\n-> %s: %s\nexpected: %s", text, espl_status_name(st), espl_base_error_text(), words);
    assert_null(s);
}

static void expect_names(const espl_sweep *s, const char *const *names, int64_t n) {
    assert_int_equal(espl_sweep_count(s), n);
    for (int64_t i = 0; i < n; i++) assert_string_equal(espl_sweep_name(s, i), names[i]);
}

static espl_config config_of(const espl_sweep *s, int64_t run) {
    espl_config o;
    assert_int_equal(espl_config_init(&o), ESPL_OK);
    if (espl_sweep_config(s, run, &o) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    return o;
}

/* -------------------------------------------------------------- expansion */

static void last_axis_varies_fastest(void **state) {
    (void)state;
    static const char *const names[] = {"a-wanda-target0.1-seed0",      "a-wanda-target0.1-seed1",
                                        "a-wanda-target0.25-seed0",     "a-wanda-target0.25-seed1",
                                        "a-magnitude-target0.1-seed0",  "a-magnitude-target0.1-seed1",
                                        "a-magnitude-target0.25-seed0", "a-magnitude-target0.25-seed1"};
    espl_sweep *s = parsed(
        "{\"dir\": \"d\", // x\n \"grid\": {\"prune.target\": [0.10, 2.5e-1], \"run.seed\": [0, 1,],},\n"
        "\"methods\": {\"wanda\": {\"prune.score\": \"wanda\"}, \"magnitude\": {\"prune.score\": \"magnitude\"}},"
        "\"models\": {\"a\": {\"model.path\": \"x\"}}}");
    expect_names(s, names, 8);
    espl_config o = config_of(s, 6);
    assert_int_equal(o.prune_score, ESPL_SCORE_MAGNITUDE);
    assert_true(o.prune_target == 0.25);
    assert_int_equal(o.run_seed, 0);
    assert_string_equal(o.model_path, "x");
    assert_string_equal(o.run_dir, "d/a-magnitude-target0.25-seed0");
    espl_config_free(&o);
    espl_sweep_free(&s);
    assert_null(s);
}

/* What a method fixes is not varied for it: no run is done twice under two names. */
static void a_choice_settles_later_axes(void **state) {
    (void)state;
    static const char *const names[] = {
        "agent-policy-target0.3", "agent-policy-target0.4", "agent-llm-target0.3", "agent-llm-target0.4", "dense",
        "fixed-target0.3",        "fixed-target0.4"};
    espl_sweep *s =
        parsed("{\"dir\": \"d\", \"methods\": {\"agent\": {}, \"dense\": {\"prune.target\": 0, "
               "\"agent.backend\": \"policy\"}, \"fixed\": {\"agent.backend\": \"policy\"}},"
               "\"agents\": {\"policy\": {\"agent.backend\": \"policy\"}, \"llm\": {\"agent.backend\": \"openai\", "
               "\"agent.base_url\": \"http://x\"}}, \"grid\": {\"prune.target\": [0.3, 0.4]}}");
    expect_names(s, names, 7);
    espl_config o = config_of(s, 4);
    assert_true(o.prune_target == 0);
    espl_config_free(&o);
    espl_sweep_free(&s);
}

static void names_are_plain(void **state) {
    (void)state;
    espl_sweep *s = parsed("{\"dir\": \"d\", \"methods\": {\"../ \\u00e9x:y\": {}}, "
                           "\"grid\": {\"prune.score\": [\"ria\"], \"run.export\": [false]}}");
    static const char *const names[] = {"_.____x_y-score.ria-export.false"}; /* the accented letter has two bytes */
    expect_names(s, names, 1);
    espl_sweep_free(&s);
    s = parsed("{\"dir\": \"d\"}");
    assert_int_equal(espl_sweep_count(s), 1);
    assert_string_equal(espl_sweep_name(s, 0), "run");
    espl_sweep_free(&s);
}

static void sets_over_everything(void **state) {
    (void)state;
    espl_sweep *s = parsed("{\"dir\": \"d\", \"set\": {\"run.keep\": 5, \"prune.cap\": 0.7}, "
                           "\"methods\": {\"m\": {\"prune.cap\": 0.6}}}");
    assert_int_equal(espl_sweep_set(s, "run.keep=7"), ESPL_OK);
    espl_config o = config_of(s, 0);
    assert_int_equal(o.run_keep, 7);
    assert_true(o.prune_cap == 0.6);
    espl_config_free(&o);
    static const char *const wrong[][2] = {{"prune.cap=0.5", "the sweep varies this option"},
                                           {"run.dir=x", "directory of its own"},
                                           {"run.kepe=1", "did you mean run.keep?"},
                                           {"run.keep=x", "expected an integer"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(espl_sweep_set(s, wrong[i][0]), ESPL_CONFIG);
        assert_non_null(strstr(espl_base_error_text(), wrong[i][1]));
    }
    espl_sweep_free(&s);
}

/* ---------------------------------------------------------------- refusal */

static void refuses_broken_files(void **state) {
    (void)state;
    refused("", "s.json:1: expected an object, { ... }, found the end of the file");
    refused("{}", "\"dir\" is missing");
    refused("{\"dir\": \"\"}", "dir: expected a text in quotes, not empty");
    refused("{\"dir\": 3}", "dir: expected a text in quotes");
    refused("{\"dir\": \"d\",\n\"dir\": \"e\"}", "s.json:2: dir is given twice");
    refused("{\"dir\": \"d\", \"grids\": {}}", "grids: a sweep has dir, base, set");
    refused("{\"dir\": \"d\", \"grid\": {\"prune.target\": 0.1}}", "expected a list of values");
    refused("{\"dir\": \"d\", \"grid\": {\"prune.target\": []}}", "prune.target has no value");
    refused("{\"dir\": \"d\", \"grid\": {\"prune.target\": [0.1 0.2]}}", "expected a comma or ]");
    refused("{\"dir\": \"d\",\n \"grid\": {\"prune.target\": [0.1,\n 1.2]}}", "s.json:3: prune.target is 1.2");
    refused("{\"dir\": \"d\", \"grid\": {\"prune.taget\": [1]}}", "did you mean prune.target?");
    refused("{\"dir\": \"d\", \"grid\": {\"prune\": {}}}", "expected an option, such as prune.target");
    refused("{\"dir\": \"d\", \"grid\": {\"run.dir\": [\"a\"]}}", "directory of its own");
    refused("{\"dir\": \"d\", \"grid\": {\"run.seed\": [1], \"run.seed\": [2]}}", "run.seed is given twice");
    refused("{\"dir\": \"d\", \"methods\": {}}", "methods is empty");
    refused("{\"dir\": \"d\", \"methods\": {\"\": {}}}", "a name must not be empty");
    refused("{\"dir\": \"d\", \"methods\": {\"a\": {}, \"a\": {}}}", "a is given twice");
    refused("{\"dir\": \"d\", \"methods\": {\"a\": {\"run.seed\": 1, \"run.seed\": 1}}}", "run.seed is given twice");
    refused("{\"dir\": \"d\", \"methods\": {\"a\": 3}}", "expected an object of options");
    refused("{\"dir\": \"d\", \"set\": {\"run.keep\": 0}}", "run.keep is 0, expected an integer from 1");
    refused("{\"dir\": \"d\"} x", "expected the end of the file");
}

static void refuses_equal_names(void **state) {
    (void)state;
    refused("{\"dir\": \"d\", \"grid\": {\"run.seed\": [1, 2, 1]}}", "runs 1 and 3 would both be called seed1");
    refused("{\"dir\": \"d\", \"methods\": {\"a b\": {}, \"a_b\": {}}}", "runs 1 and 2 would both be called a_b");
}

static void put_seeds(espl_str *s, const char *key, int n) {
    espl_str_printf(s, "\"%s\": [", key);
    for (int i = 1; i <= n; i++) espl_str_printf(s, "%d,", i);
    espl_str_puts(s, "],");
}

static void refuses_too_many(void **state) {
    (void)state;
    espl_str s = {0};
    espl_str_puts(&s, "{\"dir\": \"d\", \"grid\": {");
    put_seeds(&s, "run.seed", 101);
    put_seeds(&s, "run.keep", 100);
    espl_str_puts(&s, "}}");
    refused(s.data, "more than 10000 runs");
    espl_str_free(&s);
    espl_str_puts(&s, "{\"dir\": \"d\", \"methods\": {\"");
    for (int i = 0; i < 201; i++) espl_str_puts(&s, "m");
    espl_str_puts(&s, "\": {}}}");
    refused(s.data, "longer than 200 bytes");
    espl_str_free(&s);
}

static void checks_every_run(void **state) {
    (void)state;
    espl_sweep *s = parsed("{\"dir\": \"d\", \"set\": {\"model.path\": \"m\", \"validation.text\": \"v\", "
                           "\"calibration.text\": \"c\"}, \"grid\": {\"prune.target\": [0.1, 0.9]}}");
    assert_int_equal(espl_sweep_check(s), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "s.json: run 2, target0.9: prune.target is 0.9, but no linear"));
    espl_sweep_free(&s);
    s = parsed("{\"dir\": \"d\", \"base\": \"nowhere.json\"}");
    assert_int_equal(espl_sweep_check(s), ESPL_IO);
    assert_non_null(strstr(espl_base_error_text(), "nowhere.json"));
    espl_sweep_free(&s);
}

/* Reads and is possible, from the repository's top, where the paths of its configurations begin. */
static void shipped_sweep(void **state) {
    (void)state;
    char path[1024], before[1024];
    const char *root = getenv("ESPL_TEST_ROOT");
    assert_non_null(getcwd(before, sizeof before));
    snprintf(path, sizeof path, "%s/..", root ? root : "tests");
    assert_int_equal(chdir(path), 0);
    espl_sweep *s;
    if (espl_sweep_read("configs/sweeps/sapling.json", &s) != ESPL_OK || espl_sweep_check(s) != ESPL_OK)
        fail_msg("%s", espl_base_error_text());
    assert_int_equal(espl_sweep_count(s), 1 + 2 * 3 + 6 * 7 * 3);
    assert_string_equal(espl_sweep_name(s, 0), "dense");
    espl_sweep_free(&s);
    assert_int_equal(chdir(before), 0);
}

/* ---------------------------------------------------------------- merging */

static void targets_become_milestones(void **state) {
    (void)state;
    static const char *const names[] = {"agent-targets-seed1",
                                        "agent-targets-seed2",
                                        "wanda-target0.2-seed1",
                                        "wanda-target0.2-seed2",
                                        "wanda-target0.45-seed1",
                                        "wanda-target0.45-seed2",
                                        "wanda-target0.3-seed1",
                                        "wanda-target0.3-seed2",
                                        "own-seed1",
                                        "own-seed2"};
    espl_sweep *s = parsed("{\"dir\": \"d\", \"merge_targets\": true, \"methods\": {\"agent\": {}, \"wanda\": "
                           "{\"prune.allocation\": \"uniform\"}, \"own\": {\"prune.target\": 0.1}},"
                           "\"grid\": {\"prune.target\": [0.2, 0.45, 0.3], \"run.seed\": [1, 2]}}");
    assert_int_equal(espl_sweep_count(s), 14);
    assert_int_equal(espl_sweep_merge(s), ESPL_OK);
    assert_int_equal(espl_sweep_merge(s), ESPL_OK); /* changes nothing more */
    expect_names(s, names, 10);
    espl_config o = config_of(s, 1);
    assert_true(o.prune_target == 0.45 && o.run_seed == 2);
    assert_string_equal(o.prune_milestones, "0.2, 0.3");
    espl_config_free(&o);
    o = config_of(s, 6);
    assert_true(o.prune_target == 0.3);
    assert_string_equal(o.prune_milestones, "");
    espl_config_free(&o);
    espl_str list = {0};
    assert_int_equal(espl_sweep_list(s, &list), ESPL_OK);
    assert_non_null(strstr(list.data, "agent-targets-seed1, measured on the way at [0.2, 0.3]\n"));
    espl_str_free(&list);
    espl_sweep_free(&s);
}

static void merges_only_what_may_be(void **state) {
    (void)state;
    static const char grid[] = "{\"dir\": \"d\", %s \"grid\": {\"prune.target\": [0.2, 0.45]}}";
    static const struct {
        const char *members;
        int64_t runs;
    } table[] = {{"", 2},
                 {"\"merge_targets\": false,", 2},
                 {"\"merge_targets\": true,", 1},
                 {"\"merge_targets\": true, \"set\": {\"prune.mixed\": true},", 2},
                 {"\"merge_targets\": true, \"set\": {\"distill.passes\": 1},", 2},
                 {"\"merge_targets\": true, \"set\": {\"distill.steps\": 1},", 1}};
    char text[256];
    espl_sweep *s;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        snprintf(text, sizeof text, grid, table[i].members);
        s = parsed(text);
        assert_int_equal(espl_sweep_merge(s), ESPL_OK);
        assert_int_equal(espl_sweep_count(s), table[i].runs);
        espl_sweep_free(&s);
    }
    snprintf(text, sizeof text, grid, "\"merge_targets\": true, \"set\": {\"prune.milestones\": [0.1]},");
    s = parsed(text);
    assert_int_equal(espl_sweep_merge(s), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "cannot have its own prune.milestones"));
    espl_sweep_free(&s);
    s = parsed("{\"dir\": \"d\", \"merge_targets\": true, \"grid\": {\"prune.target\": [0.2, 0.45]}}");
    assert_int_equal(espl_sweep_set(s, "prune.mixed=true"), ESPL_OK); /* the command line counts, too */
    assert_int_equal(espl_sweep_merge(s), ESPL_OK);
    assert_int_equal(espl_sweep_count(s), 2);
    espl_sweep_free(&s);
    refused("{\"dir\": \"d\", \"merge_targets\": 1}", "merge_targets: expected true or false");
}

static void runs_share_the_dense_model(void **state) {
    (void)state;
    espl_sweep *s = parsed("{\"dir\": \"d\"}");
    espl_config o = config_of(s, 0);
    assert_string_equal(o.run_dense_cache, "d/.dense");
    espl_config_free(&o);
    espl_sweep_free(&s);
    s = parsed("{\"dir\": \"d\", \"set\": {\"run.dense_cache\": \"mine\"}}");
    o = config_of(s, 0);
    assert_string_equal(o.run_dense_cache, "mine");
    espl_config_free(&o);
    espl_sweep_free(&s);
}

/* ------------------------------------------------------------------ state */

static char dir[64];

static void put_file(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    *strrchr(path, '/') = '\0';
    assert_int_equal(espl_file_make_directory(path), ESPL_OK);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(espl_file_replace(path, text, (int64_t)strlen(text)), ESPL_OK);
}

static void expect_state(const espl_sweep *s, int64_t run, espl_sweep_state wanted, const char *words) {
    espl_sweep_state is;
    espl_str note = {0};
    assert_int_equal(espl_sweep_state_of(s, run, &is, &note), ESPL_OK);
    assert_string_equal(espl_sweep_state_name(is), espl_sweep_state_name(wanted));
    if (*words) assert_non_null(strstr(note.data ? note.data : "", words));
    espl_str_free(&note);
}

static void expect_unfinished(const espl_sweep *s, const char *numbers) {
    espl_str text = {0};
    assert_int_equal(espl_sweep_unfinished(s, &text), ESPL_OK);
    assert_string_equal(text.data ? text.data : "", numbers);
    espl_str_free(&text);
}

static void states_stand_in_directories(void **state) {
    (void)state;
    char text[256];
    snprintf(text, sizeof text, "{\"dir\": \"%s\", \"grid\": {\"run.seed\": [1, 2, 3, 4, 5, 6, 7]}}", dir);
    espl_sweep *s = parsed(text);
    expect_unfinished(s, "1-7");
    put_file("seed2/summary.json", "{\"end\": \"one shot\"}");
    put_file("seed2/manifest.json", "{\"config\": {\"run\": {\"seed\": 2, \"dir\": \"elsewhere\", \"keep\": 9}}}");
    put_file("seed3/checkpoints/iteration-000001.h5", "");
    put_file("seed3/manifest.json", "{\"config\": {\"run\": {\"seed\": 3}}}");
    put_file("seed4/sweep.json", "{\"state\": \"failed\", \"message\": \"no such file\"}");
    put_file("seed5/checkpoints/iteration-000001.h5", "");
    put_file("seed5/sweep.json", "{\"state\": \"under way\", \"message\": \"host h\"}");
    put_file("seed6/summary.json", "{\"end\": \"one shot\"}");
    put_file("seed7/summary.json", "{\"end\""); /* damaged: says nothing */
    put_file("seed6/manifest.json", "{\"config\": {\"run\": {\"seed\": 6}, \"prune\": {\"cap\": 0.5}}}");
    put_file("seed7/sweep.json", "{\"state\": \"stopped\", ");
    expect_state(s, 0, ESPL_SWEEP_NEW, "");
    expect_state(s, 1, ESPL_SWEEP_FINISHED, "");
    expect_state(s, 2, ESPL_SWEEP_RESUMABLE, "");
    expect_state(s, 3, ESPL_SWEEP_FAILED, "no such file");
    expect_state(s, 4, ESPL_SWEEP_RESUMABLE, "under way (host h)");
    expect_state(s, 5, ESPL_SWEEP_DIFFERS, "begun with another prune.cap");
    expect_state(s, 6, ESPL_SWEEP_NEW, "");
    expect_unfinished(s, "1,3-5,7");
    espl_str list = {0};
    assert_int_equal(espl_sweep_list(s, &list), ESPL_OK);
    assert_non_null(strstr(list.data, "    4  failed     seed4: no such file\n"));
    assert_non_null(strstr(list.data, "7 runs: 1 finished, 2 resumable, 1 failed, 1 differs, 2 new\n"));
    espl_str_free(&list);
    espl_sweep_free(&s);
}

static int make_directory(void **state) {
    (void)state;
    strcpy(dir, "/tmp/espl-sweep-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command); /* NOLINT(cert-env33-c): a name of mkdtemp's */
}

static int no_leak(void **state) {
    (void)state;
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_axis_varies_fastest),
        cmocka_unit_test(a_choice_settles_later_axes),
        cmocka_unit_test(names_are_plain),
        cmocka_unit_test(sets_over_everything),
        cmocka_unit_test(refuses_broken_files),
        cmocka_unit_test(refuses_equal_names),
        cmocka_unit_test(targets_become_milestones),
        cmocka_unit_test(merges_only_what_may_be),
        cmocka_unit_test(runs_share_the_dense_model),
        cmocka_unit_test(refuses_too_many),
        cmocka_unit_test(checks_every_run),
        cmocka_unit_test(shipped_sweep),
        cmocka_unit_test_setup_teardown(states_stand_in_directories, make_directory, remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
