/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the job's state into checkpoints and restores it. */
#include "store.h"

#include <string.h>

#include "events.h"
#include "identity.h"
#include "milestones.h"

espl_status espl_store_write(espl_job *j) {
    ESPL_REGION_SCOPE(ESPL_REGION_CHECKPOINT);
    espl_checkpoint k = {.iteration = j->iteration, .revision = j->revision, .masks = j->masks.bits};
    const espl_checkpoint_io io = {.collective = j->o->checkpoint_io == ESPL_IO_COLLECTIVE,
                                   .alignment = j->o->checkpoint_alignment,
                                   .hints = j->o->checkpoint_hints};
    espl_str dir = {0};
    espl_status st;
    if (j->masks.updated) {
        k.updates = (const void *const *)j->masks.updates;
        k.update_dtype = espl_model_linear(j->model, j->masks.linears.first)->dtype;
    }
    ESPL_CHECK(st, agree, espl_run_lock_check(j->lock));
    ESPL_CHECK(st, agree, espl_weights_check_unchanged(espl_model_weights(j->model)));
    ESPL_CHECK(st, agree, espl_job_path(j, "checkpoints", &dir));
    if (j->root) {
        k.rows = j->iteration > 0 && !espl_config_is_oneshot(j->o) ? j->rows : NULL;
        k.history = j->history;
        k.n_history = j->n_history;
        k.dense = j->dense;
        k.last = j->last;
        k.identity = j->identity;
        espl_config effective = *j->o; /* borrows its texts */
        effective.prune_curvature_power = j->curvature_power;
        ESPL_CHECK(st, agree, espl_config_print(&effective, ESPL_CONFIG_CONTENT, &k.config));
        ESPL_CHECK(st, agree, espl_agent_state_save(j->agent, &k.agent));
        espl_milestones_put(j, &k.milestones);
        ESPL_CHECK(st, agree, espl_str_status(&k.milestones));
        /* Before the checkpoint: where it stands, the lines of its iteration do. */
        ESPL_CHECK(st, agree, espl_events_seal(j));
    }
agree:
    st = espl_comm_agree(j->comm, st);
    if (st == ESPL_OK) { /* replicas hold the same masks and weights: one writes them */
        const espl_grid *grid = espl_comm_grid(j->comm);
        if (grid->replica == 0) st = espl_checkpoint_write(grid->pipeline, dir.data, &j->shape, &k, &io);
        st = espl_comm_agree(j->comm, st);
    }
    if (st == ESPL_OK) st = espl_checkpoint_retain(j->comm, dir.data, j->o->run_keep);
    espl_str_free(&k.config);
    espl_str_free(&k.agent);
    espl_str_free(&k.milestones);
    espl_str_free(&dir);
    return st;
}

/* ---------------------------------------------------------------- resume */

static espl_status store_read(espl_job *j, const char *path, espl_checkpoint *k) {
    *k = (espl_checkpoint){.masks = j->masks.bits};
    ESPL_TRY(espl_checkpoint_read(j->comm, path, &j->shape, k));
    /* A checkpoint of another model is valid but wrong: reject it before its weights are read. */
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? espl_identity_check(j, path, k) : ESPL_OK));
    espl_dtype dtype;
    j->masks.updated = false;
    if (!j->masks.updates) return ESPL_OK;
    ESPL_TRY(espl_checkpoint_has_updates(j->comm, path, &j->masks.updated, &dtype));
    if (!j->masks.updated) return ESPL_OK; /* no step has updated any yet */
    return espl_checkpoint_read_updates(j->comm, path, &j->shape, j->masks.updates);
}

/* Reads the newest checkpoint, or the one before it while files are damaged. *path stays empty if there is none. */
static espl_status store_read_newest(espl_job *j, const char *dir, espl_str *path, espl_checkpoint *k) {
    espl_status damage = ESPL_OK;
    for (int64_t before = INT64_MAX;;) {
        espl_str_free(path);
        ESPL_TRY(espl_checkpoint_newest(j->comm, dir, &before, path));
        if (path->len == 0) break;
        espl_checkpoint_free(k);
        espl_status st = store_read(j, path->data, k);
        if (st != ESPL_FORMAT) return st;
        damage = st;
        ESPL_INFO("skipping a damaged checkpoint: %s", espl_base_error_text());
    }
    if (damage == ESPL_OK) return ESPL_OK;
    return ESPL_FAIL(damage, "%s: no checkpoint can be read; to start over, delete them or choose another run.dir",
                     dir);
}

/* Collective. Makes the checkpoint's content the job's state. The history is rank 0's alone. */
static espl_status store_restore(espl_job *j, const char *path, espl_checkpoint *k) {
    j->iteration = k->iteration;
    j->revision = k->revision;
    espl_status st = j->root ? espl_agent_state_restore(j->agent, k->agent.data, k->agent.len) : ESPL_OK;
    ESPL_TRY(espl_comm_agree(j->comm, st));
    if (j->root) {
        j->history = k->history; /* taken over */
        j->n_history = k->n_history;
        k->history = NULL;
        k->n_history = 0;
        for (int64_t i = 0; i < j->n_history; i++) j->rollbacks += !j->history[i].accepted;
        espl_outcome_patterns(j->history, j->n_history, j->patterns, j->linears);
        j->dense = k->dense;
        j->last = k->last;
    }
    espl_comm_broadcast(j->comm, &j->dense, sizeof j->dense, 0);
    espl_comm_broadcast(j->comm, &j->last, sizeof j->last, 0);
    espl_comm_broadcast(j->comm, &j->curvature_power, sizeof j->curvature_power, 0);
    espl_comm_broadcast(j->comm, &j->rollbacks, sizeof j->rollbacks, 0);
    espl_comm_broadcast(j->comm, j->patterns, j->linears * (int64_t)sizeof *j->patterns, 0);
    ESPL_TRY(espl_comm_agree(j->comm, espl_masks_check_patterns(&j->masks, j->patterns, path)));
    ESPL_TRY(espl_masks_count_pruned(&j->masks, NULL, &j->pruned));
    return espl_comm_agree(j->comm, espl_milestones_restore(j, &k->milestones, path));
}

espl_status espl_store_restore(espl_job *j, bool *found) {
    espl_str dir = {0}, path = {0};
    espl_checkpoint k = {0};
    espl_status st;
    *found = false;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, espl_job_path(j, "checkpoints", &dir)));
    ESPL_CHECK(st, done, store_read_newest(j, dir.data, &path, &k));
    *found = path.len > 0;
    if (!*found) goto done;
    ESPL_CHECK(st, done, store_restore(j, path.data, &k));
    ESPL_INFO("continuing from %s", path.data);
done:
    espl_checkpoint_free(&k);
    espl_str_free(&dir);
    espl_str_free(&path);
    return st;
}

espl_status espl_store_resume(espl_job *j, bool *found) {
    espl_str dir = {0};
    espl_status st;
    ESPL_TRY(espl_store_restore(j, found));
    if (!*found) return ESPL_OK;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, espl_job_path(j, "checkpoints", &dir)));
    ESPL_CHECK(st, done, espl_checkpoint_set_aside(j->comm, dir.data, j->iteration));
    /* A kill between a checkpoint and the deletion of older ones: a run that writes no more would keep them. */
    st = espl_checkpoint_retain(j->comm, dir.data, j->o->run_keep);
done:
    espl_str_free(&dir);
    return st;
}
