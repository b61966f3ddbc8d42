/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks that no single row of the table can make: options against each other, and files. Whatever is refused here
 * would otherwise fail after minutes or hours of computing.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/base/memory.h"
#include "espalier/config/table.h"
#include "espalier/model/locate.h"

/* -------------------------------------------------------- between options */

static espl_status config_require(const char *value, const char *key, const char *why) {
    return *value ? ESPL_OK : ESPL_FAIL(ESPL_CONFIG, "%s is missing: %s", key, why);
}

/* A method that is given no windows would divide by zero tokens, or order weights by zeros. */
static espl_status config_check_calibration(const espl_config *o) {
    if (o->calibration_forward > 0 || o->calibration_backward > 0)
        ESPL_TRY(config_require(o->calibration_text, "calibration.text", "profiles are measured on this text"));
    if (o->calibration_forward == 0 && espl_score_needs_activations(o->prune_score))
        return ESPL_FAIL(ESPL_CONFIG,
                         "calibration.forward is 0, but prune.score \"%s\" needs activations: set at least 1 window",
                         espl_score_name(o->prune_score));
    if (o->calibration_forward == 0 && espl_config_is_oneshot(o))
        return ESPL_FAIL(
            ESPL_CONFIG,
            "calibration.forward is 0, but prune.allocation \"%s\" runs calibration windows through the model: set at "
            "least 1 window",
            espl_allocation_name(o->prune_allocation));
    int64_t least = espl_update_holds_out(o->prune_update) ? 2 : 1; /* one to learn from, one to choose by */
    if (o->prune_update != ESPL_UPDATE_NONE && o->calibration_forward < least)
        return ESPL_FAIL(ESPL_CONFIG,
                         "calibration.forward is %" PRId64 ", but prune.update \"%s\" needs at least %" PRId64
                         " calibration windows",
                         o->calibration_forward, espl_update_name(o->prune_update), least);
    if (o->calibration_backward == 0 && espl_score_needs_outputs(o->prune_score))
        return ESPL_FAIL(ESPL_CONFIG,
                         "calibration.backward is 0, but prune.score \"%s\" needs gradients: set at least 1 window",
                         espl_score_name(o->prune_score));
    return ESPL_OK;
}

static espl_status config_check_goal(const espl_config *o) {
    espl_method_options p;
    ESPL_TRY(espl_config_method(o, &p));
    if (!espl_config_is_oneshot(o)) {
        /* The agent removes weights in many small steps, by scores that one calibration pass gives. */
        const char *agent = "prune.allocation \"agent\" prunes in steps";
        if (espl_pattern_is_n_m(p.pattern))
            return ESPL_FAIL(ESPL_CONFIG, "prune.pattern is \"%s\", but %s: use unstructured or row, or prune.mixed",
                             o->prune_pattern, agent);
        if (espl_score_needs_gradients(p.score))
            return ESPL_FAIL(ESPL_CONFIG,
                             "prune.score is \"%s\", but %s: use a score without gradients of single weights",
                             espl_score_name(p.score), agent);
    }
    if (p.allocation == ESPL_ALLOCATION_GLOBAL &&
        (!espl_score_needs_outputs(p.score) || p.pattern.group != ESPL_GROUP_LAYER))
        return ESPL_FAIL(ESPL_CONFIG,
                         "prune.allocation \"global\" compares the weights of all linears: it goes with prune.score "
                         "curvature and prune.pattern unstructured or layer, not with score %s and pattern %s",
                         espl_score_name(p.score), o->prune_pattern);
    if (p.allocation == ESPL_ALLOCATION_GIVEN && (*o->prune_targets || *o->prune_ignore || *o->prune_caps))
        return ESPL_FAIL(ESPL_CONFIG, "prune.allocation \"file\" says what each linear loses: it does not go with "
                                      "prune.targets, prune.ignore or prune.caps");
    if (espl_pattern_is_n_m(p.pattern) && *o->prune_caps)
        return ESPL_FAIL(ESPL_CONFIG,
                         "prune.caps with prune.pattern %s, which fixes the sparsity: prune.ignore leaves "
                         "linears out",
                         o->prune_pattern);
    if (p.allocation == ESPL_ALLOCATION_GIVEN)
        ESPL_TRY(config_require(o->prune_allocation_file, "prune.allocation_file",
                                "prune.allocation \"file\" reads sparsities by linear from it"));
    else if (*o->prune_allocation_file)
        return ESPL_FAIL(ESPL_CONFIG, "prune.allocation_file goes with prune.allocation \"file\", not \"%s\"",
                         espl_allocation_name(p.allocation));
    if (espl_config_is_oneshot(o) || espl_config_updates_masked(o)) ESPL_TRY(espl_method_check(&p));
    if (o->prune_regrow && (espl_config_is_oneshot(o) || o->prune_score != ESPL_SCORE_CURVATURE ||
                            espl_config_step_pattern(o).group != ESPL_GROUP_LAYER))
        return ESPL_FAIL(ESPL_CONFIG,
                         "prune.regrow chooses masks of whole linears anew: it goes with prune.allocation \"agent\", "
                         "prune.score \"curvature\" and prune.pattern unstructured or layer");
    if (espl_config_distills(o) && o->distill_windows == 0 && o->calibration_forward == 0 &&
        o->calibration_backward == 0)
        return ESPL_FAIL(ESPL_CONFIG, "section distill needs calibration windows: set distill.windows, "
                                      "calibration.forward or calibration.backward");
    if (o->prune_mixed && espl_config_is_oneshot(o))
        return ESPL_FAIL(ESPL_CONFIG, "prune.mixed goes with prune.allocation \"agent\", not \"%s\"",
                         espl_allocation_name(o->prune_allocation));
    if (o->prune_mixed && o->prune_cap < ESPL_PATTERN_CHOICE_SPARSITY)
        return ESPL_FAIL(ESPL_CONFIG, "prune.cap is %g, but an N:M linear of prune.mixed has sparsity %g", o->prune_cap,
                         ESPL_PATTERN_CHOICE_SPARSITY);
    if (o->prune_target > o->prune_cap && !*o->prune_caps)
        return ESPL_FAIL(ESPL_CONFIG, "prune.target is %g, but no linear may be pruned beyond prune.cap, %g",
                         o->prune_target, o->prune_cap);
    return ESPL_OK;
}

static espl_status config_check_milestones(const espl_config *o) {
    const char *why = espl_config_refuses_milestones(o);
    double *at, before = 0;
    int64_t n;
    ESPL_TRY(espl_config_milestones(o, &at, &n));
    espl_status st = ESPL_OK;
    if (n > 0 && why) st = ESPL_FAIL(ESPL_CONFIG, "prune.milestones: %s", why);
    for (int64_t i = 0; i < n && st == ESPL_OK; i++) {
        if (!(at[i] > before && at[i] < o->prune_target))
            st = ESPL_FAIL(ESPL_CONFIG,
                           "prune.milestones holds %g after %g, expected rising numbers below prune.target, %g", at[i],
                           before, o->prune_target);
        before = at[i];
    }
    espl_mem_free(&at);
    return st;
}

/* A key where its variable's name belongs is not printed, and must not reach the manifest. Names of variables are words
 * in capitals; another word is taken for a name only if there is such a variable. */
static espl_status config_check_key_name(const char *name) {
    bool word = true, capitals = true;
    for (const char *c = name; *c; c++) {
        word = word && (isalnum((unsigned char)*c) || *c == '_');
        capitals = capitals && !islower((unsigned char)*c);
    }
    if (word && (capitals || getenv(name))) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG,
                     "agent.api_key_env must be the name of an environment variable that holds the key; it "
                     "is not shown here, in case it is the key itself");
}

/* A URL with a password or key in it is not printed either. */
static espl_status config_check_url(const char *url) {
    if (espl_agent_url_holds_secret(url))
        return ESPL_FAIL(ESPL_CONFIG,
                         "agent.base_url must not hold a user, password or key, and is not shown here: name "
                         "the variable that holds the key (agent.api_key_env)");
    if (!*url || strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "agent.base_url is \"%s\", expected http://... or https://...", url);
}

static espl_status config_check_agent(const espl_config *o) {
    const char *url = o->agent_base_url;
    /* Whatever decides: both end in the manifest. */
    ESPL_TRY(config_check_key_name(o->agent_api_key_env));
    ESPL_TRY(config_check_url(url));
    if (o->agent_backend == ESPL_BACKEND_REPLAY)
        return config_require(o->agent_replay, "agent.replay", "backend \"replay\" replays this dialogue.jsonl");
    if (o->agent_backend == ESPL_BACKEND_LOCAL)
        return config_require(o->agent_model_path, "agent.model_path",
                              "backend \"local\" needs the directory of a model, or \"self\"");
    if (o->agent_backend != ESPL_BACKEND_OPENAI) return ESPL_OK;
    ESPL_TRY(config_require(url, "agent.base_url", "backend \"openai\" needs it, such as http://127.0.0.1:8000/v1"));
    return config_require(o->agent_model, "agent.model", "the endpoint must be told which model to ask");
}

espl_status espl_config_check(const espl_config *o) {
    ESPL_TRY(config_require(o->model_path, "model.path", "the directory of the model to prune"));
    ESPL_TRY(config_require(o->run_dir, "run.dir", "the directory that the run writes to"));
    if (strcmp(o->run_dir, o->model_path) == 0)
        return ESPL_FAIL(ESPL_CONFIG, "run.dir is model.path, \"%s\": the run needs a directory of its own",
                         o->run_dir);
    if (espl_comm_hints_check(o->checkpoint_hints) != ESPL_OK)
        return ESPL_FAIL(ESPL_CONFIG, "checkpoint.hints: %s", espl_base_error_text());
    ESPL_TRY(config_require(o->validation_text, "validation.text", "iterations are judged on this text"));
    ESPL_TRY(espl_arithmetic_check(o->compute_arithmetic, "compute.arithmetic"));
    ESPL_TRY(espl_arithmetic_check(o->report_arithmetic, "report.arithmetic"));
    ESPL_TRY(config_check_calibration(o));
    ESPL_TRY(config_check_goal(o));
    ESPL_TRY(config_check_milestones(o));
    return config_check_agent(o);
}

/* ----------------------------------------------------------------- files */

static bool config_has_agent_model(const espl_config *o) {
    return o->agent_backend == ESPL_BACKEND_LOCAL && strcmp(o->agent_model_path, "self") != 0;
}

/* Replaces *path, a directory or the name of a model on the hub, by its directory. */
static espl_status config_locate(const char *key, char **path) {
    espl_str dir = {0};
    espl_status st = espl_model_locate(*path, &dir);
    if (st == ESPL_OK) {
        espl_mem_free(path);
        *path = dir.data;
    } else {
        espl_str_free(&dir);
        st = ESPL_FAIL(st, "%s: %s", key, espl_base_error_text());
    }
    return st;
}

espl_status espl_config_locate_model(espl_config *o) {
    ESPL_TRY(config_locate("model.path", &o->model_path));
    return config_has_agent_model(o) ? config_locate("agent.model_path", &o->agent_model_path) : ESPL_OK;
}

/* Every option that names a file or a directory to read. */
static const int path_options[] = {ESPL_OPTION_OF_model_path,        ESPL_OPTION_OF_calibration_text,
                                   ESPL_OPTION_OF_validation_text,   ESPL_OPTION_OF_probes_mmlu,
                                   ESPL_OPTION_OF_probes_freebaseqa, ESPL_OPTION_OF_probes_freebaseqa_examples,
                                   ESPL_OPTION_OF_report_text,       ESPL_OPTION_OF_report_mmlu,
                                   ESPL_OPTION_OF_report_freebaseqa, ESPL_OPTION_OF_prune_allocation_file,
                                   ESPL_OPTION_OF_agent_model_path,  ESPL_OPTION_OF_agent_prompt_file,
                                   ESPL_OPTION_OF_agent_replay,      ESPL_OPTION_OF_agent_ca_file};

bool espl_option_is_path(const espl_option *row) {
    for (size_t i = 0; i < sizeof path_options / sizeof *path_options; i++)
        if (row == &espl_option_table[path_options[i]]) return true;
    return false;
}

/* Files of a backend that is not in use are not asked for. */
static bool config_uses_path(const espl_config *o, int option) {
    switch (option) {
    case ESPL_OPTION_OF_prune_allocation_file:
        return o->prune_allocation == ESPL_ALLOCATION_GIVEN;
    case ESPL_OPTION_OF_agent_model_path:
        return config_has_agent_model(o);
    case ESPL_OPTION_OF_agent_replay:
        return o->agent_backend == ESPL_BACKEND_REPLAY;
    case ESPL_OPTION_OF_agent_ca_file:
        return o->agent_backend == ESPL_BACKEND_OPENAI;
    default:
        return true;
    }
}

/* Readable now does not mean readable later, but it finds the usual mistakes: a wrong directory, a missing download. */
espl_status espl_config_check_files(const espl_config *o) {
    for (size_t i = 0; i < sizeof path_options / sizeof *path_options; i++) {
        const espl_option *row = &espl_option_table[path_options[i]];
        const char *path = *(char *const *)(const void *)((const char *)o + row->offset);
        if (config_uses_path(o, path_options[i]) && *path && access(path, R_OK) != 0)
            return ESPL_FAIL(ESPL_IO, "%s.%s: %s: %s", row->section, row->key, path, strerror(errno));
    }
    const char *variable = o->agent_backend == ESPL_BACKEND_OPENAI ? o->agent_api_key_env : "";
    const char *key = *variable ? getenv(variable) : "";
    if (*variable && (!key || !*key))
        return ESPL_FAIL(
            ESPL_CONFIG,
            "agent.api_key_env: the environment variable that it names is %s: set it to the endpoint's key",
            key ? "empty" : "not set"); /* a name that might be the key is not shown */
    return ESPL_OK;
}
