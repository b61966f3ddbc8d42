/* SPDX-License-Identifier: Apache-2.0 */
/* usage: make_updates MODEL OTHER_MODEL DIR
 * Writes DIR/iteration-000000.h5: a checkpoint of MODEL, dense, whose updated weights are those of OTHER_MODEL, a model
 * of the same shape. What an updating method leaves behind, with weights that a test can tell apart. */
#include <string.h>

#include "espalier/checkpoint.h"
#include "espalier/model/model.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/tensor/mask.h"

typedef struct maker {
    espl_comm *c;
    espl_model *m, *other;
    espl_checkpoint_shape shape;
    int64_t n;
    uint64_t **masks;
    const void **updates; /* borrowed from `other` */
} maker;

static espl_status open_both(maker *k, const char *dir, const char *other) {
    espl_model_options o = {.context = 2, .batch_tokens = 2, .slots = 1};
    ESPL_TRY(espl_model_open(k->c, dir, &o, &k->m));
    ESPL_TRY(espl_model_open(k->c, other, &o, &k->other));
    const espl_model_config *config = espl_model_config_of(k->m);
    k->shape = espl_run_checkpoint_shape(config, espl_model_slice(k->m));
    k->n = config->layers * ESPL_LINEAR_KINDS;
    return ESPL_OK;
}

static espl_status dense_mask(const espl_linear *l, uint64_t **mask) {
    ESPL_TRY(espl_mem_alloc(mask, espl_mask_bytes(l->out, l->in), 1, "mask"));
    espl_mask_fill(*mask, l->out, l->in);
    return ESPL_OK;
}

static espl_status fill(maker *k) {
    ESPL_TRY(espl_mem_alloc(&k->masks, k->n, sizeof *k->masks, "masks"));
    ESPL_TRY(espl_mem_alloc(&k->updates, k->n, sizeof *k->updates, "updates"));
    for (int64_t i = 0; i < k->n; i++) {
        ESPL_TRY(dense_mask(espl_model_linear(k->m, i), &k->masks[i]));
        k->updates[i] = espl_model_linear(k->other, i)->weight;
    }
    return ESPL_OK;
}

static espl_status write(maker *k, const char *dir) {
    uint64_t hash;
    espl_checkpoint content = {.masks = k->masks, .updates = k->updates};
    content.update_dtype = espl_model_linear(k->other, 0)->dtype;
    ESPL_TRY(espl_model_hash_weights(k->c, k->m, &hash));
    espl_str_printf(&content.identity, "{\"weights\":\"%016llx\"}", (unsigned long long)hash);
    espl_str_puts(&content.agent, "{}");
    espl_str_puts(&content.config, "{}");
    espl_status st = espl_checkpoint_write(k->c, dir, &k->shape, &content);
    espl_checkpoint_free(&content);
    return st;
}

static void maker_free(maker *k) {
    for (int64_t i = 0; k->masks && i < k->n; i++) espl_mem_free(&k->masks[i]);
    espl_mem_free(&k->masks);
    espl_mem_free(&k->updates);
    espl_model_close(&k->m);
    espl_model_close(&k->other);
}

int main(int argc, char **argv) {
    maker k = {0};
    if (argc != 4) return ESPL_USAGE;
    if (espl_comm_create(&argc, &argv, &k.c) != ESPL_OK) return 1;
    espl_log_init(ESPL_LOG_QUIET, 0);
    espl_status st = open_both(&k, argv[1], argv[2]);
    if (st == ESPL_OK) st = fill(&k);
    if (st == ESPL_OK) st = write(&k, argv[3]);
    if (st != ESPL_OK) fprintf(stderr, "make_updates: %s\n", espl_base_error_text());
    maker_free(&k);
    espl_comm_destroy(&k.c);
    return st == ESPL_OK ? 0 : 1;
}
