/* --mask: what a checkpoint puts over its source, masks and an updating method's weights, for every command that
 * computes with a model. */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/checkpoint.h"
#include "espalier/run/checkpoint_shape.h"

void cli_mask_free(cli_mask *k) {
    for (int64_t i = 0; k->masks && i < k->n; i++) espl_mem_free(&k->masks[i]);
    for (int64_t i = 0; k->updates && i < k->n; i++) espl_mem_free(&k->updates[i]);
    espl_mem_free(&k->masks);
    espl_mem_free(&k->updates);
}

/* ---------------------------------------------------------------- masks */

static espl_status allocate_masks(cli_mask *k, const espl_model *m) {
    ESPL_TRY(espl_mem_alloc(&k->masks, k->n, sizeof *k->masks, "masks"));
    for (int64_t i = 0; i < k->n; i++) {
        const espl_linear *l = espl_model_linear(m, k->first + i);
        ESPL_TRY(espl_mem_alloc(&k->masks[i], l->out * espl_mask_words(l->in), sizeof **k->masks, "masks"));
    }
    return ESPL_OK;
}

static espl_status apply_masks(const cli_mask *k, espl_model *m) {
    for (int64_t i = 0; i < k->n; i++) ESPL_TRY(espl_model_set_mask(m, k->first + i, k->masks[i]));
    return ESPL_OK;
}

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

static espl_status read_masks(espl_comm *c, const cli_options *o, const espl_checkpoint_shape *shape, espl_model *m,
                              cli_mask *k) {
    uint64_t hash = 0;
    ESPL_TRY(espl_comm_agree(c, allocate_masks(k, m)));
    ESPL_TRY(espl_model_hash_weights(c, m, &hash));
    espl_checkpoint content = {.masks = k->masks};
    ESPL_TRY(espl_checkpoint_read(c, o->mask, shape, &content));
    espl_status st = espl_comm_rank(c) == 0 ? check_weights(o->mask, o->model, &content.identity, hash) : ESPL_OK;
    ESPL_INFO("%s: the masks after iteration %" PRId64, o->mask, content.iteration);
    espl_checkpoint_free(&content);
    if (st == ESPL_OK) st = apply_masks(k, m);
    return espl_comm_agree(c, st);
}

/* -------------------------------------------------------------- updates */

static espl_status allocate_updates(cli_mask *k, const char *path, const espl_model *m, espl_dtype dtype) {
    ESPL_TRY(espl_mem_alloc(&k->updates, k->n, sizeof *k->updates, "updated weights"));
    for (int64_t i = 0; i < k->n; i++) {
        const espl_linear *l = espl_model_linear(m, k->first + i);
        if (l->dtype != dtype)
            return ESPL_FAIL(ESPL_FORMAT, "%s: updated weights are %s, expected %s as the model's", path,
                             espl_dtype_name(dtype), espl_dtype_name(l->dtype));
        ESPL_TRY(espl_mem_alloc(&k->updates[i], l->out * l->in, espl_dtype_size(dtype), "updated weights"));
    }
    return ESPL_OK;
}

static espl_status read_updates(espl_comm *c, const char *path, const espl_checkpoint_shape *shape, espl_model *m,
                                cli_mask *k) {
    bool has;
    espl_dtype dtype;
    ESPL_TRY(espl_checkpoint_has_updates(c, path, &has, &dtype));
    if (!has) return ESPL_OK;
    ESPL_TRY(espl_comm_agree(c, allocate_updates(k, path, m, dtype)));
    ESPL_TRY(espl_checkpoint_read_updates(c, path, shape, k->updates));
    espl_status st = ESPL_OK;
    for (int64_t i = 0; st == ESPL_OK && i < k->n; i++) st = espl_model_set_weight(m, k->first + i, k->updates[i]);
    return espl_comm_agree(c, st);
}

espl_status cli_mask_apply(espl_comm *c, const cli_options *o, espl_model *m, cli_mask *k) {
    *k = (cli_mask){0};
    if (!o->mask) return ESPL_OK;
    espl_checkpoint_shape shape = espl_run_checkpoint_shape(espl_model_config_of(m), espl_model_slice(m));
    k->first = espl_linear_index(shape.slice.first, ESPL_Q_PROJ);
    k->n = espl_range_count(shape.slice) * ESPL_LINEAR_KINDS;
    espl_status st = read_masks(c, o, &shape, m, k);
    return st == ESPL_OK ? read_updates(c, o->mask, &shape, m, k) : st;
}
