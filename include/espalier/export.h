/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export: a pruned model as a Hugging Face directory (docs/run.md, "The exported model").
 */
#ifndef ESPALIER_EXPORT_H
#define ESPALIER_EXPORT_H

#include "espalier/comm.h"
#include "espalier/model/model.h"

/* Collective. Writes the model as it is now, with its masks and updated weights, to the directory `dir`:
 *   - the source's shards, each with its header to the byte. Pruned weights are +0; all other weights have the bits of
 *     the model (espl_model_set_weight) or of the source;
 *   - the other files of `source` (config.json, tokenizer, ...), except directories, other weights, and files over
 *     1 GiB, which a note names;
 *   - espalier_export.json, which marks the directory as replaceable.
 * Each rank writes the tensors of its slice; the bytes do not depend on the number of ranks.
 *
 * The export grows in DIR.part and gets its name once all of it is on the disk. An empty directory and an earlier
 * export of this model are replaced. On failure DIR is as before, and DIR.part is removed. `dir` is read on rank 0
 * only. ESPL_IO naming the file: also if dir is the source, a mount point, or holds anything else. ESPL_NOMEM. */
espl_status espl_export_model(espl_comm *c, const espl_model *m, const char *source, const char *dir);

/* Collective. Fails now if `dir` is blocked, with the error of espl_export_model: a run checks it before hours of work.
 * Creates the parent of `dir`, nothing else. */
espl_status espl_export_check_model(espl_comm *c, const espl_model *m, const char *source, const char *dir);

#endif
