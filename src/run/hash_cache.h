/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tensor hashes of a model, kept in the run directory: a resumed run then does not read the whole model before it
 * starts. They are used only while every rank sees the files that they were made from.
 */
#ifndef ESPL_RUN_HASH_CACHE_H
#define ESPL_RUN_HASH_CACHE_H

#include "espalier/comm.h"
#include "espalier/model/model.h"

/* Collective. The hashes of all tensors of the model, as espl_model_hash_tensors gives them. `path` (the same on all
 * ranks; NULL: no cache): the file that holds them, which is written if it does not hold them yet; that it cannot be
 * written is a note, not a failure. */
espl_status espl_hash_cache_tensors(espl_comm *c, const espl_model *m, const char *path, uint64_t *hashes);

/* Local. True if the file, which is untrusted, holds the hashes of these tensors in the files that `files` describes.
 * One that is damaged, or of other files, is no failure: it is replaced. */
bool espl_hash_cache_read(const char *path, const espl_weights *w, const espl_str *files, uint64_t *hashes);

#endif
