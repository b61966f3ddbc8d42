/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a model, dense or as a checkpoint has pruned it. A checkpoint holds masks and updated weights but not the
 * model, and its masks fit every model of the same shape: only its identity tells whether it is this one's.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/str.h"
#include "espalier/checkpoint.h"
#include "espalier/model/shape.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/run/layout.h"
#include "espalier/run/model_identity.h"
#include "espalier/run/node_memory.h"
#include "espalier/tensor/workspace.h"

espl_status cli_tokenizer_open(espl_comm *c, const char *dir, espl_tokenizer **t) {
    *t = NULL;
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? espl_tokenizer_open(dir, t) : ESPL_OK);
}

espl_status cli_arrange(espl_comm *c, const cli_shared *o, bool alone, espl_comm **out) {
    espl_grid_request r = {.ranks = espl_comm_size(c), .replicas = alone ? 1 : o->replicas, .min_stages = 1};
    espl_model_config config;
    int replicas = 1, stages = 1;
    *out = NULL;
    ESPL_TRY(espl_comm_agree(c, espl_model_config_read(o->model, &config)));
    r.layers = config.layers;
    if (!alone && o->replicas == 0 &&
        r.ranks > 1) { /* by the weights, in two bytes each: they take most of the memory */
        int64_t weights = 2 * espl_model_parameters(&config), memory = espl_node_memory();
        int here = espl_comm_ranks_on_node(c), max = (int)espl_min_i64(r.ranks, r.layers);
        while (r.min_stages < max && espl_node_needs(weights, 0, here, r.min_stages) > memory) r.min_stages++;
        r.min_stages = espl_comm_max(c, r.min_stages);
    }
    espl_model_config_free(&config);
    if (espl_grid_choose(&r, &replicas, &stages) != ESPL_OK)
        return ESPL_FAIL(ESPL_USAGE, "--replicas: %s", espl_base_error_text());
    if (replicas * stages < r.ranks)
        ESPL_INFO("note: %d of %d ranks have nothing to do", r.ranks - replicas * stages, r.ranks);
    return espl_comm_arrange(c, replicas, stages, 1, out);
}

/* Rank 0 only. Refuses a checkpoint of another model. */
static espl_status mask_check_identity(const cli_shared *o, const espl_str *now, const espl_str *then) {
    espl_str different = {0}, missing = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_model_identity_compare(now, then, o->mask, &different, &missing));
    if (different.len > 0)
        st =
            ESPL_FAIL(ESPL_CONFIG, "%s is of another model than %s (different: %s)", o->mask, o->model, different.data);
    else if (missing.len > 0)
        ESPL_INFO("note: %s, of an older version, does not record %s: not compared", o->mask, missing.data);
done:
    espl_str_free(&different);
    espl_str_free(&missing);
    return st;
}

/* Collective. Reads the masks, and compares the checkpoint's identity with the model's. */
static espl_status mask_read(espl_comm *c, const cli_shared *o, const espl_checkpoint_shape *shape, espl_masks *masks) {
    bool root = espl_comm_rank(c) == 0; /* it alone knows the identities */
    espl_checkpoint content = {.masks = masks->bits};
    espl_str identity = {0};
    espl_json_writer w = espl_json_writer_on(&identity);
    espl_status st;
    if (root) espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    ESPL_CHECK(st, done, espl_model_identity_put(c, masks->m, o->model, NULL, root ? &w : NULL));
    if (root) espl_json_close(&w);
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_str_status(&identity)));
    ESPL_CHECK(st, done, espl_checkpoint_read(c, o->mask, shape, &content));
    ESPL_CHECK(st, done, espl_comm_agree(c, root ? mask_check_identity(o, &identity, &content.identity) : ESPL_OK));
    ESPL_INFO("%s: the masks after iteration %" PRId64, o->mask, content.iteration);
done:
    espl_str_free(&identity);
    espl_checkpoint_free(&content);
    return st;
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
    ESPL_TRY(espl_layout_advise(c));
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
