/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a model, dense or as a checkpoint has pruned it. A checkpoint holds masks and updated weights but not the
 * model, and its masks fit every model of the same shape: only the hash of the weights tells whether it is this one's.
 */
#include "model.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "espalier/base/json.h"
#include "espalier/base/log.h"
#include "espalier/base/str.h"
#include "espalier/checkpoint.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/tensor/workspace.h"

espl_status cli_tokenizer_open(espl_comm *c, const char *dir, espl_tokenizer **t) {
    *t = NULL;
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? espl_tokenizer_open(dir, t) : ESPL_OK);
}

/* Collective. Reads the masks, and compares the hash in the checkpoint's identity with that of the model's weights. */
static espl_status mask_read(espl_comm *c, const cli_shared *o, const espl_checkpoint_shape *shape, espl_masks *masks) {
    uint64_t hash = 0;
    struct cJSON *identity = NULL;
    espl_checkpoint content = {.masks = masks->bits};
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_model_hash_weights(c, masks->m, &hash));
    ESPL_TRY(espl_checkpoint_read(c, o->mask, shape, &content));
    if (espl_comm_rank(c) == 0) { /* the hash and the identity are known here only */
        const espl_str *text = &content.identity;
        const char *expected = "";
        char found[17];
        snprintf(found, sizeof found, "%016" PRIx64, hash);
        ESPL_CHECK(st, agree, espl_json_parse(text->data ? text->data : "", text->len, o->mask, &identity));
        ESPL_CHECK(st, agree, espl_json_get_str(identity, "weights", o->mask, true, &expected));
        if (strcmp(expected, found) != 0)
            st = ESPL_FAIL(ESPL_CONFIG,
                           "%s is of another model: it was made from weights of hash %.16s, those of %s are %s",
                           o->mask, expected, o->model, found);
    }
agree:
    ESPL_INFO("%s: the masks after iteration %" PRId64, o->mask, content.iteration);
    espl_json_free(&identity);
    espl_checkpoint_free(&content);
    return espl_comm_agree(c, st);
}

/* Collective. Reads the updated weights, if the checkpoint has any. They replace weights in the memory of a linear, so
 * they must have its dtype. */
static espl_status mask_read_updates(espl_comm *c, const cli_shared *o, const espl_checkpoint_shape *shape,
                                     espl_masks *masks) {
    bool has;
    espl_dtype dtype;
    ESPL_TRY(espl_checkpoint_has_updates(c, o->mask, &has, &dtype));
    if (!has) return ESPL_OK;
    espl_status st = espl_masks_add_updates(masks);
    for (int64_t i = masks->linears.first; st == ESPL_OK && i < masks->linears.last; i++) {
        const espl_linear *l = espl_model_linear(masks->m, i);
        if (l->dtype != dtype)
            st = ESPL_FAIL(ESPL_FORMAT, "%s: updated weights are %s, expected %s, the model's dtype", o->mask,
                           espl_dtype_name(dtype), espl_dtype_name(l->dtype));
    }
    ESPL_TRY(espl_comm_agree(c, st));
    ESPL_TRY(espl_checkpoint_read_updates(c, o->mask, shape, masks->updates));
    masks->updated = true;
    return ESPL_OK;
}

espl_status cli_model_open(espl_comm *c, const cli_shared *o, const espl_model_options *options, cli_model *out) {
    ESPL_TRY(espl_model_open(c, o->model, options, &out->m));
    ESPL_INFO("%s: %d rank(s) x %d thread(s)", o->model, espl_comm_size(c), espl_tensor_threads());
    /* A single rank that mpirun has bound to one core is the most common reason for a slow run. */
    cpu_set_t set;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (espl_comm_size(c) == 1 && sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < online)
        ESPL_INFO("note: this rank may use %d of %ld cores; mpirun binds a single rank to one core unless told "
                  "--bind-to none",
                  CPU_COUNT(&set), online);
    if (!o->mask) return ESPL_OK;
    espl_checkpoint_shape shape = espl_run_checkpoint_shape(espl_model_config_of(out->m), espl_model_slice(out->m));
    ESPL_TRY(espl_comm_agree(c, espl_masks_create(&out->masks, out->m, false)));
    ESPL_TRY(mask_read(c, o, &shape, &out->masks));
    ESPL_TRY(mask_read_updates(c, o, &shape, &out->masks));
    espl_masks_apply(&out->masks);
    return ESPL_OK;
}

void cli_model_close(cli_model *model) {
    espl_model_close(&model->m); /* it borrows the masks */
    espl_masks_free(&model->masks);
}
