/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run continues only with the model, the inputs and the method that it began with. Model and inputs are compared by
 * the hash of their content, so that files may move; the method by its options.
 */
#include "identity.h"

#include <inttypes.h>

#include "espalier/config/table.h"
#include "espalier/run/model_identity.h"

/* Hashes the encoded prompts: they hold the questions, the examples and the order. */
static uint64_t identity_hash_questions(const espl_questions *q) {
    uint64_t h = 0;
    if (q->has_mmlu) h = espl_hash64(q->mmlu.prompts.ids, q->mmlu.prompts.n_ids * (int64_t)sizeof(int32_t), h);
    if (q->has_freebaseqa)
        h = espl_hash64(q->freebaseqa.prompts.ids, q->freebaseqa.prompts.n_ids * (int64_t)sizeof(int32_t), h);
    return h;
}

static uint64_t identity_hash_knowledge(const espl_inputs *in) {
    uint64_t h = 0;
    const espl_knowledge *sets[] = {&in->profile, &in->judge};
    for (int i = 0; i < 2; i++)
        h = espl_hash64(sets[i]->ids, sets[i]->first[ESPL_TOPICS] * sets[i]->window * (int64_t)sizeof(int32_t), h);
    return h;
}

espl_status espl_identity_compute(espl_job *j) {
    const espl_inputs *in = &j->inputs;
    espl_json_writer w = espl_json_writer_on(&j->identity);
    espl_str cache = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, espl_job_path(j, "model-hashes.json", &cache)));
    if (j->root) espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    ESPL_CHECK(st, done, espl_model_identity_put(j->comm, j->model, j->o->model_path, cache.data, j->root ? &w : NULL));
    if (j->root) {
        int64_t calibration = in->windows * j->o->calibration_window * (int64_t)sizeof *in->calibration;
        int64_t validation = in->validation.n * (int64_t)sizeof *in->validation.ids;
        espl_json_put_printf(&w, "calibration", "%016" PRIx64, espl_hash64(in->calibration, calibration, 0));
        espl_json_put_printf(&w, "validation", "%016" PRIx64, espl_hash64(in->validation.ids, validation, 0));
        espl_json_put_printf(&w, "probe_questions", "%016" PRIx64, identity_hash_questions(&in->probe));
        espl_json_put_printf(&w, "knowledge_questions", "%016" PRIx64, identity_hash_knowledge(in));
        if (in->allocation) {
            int64_t bytes = j->linears * (int64_t)sizeof *in->allocation;
            espl_json_put_printf(&w, "allocation", "%016" PRIx64, espl_hash64(in->allocation, bytes, 0));
        }
        espl_json_close(&w);
    }
    st = espl_comm_agree(j->comm, j->root ? espl_str_status(&j->identity) : ESPL_OK);
done:
    espl_str_free(&cache);
    return st;
}

/* The calibration and validation hashes are of token ids: another window length differs too. A member that the
 * checkpoint lacks is not compared, because older versions wrote fewer of them; the user is told. */
static espl_status identity_check_content(const espl_job *j, const char *path, const espl_str *stored) {
    espl_str different = {0}, missing = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_model_identity_compare(&j->identity, stored, path, &different, &missing));
    if (different.len > 0)
        st = ESPL_FAIL(
            ESPL_CONFIG,
            "%s was made with another model, other texts or another seed than the configuration names (different: %s)",
            path, different.data);
    else if (missing.len > 0)
        ESPL_INFO("note: %s, of an older version, does not record %s: not compared", path, missing.data);
done:
    espl_str_free(&different);
    espl_str_free(&missing);
    return st;
}

/* Another method would continue from what this one has pruned, so it is refused. The other options are the user's to
 * change (a higher target, for example), but the result is then no longer that of one configuration: the log names
 * them. An option that the checkpoint does not know had its default. */
static espl_status identity_check_config(espl_job *j, const char *path, const espl_str *stored) {
    espl_config then, now = *j->o; /* borrows its texts */
    espl_str method = {0}, changed = {0};
    espl_status st;
    ESPL_TRY(espl_config_init(&then));
    ESPL_CHECK(st, done, espl_config_parse(stored->data ? stored->data : "", stored->len, path, &then));
    /* A checkpoint holds the chosen exponent: a run that leaves the choice open goes on with it. */
    if (now.prune_curvature_power < 0) now.prune_curvature_power = then.prune_curvature_power;
    j->curvature_power = then.prune_curvature_power;
    ESPL_CHECK(st, done, espl_config_differences(&then, &now, 1u << ESPL_RESUME_METHOD, ESPL_OPTIONS, &method));
    if (method.len > 0) {
        st = ESPL_FAIL(ESPL_CONFIG, "%s was made with another %s: another method needs a run of its own (run.dir)",
                       path, method.data);
        goto done;
    }
    ESPL_CHECK(st, done,
               espl_config_differences(&then, &now, 1u << ESPL_RESUME_IDENTITY | 1u << ESPL_RESUME_FREE, ESPL_OPTIONS,
                                       &changed));
    if (changed.len > 0) ESPL_INFO("note: changed since the checkpoint: %s", changed.data);
done:
    espl_str_free(&method);
    espl_str_free(&changed);
    espl_config_free(&then);
    return st;
}

espl_status espl_identity_check(espl_job *j, const char *path, const espl_checkpoint *stored) {
    ESPL_TRY(identity_check_content(j, path, &stored->identity));
    return identity_check_config(j, path, &stored->config);
}
