/* What must hold between options, and whether the files named are there. */
#include "espalier/config/table.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "espalier/methods/options.h"

/* Does this score need activations? */
static bool needs_activations(const char *name) {
    espl_score score;
    return espl_score_parse(name, &score) && espl_score_needs_activations(score);
}

static espl_status check_given(const char *value, const char *key, const char *why) {
    return *value ? ESPL_OK : ESPL_FAIL(ESPL_CONFIG, "%s is missing: %s", key, why);
}

static espl_status check_calibration(const espl_config *o) {
    if (o->calibration_forward > 0 || o->calibration_backward > 0)
        ESPL_TRY(check_given(o->calibration_text, "calibration.text", "the text that profiles are measured on"));
    if (o->calibration_forward == 0 && needs_activations(o->prune_score))
        return ESPL_FAIL(ESPL_CONFIG,
                         "calibration.forward is 0, but prune.score \"%s\" needs activations: at least 1 window",
                         o->prune_score);
    return ESPL_OK;
}

/* N:M is the agent's choice, and takes half of a linear. */
static espl_status check_mixed(const espl_config *o) {
    if (!o->prune_mixed) return ESPL_OK;
    if (espl_config_is_oneshot(o))
        return ESPL_FAIL(ESPL_CONFIG, "prune.mixed goes with prune.allocation \"agent\", not \"%s\"",
                         o->prune_allocation);
    if (o->prune_cap < ESPL_PATTERN_CHOICE_SPARSITY)
        return ESPL_FAIL(ESPL_CONFIG, "prune.cap is %g, but prune.mixed lets linears become N:M: at least %g",
                         o->prune_cap, ESPL_PATTERN_CHOICE_SPARSITY);
    return ESPL_OK;
}

/* The agent removes weights step by step, by scores that one calibration pass gives. */
static espl_status check_method(const espl_config *o) {
    espl_method_options p;
    ESPL_TRY(espl_config_method(o, &p));
    if (espl_config_is_oneshot(o)) {
        if (o->calibration_forward < 1)
            return ESPL_FAIL(ESPL_CONFIG,
                             "calibration.forward is 0, but prune.allocation \"%s\" needs windows to go "
                             "through the blocks: at least 1",
                             o->prune_allocation);
        return ESPL_OK;
    }
    if (p.update != ESPL_UPDATE_NONE || strcmp(o->prune_pattern, "unstructured") != 0 ||
        espl_score_needs_gradients(p.score))
        return ESPL_FAIL(ESPL_CONFIG,
                         "prune.allocation \"agent\" goes with prune.update none, prune.pattern unstructured "
                         "and prune.score wanda, magnitude or ria: not with update %s, pattern %s and score %s",
                         o->prune_update, o->prune_pattern, o->prune_score);
    return ESPL_OK;
}

static espl_status check_goal(const espl_config *o) {
    ESPL_TRY(check_method(o));
    ESPL_TRY(check_mixed(o));
    if (o->prune_target > o->prune_cap)
        return ESPL_FAIL(ESPL_CONFIG, "prune.target is %g, but no linear may be pruned beyond prune.cap, %g",
                         o->prune_target, o->prune_cap);
    return ESPL_OK;
}

static bool is_backend(const espl_config *o, espl_agent_backend b) {
    return strcmp(o->agent_backend, espl_agent_backend_name(b)) == 0;
}

static espl_status check_agent(const espl_config *o) {
    const char *url = o->agent_base_url;
    if (is_backend(o, ESPL_BACKEND_REPLAY))
        return check_given(o->agent_replay, "agent.replay", "the dialogue.jsonl that backend \"replay\" replays");
    if (!is_backend(o, ESPL_BACKEND_OPENAI)) return ESPL_OK;
    ESPL_TRY(check_given(url, "agent.base_url", "backend \"openai\" needs one, such as http://127.0.0.1:8000/v1"));
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return ESPL_FAIL(ESPL_CONFIG, "agent.base_url is \"%s\", expected http://... or https://...", url);
    return check_given(o->agent_model, "agent.model", "the endpoint's name of the model to ask");
}

espl_status espl_config_check(const espl_config *o) {
    ESPL_TRY(check_given(o->model_path, "model.path", "the directory of the model to prune"));
    ESPL_TRY(check_given(o->run_dir, "run.dir", "the directory that the run writes to"));
    if (strcmp(o->run_dir, o->model_path) == 0)
        return ESPL_FAIL(ESPL_CONFIG, "run.dir is model.path, \"%s\": the run needs a directory of its own",
                         o->run_dir);
    ESPL_TRY(check_given(o->validation_text, "validation.text", "without it no iteration can be judged"));
    ESPL_TRY(check_calibration(o));
    ESPL_TRY(check_goal(o));
    return check_agent(o);
}

static espl_status check_readable(const char *path, const char *key) {
    if (!*path || access(path, R_OK) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: %s: %s", key, path, strerror(errno));
}

espl_status espl_config_files(const espl_config *o) {
    ESPL_TRY(check_readable(o->model_path, "model.path"));
    ESPL_TRY(check_readable(o->calibration_text, "calibration.text"));
    ESPL_TRY(check_readable(o->validation_text, "validation.text"));
    ESPL_TRY(check_readable(o->probes_mmlu, "probes.mmlu"));
    ESPL_TRY(check_readable(o->probes_freebaseqa, "probes.freebaseqa"));
    ESPL_TRY(check_readable(o->probes_freebaseqa_examples, "probes.freebaseqa_examples"));
    ESPL_TRY(check_readable(o->report_text, "report.text"));
    ESPL_TRY(check_readable(o->report_mmlu, "report.mmlu"));
    ESPL_TRY(check_readable(o->report_freebaseqa, "report.freebaseqa"));
    if (is_backend(o, ESPL_BACKEND_REPLAY)) return check_readable(o->agent_replay, "agent.replay");
    if (is_backend(o, ESPL_BACKEND_OPENAI)) return check_readable(o->agent_ca_file, "agent.ca_file");
    return ESPL_OK;
}
