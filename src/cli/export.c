/* SPDX-License-Identifier: Apache-2.0 */
/* espalier export: a model directory from a checkpoint, on any number of ranks. */
#include <stdio.h>

#include "commands.h"
#include "espalier/base/log.h"
#include "espalier/base/str.h"
#include "espalier/run/export.h"
#include "model.h"
#include "options.h"

typedef struct export_options {
    cli_shared shared;
    const char *out;
} export_options;

enum { KEY_OUT = CLI_KEY_FIRST, KEY_SOURCE };

/* --model is not the shared one, which is required: a checkpoint names its model. */
static const struct argp_option export_argp_options[] = {
    {NULL, 0, NULL, 0, "Model:", CLI_GROUP_MODEL},
    {"model", KEY_SOURCE, "DIR", 0,
     "the dense model that the checkpoint is of, a directory or OWNER/NAME[@REVISION] in the hub's cache (default: the "
     "one that its run read)",
     CLI_GROUP_MODEL},
    {NULL, 0, NULL, 0, "Export:", CLI_GROUP_COMMAND},
    {"out", KEY_OUT, "DIR", 0,
     "directory to write (required); an earlier export of this model is replaced, anything else is not",
     CLI_GROUP_COMMAND},
    {0}};

static error_t export_parse(int key, char *value, struct argp_state *state) {
    export_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_SOURCE:
        o->shared.model = value;
        return 0;
    case KEY_OUT:
        o->out = value;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child export_children[] = {
    {&cli_argp_mask, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0}, {0}};
const struct argp cli_export_argp = {
    .options = export_argp_options,
    .parser = export_parse,
    .doc =
        "Writes the model of a checkpoint as a Hugging Face directory: the source's files, with pruned weights zero "
        "and updated weights in place, a model card and a recipe.\vThe checkpoint must be of these weights; a hash is "
        "compared. --mask is required.",
    .children = export_children};

/* Collective. The model that the checkpoint's run read, where it was then. */
static espl_status export_find_source(espl_comm *c, export_options *o) {
    espl_str path = {0};
    espl_status st = espl_run_checkpoint_source(c, o->shared.mask, &path);
    if (st == ESPL_OK) {
        o->shared.model = path.data;
        st = espl_comm_agree(c, cli_locate_model(&o->shared, &o->shared.model)); /* copies it */
        if (st != ESPL_OK)
            ESPL_INFO("note: %s was made from %s; if that model has moved, say where by --model", o->shared.mask,
                      path.data);
    }
    espl_str_free(&path);
    return st;
}

espl_status cli_export(espl_comm *c, int argc, char **argv) {
    export_options o = {0};
    cli_model model = {0};
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_export_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.mask) return ESPL_FAIL(ESPL_USAGE, "export: --mask is missing");
    if (!o.out) return ESPL_FAIL(ESPL_USAGE, "export: --out is missing");
    if (!o.shared.model) ESPL_TRY(export_find_source(c, &o));
    espl_comm *working;
    ESPL_TRY(cli_arrange(c, &o.shared, true, &working));
    if (!working) return ESPL_OK;
    c = working;
    /* The smallest that a model takes: nothing is computed. */
    const espl_model_options options = {.context = 1, .batch_tokens = 1, .slots = 1};
    ESPL_CHECK(st, done, cli_model_open(c, &o.shared, &options, &model));
    ESPL_CHECK(st, done, espl_run_export(c, o.shared.mask, &model.masks, o.shared.model, o.out));
    ESPL_INFO("exported %s", o.out);
done:
    cli_model_close(&model);
    espl_comm_release(&working);
    return st;
}
