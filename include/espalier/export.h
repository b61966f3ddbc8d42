/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export: a pruned model as a Hugging Face directory.
 */
#ifndef ESPALIER_EXPORT_H
#define ESPALIER_EXPORT_H

#include "espalier/comm.h"

struct espl_model;
/* Collective. Writes the current, masked model as a Hugging Face directory: the source's shards with their headers to
 * the byte, pruned weights +0, all other bits as the model has them (espl_model_set_weight) or as in the source, and
 * the other files of `source` (config.json, tokenizer files, ...) but for directories, other weights and what is larger
 * than 1 GiB. Each rank writes the tensors of its slice; the result does not depend on how many there are. It grows as
 * DIR.part and appears under its name, on the disk, only when complete. An empty directory and an earlier export of
 * this model are replaced. On failure DIR is as it was, and DIR.part is gone. dir is read on rank 0. ESPL_IO naming the
 * file: also if dir is the source or holds anything else. */
espl_status espl_export_model(espl_comm *c, const struct espl_model *m, const char *source, const char *dir);
/* Collective. ESPL_IO as espl_export_model would fail for dir and what is in it. Makes dir's parent, nothing else. */
espl_status espl_export_check_model(espl_comm *c, const struct espl_model *m, const char *source, const char *dir);

#endif
