/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model directory from a checkpoint, without the run: of an earlier iteration, of a run that was stopped, or of one
 * that did not export.
 */
#ifndef ESPALIER_RUN_EXPORT_H
#define ESPALIER_RUN_EXPORT_H

#include "espalier/model/masks.h"

/* Collective. Appends to *model, on every rank, the directory or hub id of the model that the checkpoint's run read:
 * model.path of the configuration in the checkpoint. A status of espl_checkpoint_read. */
espl_status espl_run_checkpoint_source(espl_comm *c, const char *checkpoint, espl_str *model);

/* Collective. Writes the model as the checkpoint has pruned it to the directory `dir`, as a run writes its model/
 * (espalier/export.h), with a card and a recipe that say what the checkpoint holds: the dense model's and its own
 * perplexity on the validation text, decisions, configuration. `masks`: the checkpoint's, applied to a model that was
 * opened from directory `source`; nobody has compared them if the caller has not. ESPL_IO, ESPL_FORMAT, ESPL_CONFIG,
 * ESPL_NOMEM; `dir` is then as before. */
espl_status espl_run_export(espl_comm *c, const char *checkpoint, const espl_masks *masks, const char *source,
                            const char *dir);

#endif
