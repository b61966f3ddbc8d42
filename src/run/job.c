/* The job from its first to its last line. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum { SUMMARY_BYTES = 1 << 26 };

espl_status espl_job_path(const job *j, const char *name, espl_str *s) {
    espl_str_printf(s, "%s/%s", j->o->run_dir, name);
    return espl_str_status(s);
}

double espl_job_sparsity(const job *j, int64_t pruned) { return (double)pruned / (double)j->weights; }

double espl_job_sparsity_of_model(const job *j, int64_t pruned) {
    return (double)pruned / (double)espl_model_parameters(&j->config);
}

/* ---------------------------------------------------------------- opening */

static bool exists(const job *j, const char *name) {
    espl_str path = {0};
    bool there = espl_job_path(j, name, &path) == ESPL_OK && espl_file_exists(path.data);
    espl_str_free(&path);
    return there;
}

/* The sign of an earlier stop; a file "stop" that is there already counts. */
static espl_status remove_stopped(const job *j) {
    espl_str path = {0};
    if (!exists(j, "stopped")) return ESPL_OK;
    espl_status st = espl_job_path(j, "stopped", &path);
    if (st == ESPL_OK && remove(path.data) != 0) st = ESPL_FAIL(ESPL_IO, "%s: cannot be removed", path.data);
    espl_str_free(&path);
    return st;
}

bool espl_run_summary_reads(const char *path) {
    cJSON *summary = NULL;
    bool good = espl_json_read(path, SUMMARY_BYTES, &summary) == ESPL_OK && cJSON_IsObject(summary) && summary->child;
    espl_json_free(&summary);
    return good;
}

static bool finished_before(const job *j) {
    espl_str path = {0};
    bool there = exists(j, "summary.json") && espl_job_path(j, "summary.json", &path) == ESPL_OK;
    bool good = there && espl_run_summary_reads(path.data);
    if (there && !good) ESPL_INFO("note: %s is damaged: the run's end is done again", path.data);
    espl_str_free(&path);
    return good;
}

/* A directory with another run in it is not touched unless that run is to be continued. */
static espl_status open_directory(const job *j, bool resume, bool *finished) {
    *finished = false;
    ESPL_TRY(espl_file_make_directory(j->o->run_dir));
    if (resume) {
        *finished = finished_before(j);
        return *finished ? ESPL_OK : remove_stopped(j);
    }
    if (exists(j, "events.jsonl") || exists(j, "checkpoints"))
        return ESPL_FAIL(ESPL_CONFIG,
                         "run.dir: %s holds a run already: --resume continues it, or choose another directory",
                         j->o->run_dir);
    return ESPL_OK;
}

static espl_status open_journal(job *j) {
    espl_str path = {0};
    espl_status st = espl_job_path(j, "events.jsonl", &path);
    if (st == ESPL_OK) st = espl_journal_open(&j->events, path.data, j->iteration);
    espl_str_free(&path);
    return st;
}

static void set_shape(job *j) {
    j->shape = espl_run_checkpoint_shape(&j->config, espl_model_slice(j->m));
    j->linears = j->config.layers * ESPL_LINEAR_KINDS;
    j->weights = j->config.layers * espl_model_layer_linear_weights(&j->config);
}

static espl_status open_masks(job *j) {
    ESPL_TRY(espl_mem_alloc(&j->rows, j->linears, sizeof *j->rows, "profile"));
    ESPL_TRY(espl_mem_alloc(&j->patterns, j->linears, sizeof *j->patterns, "patterns"));
    return espl_masks_create(&j->masks, j->m, j->o->prune_update != ESPL_UPDATE_NONE);
}

static espl_status open_model(job *j) {
    espl_model_options mo = espl_data_model_options(j, espl_comm_size(j->c));
    ESPL_TRY(espl_model_open(j->c, j->o->model_path, &mo, &j->m));
    set_shape(j);
    return espl_comm_agree(j->c, open_masks(j));
}

espl_status espl_job_remember(job *j, espl_outcome *o) {
    ESPL_TRY(espl_mem_resize(&j->history, j->n_history + 1, sizeof *j->history, "history"));
    j->history[j->n_history++] = *o;
    o->decision = (espl_decision){0};
    return ESPL_OK;
}

static void note_window(const job *j, const char *section, int64_t window) {
    if (j->config.max_positions > 0 && window > j->config.max_positions)
        ESPL_INFO("note: %s.window is %lld, but the model was made for at most %lld tokens (max_position_embeddings)",
                  section, (long long)window, (long long)j->config.max_positions);
}

espl_status espl_job_inputs(job *j) {
    ESPL_TRY(espl_comm_agree(j->c, espl_model_config_read(j->o->model_path, &j->config)));
    ESPL_TRY(espl_comm_agree(j->c, j->root ? espl_tokenizer_open(j->o->model_path, &j->t) : ESPL_OK));
    note_window(j, "calibration", j->o->calibration_window);
    note_window(j, "validation", j->o->validation_window);
    if (*j->o->report_text) note_window(j, "report", j->o->report_window);
    return espl_data_read(j);
}

/* ------------------------------------------------------------------ agent */

static bool cancelled(void *arg) {
    (void)arg;
    return espl_stop_signalled();
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* Rank 0 only. `dialogue` is where the record goes; what it holds beyond `keep` iterations is cut off. */
static espl_status make_agent(job *j, const char *dialogue, int64_t keep) {
    const espl_config *o = j->o;
    espl_agent_options a;
    espl_agent_options_init(&a);
#define X(type, section, key, value, lo, hi, resume, meaning) a.key = o->agent_##key;
    ESPL_AGENT_OPTION_LIST(X)
#undef X
    a.model_name = base_name(o->model_path);
    a.dialogue_path = dialogue;
    a.keep_iterations = keep;
    a.policy = o->policy;
    a.cancelled = cancelled;
    return espl_agent_create(&j->agent, &a);
}

/* The agent's state is read from the checkpoint, and the checkpoint says how much of the record stands: so a resumed
 * run opens its record last. */
static espl_status open_agent(job *j) {
    espl_str dialogue = {0}, state = {0};
    espl_status st = espl_job_path(j, "dialogue.jsonl", &dialogue);
    if (st == ESPL_OK && j->agent) st = espl_agent_state_save(j->agent, &state);
    espl_agent_destroy(&j->agent);
    if (st == ESPL_OK) st = make_agent(j, dialogue.data, j->iteration);
    if (st == ESPL_OK && state.len > 0) st = espl_agent_state_restore(j->agent, state.data, state.len);
    espl_str_free(&dialogue);
    espl_str_free(&state);
    return st;
}

/* ---------------------------------------------------------------- running */

static espl_status measure_dense(job *j) {
    ESPL_TRY(espl_measure_perplexity(j, &j->dense));
    if (!isfinite(j->dense.perplexity))
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: the dense model's perplexity on %s is not a number: its weights hold NaN or infinity, or "
                         "overflow",
                         j->o->model_path, j->o->validation_text);
    ESPL_TRY(espl_measure_knowledge(j, &j->dense));
    j->last = j->dense;
    return ESPL_OK;
}

/* Before the first iteration of this process. A run that was killed before its first checkpoint starts anew. */
static espl_status prepare(job *j, bool resume) {
    bool found = false;
    ESPL_TRY(espl_comm_agree(j->c, j->root ? make_agent(j, NULL, 0) : ESPL_OK));
    if (resume) ESPL_TRY(espl_store_resume(j, &found));
    ESPL_TRY(espl_comm_agree(j->c, j->root ? open_agent(j) : ESPL_OK));
    ESPL_TRY(espl_comm_agree(j->c, j->root ? open_journal(j) : ESPL_OK));
    ESPL_TRY(espl_manifest_write(j));
    if (!found) ESPL_TRY(measure_dense(j));
    espl_masks_apply(&j->masks);
    j->first_iteration = j->iteration;
    j->first_sparsity = espl_job_sparsity(j, j->pruned);
    espl_show_start(j, found);
    ESPL_TRY(espl_comm_agree(j->c, espl_event_start(j, found)));
    if (!found) ESPL_TRY(espl_store_write(j));
    return espl_stop_check(j, false);
}

/* What is in the export's way is better known now than after hours. */
static espl_status check_export(const job *j) {
    espl_str dir = {0};
    if (!j->o->run_export) return ESPL_OK;
    espl_status st = espl_comm_agree(j->c, espl_job_path(j, "model", &dir));
    if (st == ESPL_OK) st = espl_export_check_model(j->c, j->m, j->o->model_path, dir.data);
    espl_str_free(&dir);
    return st;
}

static espl_status run(job *j, bool resume) {
    bool finished = false;
    ESPL_TRY(espl_comm_agree(j->c, j->root ? open_directory(j, resume, &finished) : ESPL_OK));
    espl_comm_broadcast(j->c, &finished, sizeof finished, 0);
    if (finished) {
        ESPL_INFO("%s: this run is finished; its summary.json stands", j->o->run_dir);
        return ESPL_OK;
    }
    ESPL_TRY(espl_job_inputs(j));
    ESPL_TRY(open_model(j));
    ESPL_TRY(check_export(j));
    ESPL_TRY(espl_store_identify(j));
    ESPL_TRY(prepare(j, resume));
    if (espl_config_is_oneshot(j->o)) ESPL_TRY(espl_run_oneshot(j));
    while (!j->end) ESPL_TRY(espl_iterate(j));
    return espl_report(j);
}

void espl_job_free(job *j) {
    espl_agent_destroy(&j->agent);
    espl_journal_close(&j->events);
    for (int64_t i = 0; i < j->n_history; i++) espl_decision_free(&j->history[i].decision);
    espl_mem_free(&j->history);
    espl_mem_free(&j->rows);
    espl_mem_free(&j->patterns);
    espl_calibration_free(&j->calibration);
    espl_masks_free(&j->masks);
    espl_str_free(&j->identity);
    espl_data_free(&j->data);
    espl_model_close(&j->m);
    espl_model_config_free(&j->config);
    espl_tokenizer_close(&j->t);
}

espl_status espl_run_prune(espl_comm *c, const espl_config *o, bool resume) {
    job j = {.c = c, .o = o, .root = espl_comm_rank(c) == 0, .start = espl_clock_now()};
    espl_stop_watch();
    espl_status st = run(&j, resume);
    espl_job_free(&j);
    return st;
}
