/* The job's state and the checkpoint room. */
#include "internal.h"

#include "espalier/config/table.h"

#include <cjson/cJSON.h>
#include <string.h>

static espl_status directory(const job *j, espl_str *s) { return espl_job_path(j, "checkpoints", s); }

static espl_status fill(job *j, espl_checkpoint *k) {
    *k = (espl_checkpoint){.iteration = j->iteration, .revision = j->revision, .masks = j->masks.bits};
    if (j->masks.updated) {
        k->updates = (const void *const *)j->masks.updates;
        k->update_dtype = espl_model_linear(j->m, j->masks.linears.first)->dtype;
    }
    if (!j->root) return ESPL_OK;
    k->rows = j->iteration > 0 && !espl_config_is_oneshot(j->o) ? j->rows : NULL;
    k->history = j->history;
    k->n_history = j->n_history;
    k->dense = j->dense;
    k->last = j->last;
    k->identity = j->identity;
    ESPL_TRY(espl_config_print(j->o, ESPL_CONFIG_CONTENT, &k->config));
    return espl_agent_state_save(j->agent, &k->agent);
}

espl_status espl_store_write(job *j) {
    espl_checkpoint k;
    espl_str dir = {0};
    double start = espl_clock_now();
    espl_status st = directory(j, &dir);
    if (st == ESPL_OK) st = fill(j, &k);
    st = espl_comm_agree(j->c, st);
    if (st == ESPL_OK) st = espl_checkpoint_write(j->c, dir.data, &j->shape, &k);
    if (st == ESPL_OK) st = espl_checkpoint_retain(j->c, dir.data, j->o->run_keep);
    if (j->root) {
        espl_str_free(&k.config);
        espl_str_free(&k.agent);
    }
    espl_str_free(&dir);
    espl_region_add(ESPL_REGION_CHECKPOINT, espl_clock_now() - start);
    return st;
}

/* ---------------------------------------------------------------- resume */

/* The names of members that are not equal, one object being walked into: "a.b, c". */
static void put_differences(const cJSON *now, const cJSON *then, const char *section, espl_str *out) {
    for (const cJSON *m = now ? now->child : NULL; m; m = m->next) {
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(then, m->string);
        if (cJSON_IsObject(m) && cJSON_IsObject(other))
            put_differences(m, other, m->string, out);
        else if (other && !cJSON_Compare(m, other, true)) /* an option that is newer than the file: its default */
            espl_str_printf(out, "%s%s%s%s", out->len ? ", " : "", section, *section ? "." : "", m->string);
    }
}

/* *out: what differs between two JSON texts; "" if nothing does. */
static espl_status differences(const espl_str *now, const espl_str *then, const char *path, espl_str *out) {
    cJSON *a = NULL, *b = NULL;
    *out = (espl_str){0};
    espl_str_puts(out, "");
    espl_status st = espl_json_parse(now->data, now->len, "the present", &a);
    if (st == ESPL_OK) st = espl_json_parse(then->data ? then->data : "", then->len, path, &b);
    if (st == ESPL_OK) put_differences(a, b, "", out);
    espl_json_free(&a);
    espl_json_free(&b);
    return st == ESPL_OK ? espl_str_status(out) : st;
}

static espl_status same_identity(const job *j, const char *path, const espl_str *stored) {
    espl_str what;
    espl_status st = differences(&j->identity, stored, path, &what);
    if (st == ESPL_OK && what.len > 0)
        st = ESPL_FAIL(ESPL_CONFIG,
                       "%s was made with another model, other texts or another seed than the configuration names: "
                       "different are %s",
                       path, what.data);
    espl_str_free(&what);
    return st;
}

/* Compares the configuration with the one in the checkpoint. Another method would go on with what this one has pruned,
 * so it is refused. Other options are the user's to change (a higher target, say), but the result is then no longer
 * that of one configuration, so the log names them. An option that the file does not know had its default. */
static espl_status check_config(const job *j, const char *path, const espl_str *stored) {
    espl_config then;
    espl_str method = {0}, changed = {0};
    espl_status st;
    ESPL_TRY(espl_config_init(&then));
    ESPL_CHECK(st, done, espl_config_parse(stored->data ? stored->data : "", stored->len, path, &then));
    ESPL_CHECK(st, done, espl_config_differences(&then, j->o, 1u << ESPL_RESUME_METHOD, ESPL_OPTIONS, &method));
    if (method.len > 0) {
        st = ESPL_FAIL(ESPL_CONFIG, "%s was made with another %s: another method needs a run of its own (run.dir)",
                       path, method.data);
        goto done;
    }
    ESPL_CHECK(st, done,
               espl_config_differences(&then, j->o, 1u << ESPL_RESUME_IDENTITY | 1u << ESPL_RESUME_FREE, ESPL_OPTIONS,
                                       &changed));
    if (changed.len > 0) ESPL_INFO("note: changed since the checkpoint: %s", changed.data);
done:
    espl_str_free(&method);
    espl_str_free(&changed);
    espl_config_free(&then);
    return st;
}

static espl_status take_up(job *j, espl_checkpoint *k) {
    ESPL_TRY(espl_agent_state_restore(j->agent, k->agent.data, k->agent.len));
    j->history = k->history; /* taken over */
    j->n_history = k->n_history;
    k->history = NULL;
    k->n_history = 0;
    for (int64_t i = 0; i < j->n_history; i++) j->rollbacks += !j->history[i].accepted;
    espl_outcome_patterns(j->history, j->n_history, j->patterns, j->linears);
    j->dense = k->dense;
    j->last = k->last;
    return ESPL_OK;
}

/* What is of another model or method is not damaged: it is refused before its weights are looked for. */
static espl_status check_same(const job *j, const char *path, const espl_checkpoint *k) {
    ESPL_TRY(same_identity(j, path, &k->identity));
    return check_config(j, path, &k->config);
}

static espl_status read_file(job *j, const char *path, espl_checkpoint *k) {
    *k = (espl_checkpoint){.masks = j->masks.bits};
    ESPL_TRY(espl_checkpoint_read(j->c, path, &j->shape, k));
    ESPL_TRY(espl_comm_agree(j->c, j->root ? check_same(j, path, k) : ESPL_OK));
    if (!j->masks.updates || k->iteration == 0) return ESPL_OK;
    ESPL_TRY(espl_checkpoint_read_updates(j->c, path, &j->shape, j->masks.updates));
    j->masks.updated = true;
    return ESPL_OK;
}

static espl_status share(job *j, const char *path, espl_checkpoint *k) {
    j->iteration = k->iteration;
    j->revision = k->revision;
    ESPL_TRY(espl_comm_agree(j->c, j->root ? take_up(j, k) : ESPL_OK));
    espl_comm_broadcast(j->c, &j->dense, sizeof j->dense, 0);
    espl_comm_broadcast(j->c, &j->last, sizeof j->last, 0);
    espl_comm_broadcast(j->c, &j->rollbacks, sizeof j->rollbacks, 0);
    espl_comm_broadcast(j->c, j->patterns, j->linears * (int64_t)sizeof *j->patterns, 0);
    ESPL_TRY(espl_comm_agree(j->c, espl_masks_check_patterns(&j->masks, j->patterns, path)));
    return espl_masks_count_pruned(&j->masks, NULL, &j->pruned);
}

/* Goes back to older checkpoints while the newer are damaged. If all are, nothing is begun anew over them. */
static espl_status read_newest(job *j, const char *dir, espl_str *path, espl_checkpoint *k) {
    espl_status damage = ESPL_OK;
    for (int64_t before = INT64_MAX;;) {
        espl_str_free(path);
        ESPL_TRY(espl_checkpoint_newest(j->c, dir, &before, path));
        if (path->len == 0) break;
        espl_checkpoint_free(k);
        espl_status st = read_file(j, path->data, k);
        if (st != ESPL_FORMAT) return st;
        damage = st;
        ESPL_INFO("checkpoint passed over: %s", espl_base_error_text());
    }
    if (damage == ESPL_OK) return ESPL_OK;
    return ESPL_FAIL(damage,
                     "%s: no checkpoint there can be read; to begin anew, delete them or choose another run.dir", dir);
}

espl_status espl_store_resume(job *j, bool *found) {
    espl_str dir = {0}, path = {0};
    espl_checkpoint k = {0};
    *found = false;
    espl_status st = espl_comm_agree(j->c, directory(j, &dir));
    if (st == ESPL_OK) st = read_newest(j, dir.data, &path, &k);
    *found = st == ESPL_OK && path.len > 0;
    if (*found) st = share(j, path.data, &k);
    if (*found && st == ESPL_OK) st = espl_checkpoint_set_aside(j->c, dir.data, j->iteration);
    if (*found && st == ESPL_OK) ESPL_INFO("continuing from %s", path.data);
    espl_checkpoint_free(&k);
    espl_str_free(&dir);
    espl_str_free(&path);
    return st;
}

/* -------------------------------------------------------------- identity */

static uint64_t hash_text(uint64_t seed, const void *bytes, int64_t n) { return espl_hash64(bytes, n, seed); }

static uint64_t hash_corpus(const espl_corpus *c) { return hash_text(0, c->ids, c->n * (int64_t)sizeof *c->ids); }

static uint64_t hash_knowledge(const knowledge *k) {
    uint64_t h = 0;
    if (k->has_mmlu) h = hash_text(h, k->mmlu.prompts.ids, k->mmlu.prompts.n_ids * (int64_t)sizeof(int32_t));
    if (k->has_freebaseqa)
        h = hash_text(h, k->freebaseqa.prompts.ids, k->freebaseqa.prompts.n_ids * (int64_t)sizeof(int32_t));
    return h;
}

static espl_status write_identity(job *j, uint64_t weights) {
    const job_data *d = &j->data;
    int64_t windows = d->windows * j->o->calibration_window * (int64_t)sizeof *d->calibration;
    espl_str_printf(&j->identity,
                    "{\"model_type\":\"%s\",\"layers\":%lld,\"hidden\":%lld,\"vocab\":%lld,\"weights\":\"%016llx\","
                    "\"calibration\":\"%016llx\",\"validation\":\"%016llx\",\"probe_questions\":\"%016llx\"}",
                    espl_family_name(j->config.family), (long long)j->config.layers, (long long)j->config.hidden,
                    (long long)j->config.vocab, (unsigned long long)weights,
                    (unsigned long long)hash_text(0, d->calibration, windows),
                    (unsigned long long)hash_corpus(&d->validation), (unsigned long long)hash_knowledge(&d->probe));
    return espl_str_status(&j->identity);
}

espl_status espl_store_identify(job *j) {
    uint64_t weights;
    ESPL_TRY(espl_model_hash_weights(j->c, j->m, &weights));
    return espl_comm_agree(j->c, j->root ? write_identity(j, weights) : ESPL_OK);
}
