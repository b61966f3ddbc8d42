/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: make_updates MODEL OTHER_MODEL DIR
 *
 * Writes DIR/iteration-000000.h5: a checkpoint of MODEL with dense masks, whose updated weights are the linears of
 * OTHER_MODEL, a model of the same shape. It is what a method that updates weights leaves behind, with weights that a
 * test can tell apart.
 */
#include <stdio.h>

#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/checkpoint.h"
#include "espalier/model/masks.h"
#include "espalier/model/model.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/run/model_identity.h"

static espl_status make_updates(espl_comm *c, const char *model, const char *other_model, const char *dir) {
    espl_model_options o = {.context = 2, .batch_tokens = 2, .slots = 1};
    espl_model *m = NULL, *other = NULL;
    espl_masks masks = {0};
    espl_checkpoint content = {0};
    const void **updates = NULL; /* borrowed from `other` */
    espl_status st;
    ESPL_CHECK(st, done, espl_model_open(c, model, &o, &m));
    ESPL_CHECK(st, done, espl_model_open(c, other_model, &o, &other));
    ESPL_CHECK(st, done, espl_masks_create(&masks, m, false));
    espl_range linears = espl_model_linears(other);
    ESPL_CHECK(st, done, espl_mem_alloc(&updates, espl_range_count(linears), sizeof *updates, "updates"));
    for (int64_t i = linears.first; i < linears.last; i++)
        updates[i - linears.first] = espl_model_linear(other, i)->weight;

    content.masks = masks.bits;
    content.updates = updates;
    content.update_dtype = espl_model_linear(other, 0)->dtype;
    espl_json_writer w = espl_json_writer_on(&content.identity);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    ESPL_CHECK(st, done, espl_model_identity_put(c, m, model, NULL, &w));
    espl_json_close(&w);
    espl_str_puts(&content.agent, "{}");
    espl_str_puts(&content.config, "{}");
    espl_checkpoint_shape shape = espl_run_checkpoint_shape(espl_model_config_of(m), espl_model_slice(m));
    st = espl_checkpoint_write(c, dir, &shape, &content, NULL);
done:
    espl_checkpoint_free(&content);
    espl_mem_free(&updates);
    espl_model_close(&m);
    espl_model_close(&other);
    espl_masks_free(&masks);
    return st;
}

int main(int argc, char **argv) {
    espl_comm *c;
    if (argc != 4) return ESPL_USAGE;
    if (espl_comm_create(&argc, &argv, &c) != ESPL_OK) return 1;
    espl_log_init(ESPL_LOG_QUIET, 0);
    espl_status st = make_updates(c, argv[1], argv[2], argv[3]);
    if (st != ESPL_OK) fprintf(stderr, "make_updates: %s\n", espl_base_error_text());
    espl_comm_destroy(&c);
    return st == ESPL_OK ? 0 : 1;
}
