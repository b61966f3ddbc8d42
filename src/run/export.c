/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exports a checkpoint. Card and recipe describe a job; the job here is one that never runs: what a checkpoint
 * remembers of its own, and nothing else.
 */
#include "espalier/run/export.h"

#include <inttypes.h>
#include <stdio.h>

#include "card.h"
#include "espalier/export.h"
#include "recipe.h"
#include "state.h"

/* The checkpoint without its masks: no slice is read. Tables and texts are rank 0's. */
static espl_status export_read_records(espl_comm *c, const char *path, espl_checkpoint *k) {
    espl_checkpoint_shape shape;
    uint64_t *none = NULL;
    ESPL_TRY(espl_checkpoint_read_shape(c, path, &shape));
    *k = (espl_checkpoint){.masks = &none};
    return espl_checkpoint_read(c, path, &shape, k);
}

/* Rank 0 only. The configuration of the checkpoint's run. */
static espl_status export_read_config(const char *path, const espl_checkpoint *k, espl_config *o) {
    ESPL_TRY(espl_config_init(o));
    return espl_config_parse(k->config.data ? k->config.data : "", k->config.len, path, o);
}

espl_status espl_run_checkpoint_source(espl_comm *c, const char *checkpoint, espl_str *model) {
    espl_checkpoint k = {0};
    espl_config o = {0};
    espl_status st;
    ESPL_CHECK(st, done, export_read_records(c, checkpoint, &k));
    if (espl_comm_rank(c) == 0) {
        st = export_read_config(checkpoint, &k, &o);
        if (st == ESPL_OK) espl_str_puts(model, o.model_path);
        if (st == ESPL_OK) st = espl_str_status(model);
    }
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    st = espl_comm_broadcast_str(c, model, 0);
done:
    espl_config_free(&o);
    espl_checkpoint_free(&k);
    return st;
}

/* Rank 0 only. Writes card and recipe from the job that the checkpoint describes; lost [linears] are the pruned weights
 * of each. Questions and the test text are the report's, which no checkpoint holds. */
static espl_status export_describe(espl_job *j, const espl_checkpoint *k, const int64_t *lost,
                                   espl_export_about *about) {
    espl_report_quality dense = {.validation = {.window = j->o->validation_window, .perplexity = k->dense.perplexity}};
    espl_report_quality pruned = {.validation = {.window = j->o->validation_window, .perplexity = k->last.perplexity}};
    espl_agent_options agent;
    const char *decided_by;
    espl_agent_options_init(&agent);
    agent.backend = j->o->agent_backend;
    agent.fallback = j->o->agent_fallback;
    agent.max_fallback_share = j->o->agent_max_fallback_share;
    ESPL_TRY(espl_agent_state_decided_by(&agent, k->agent.data, k->agent.len, &decided_by));
    ESPL_TRY(espl_card_write(j, decided_by, &dense, &pruned, &about->card));
    return espl_recipe_write(j, lost, &about->recipe);
}

/* Rank 0 only. Makes the checkpoint's records the job's; they stay the checkpoint's to free. The model may have moved
 * since the run read it. */
static espl_status export_restore(espl_job *j, const espl_checkpoint *k, const char *path, const char *source,
                                  espl_config *o) {
    ESPL_TRY(export_read_config(path, k, o));
    espl_mem_free(&o->model_path);
    ESPL_TRY(espl_str_dup(&o->model_path, source, "configuration"));
    ESPL_TRY(espl_mem_alloc(&j->patterns, j->linears, sizeof *j->patterns, "patterns"));
    j->o = o;
    j->iteration = k->iteration;
    j->history = k->history;
    j->n_history = k->n_history;
    j->identity = k->identity;
    for (int64_t i = 0; i < k->n_history; i++) j->rollbacks += !k->history[i].accepted;
    espl_outcome_patterns(k->history, k->n_history, j->patterns, j->linears);
    return ESPL_OK;
}

espl_status espl_run_export(espl_comm *c, const char *checkpoint, const espl_masks *masks, const char *source,
                            const char *dir) {
    espl_job j = {.comm = c, .root = espl_comm_rank(c) == 0, .model = masks->m, .masks = *masks};
    espl_checkpoint k = {0};
    espl_config o = {0};
    espl_export_about about = {0};
    int64_t *lost = NULL;
    char end[64];
    espl_status st;
    j.config = *espl_model_config_of(j.model);
    espl_job_measure_model(&j);
    ESPL_CHECK(st, done, export_read_records(c, checkpoint, &k));
    st = j.root ? espl_mem_alloc(&lost, j.linears, sizeof *lost, "counts") : ESPL_OK;
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_masks_count_pruned(masks, lost, &j.pruned));
    snprintf(end, sizeof end, "checkpoint of iteration %" PRId64, k.iteration);
    j.end = end;
    if (j.root) st = export_restore(&j, &k, checkpoint, source, &o);
    if (j.root && st == ESPL_OK) st = export_describe(&j, &k, lost, &about);
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    st = espl_export_model(c, j.model, source, dir, &about);
done:
    espl_str_free(&about.card);
    espl_str_free(&about.recipe);
    espl_mem_free(&j.patterns);
    espl_mem_free(&lost);
    espl_config_free(&o);
    espl_checkpoint_free(&k);
    return st;
}
