/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that compute with a model share: its tokenizer, and the model with the masks of --mask. */
#ifndef ESPL_CLI_MODEL_H
#define ESPL_CLI_MODEL_H

#include "espalier/model/masks.h"
#include "espalier/model/model.h"
#include "espalier/tokenizer.h"
#include "options.h"

/* Collective. Opens the tokenizer of a model directory on rank 0; elsewhere *t is NULL. Same status everywhere. */
espl_status cli_tokenizer_open(espl_comm *c, const char *dir, espl_tokenizer **t);

/* Collective. *out: the ranks that compute, as a grid of o->replicas replicas of o->model or, if that is 0, as many as
 * there are ranks; with `alone`, of one. NULL on ranks that are left over, which return at once. End it with
 * espl_comm_release. A status of espl_model_config_read; ESPL_USAGE: more replicas than ranks. */
espl_status cli_arrange(espl_comm *c, const cli_shared *o, bool alone, espl_comm **out);

/* Zero-initialise; free with cli_model_close. */
typedef struct cli_model {
    espl_model *m;
    espl_masks masks; /* borrowed by m; empty without --mask */
} cli_model;

/* Collective. Opens o->model and, with o->mask, prunes it as the checkpoint says: its masks, and the updated weights of
 * a method that changes them. A status of espl_model_open; ESPL_IO, ESPL_FORMAT: the checkpoint cannot be read;
 * ESPL_CONFIG: it was made for other weights. */
espl_status cli_model_open(espl_comm *c, const cli_shared *o, const espl_model_options *options, cli_model *out);
/* Local. Safe after a failure. */
void cli_model_close(cli_model *model);

#endif
