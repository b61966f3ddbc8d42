/* --mask: what a checkpoint puts over its source, masks and an updating method's weights, for every command that
 * computes with a model. */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/checkpoint.h"
#include "espalier/run/checkpoint_shape.h"

/* Masks fit any model of that shape, but mean something only on the one they were made for. */
static espl_status check_weights(const char *path, const char *model, const espl_str *identity, uint64_t hash) {
    struct cJSON *doc;
    const char *made_for = "";
    char now[17];
    snprintf(now, sizeof now, "%016" PRIx64, hash);
    ESPL_TRY(espl_json_parse(identity->data ? identity->data : "", identity->len, path, &doc));
    espl_status st = espl_json_get_str(doc, "weights", path, true, &made_for);
    if (st == ESPL_OK && strcmp(made_for, now) != 0)
        st =
            ESPL_FAIL(ESPL_CONFIG, "%s is of another model: it was made from weights of hash %.16s, those of %s are %s",
                      path, made_for, model, now);
    espl_json_free(&doc);
    return st;
}

static espl_status read_masks(espl_comm *c, const cli_options *o, const espl_checkpoint_shape *shape,
                              espl_masks *masks) {
    uint64_t hash = 0;
    ESPL_TRY(espl_model_hash_weights(c, masks->m, &hash));
    espl_checkpoint content = {.masks = masks->bits};
    ESPL_TRY(espl_checkpoint_read(c, o->mask, shape, &content));
    espl_status st = espl_comm_rank(c) == 0 ? check_weights(o->mask, o->model, &content.identity, hash) : ESPL_OK;
    ESPL_INFO("%s: the masks after iteration %" PRId64, o->mask, content.iteration);
    espl_checkpoint_free(&content);
    return espl_comm_agree(c, st);
}

static espl_status check_dtype(const espl_masks *masks, const char *path, espl_dtype dtype) {
    for (int64_t i = masks->linears.first; i < masks->linears.last; i++) {
        const espl_linear *l = espl_model_linear(masks->m, i);
        if (l->dtype != dtype)
            return ESPL_FAIL(ESPL_FORMAT, "%s: updated weights are %s, expected %s as the model's", path,
                             espl_dtype_name(dtype), espl_dtype_name(l->dtype));
    }
    return ESPL_OK;
}

static espl_status read_updates(espl_comm *c, const char *path, const espl_checkpoint_shape *shape, espl_masks *masks) {
    bool has;
    espl_dtype dtype;
    ESPL_TRY(espl_checkpoint_has_updates(c, path, &has, &dtype));
    if (!has) return ESPL_OK;
    espl_status st = check_dtype(masks, path, dtype);
    if (st == ESPL_OK) st = espl_masks_add_updates(masks);
    ESPL_TRY(espl_comm_agree(c, st));
    ESPL_TRY(espl_checkpoint_read_updates(c, path, shape, masks->updates));
    masks->updated = true;
    return ESPL_OK;
}

espl_status cli_mask_apply(espl_comm *c, const cli_options *o, espl_model *m, espl_masks *masks) {
    *masks = (espl_masks){0};
    if (!o->mask) return ESPL_OK;
    espl_checkpoint_shape shape = espl_run_checkpoint_shape(espl_model_config_of(m), espl_model_slice(m));
    ESPL_TRY(espl_comm_agree(c, espl_masks_create(masks, m, false)));
    ESPL_TRY(read_masks(c, o, &shape, masks));
    ESPL_TRY(read_updates(c, o->mask, &shape, masks));
    espl_masks_apply(masks);
    return ESPL_OK;
}
