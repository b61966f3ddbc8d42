/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which model a mask is of: members of a JSON object, for everything that changes a logit. The identity of a run holds
 * them, and `--mask` compares them.
 */
#ifndef ESPALIER_RUN_MODEL_IDENTITY_H
#define ESPALIER_RUN_MODEL_IDENTITY_H

#include "espalier/base/json_writer.h"
#include "espalier/model/model.h"

/* Collective. Appends the members to the object that is open in *w on rank 0 (w is NULL elsewhere): the configuration,
 * hashes of all tensors by group, and of the tokenizer in directory `dir`. `cache`: a file that keeps the hashes of the
 * tensors from one start to the next, or NULL. ESPL_IO, ESPL_NOMEM. */
espl_status espl_model_identity_put(espl_comm *c, const espl_model *m, const char *dir, const char *cache,
                                    espl_json_writer *w);
/* Local. Compares two identities, JSON objects; `path` names the file that `then` is from. Appends to *different the
 * members of `now` that have another value there, with both values of those that are no hashes, and to *missing those
 * that it does not have: an older version wrote fewer of them. Both are empty lists "a, b" if there are none.
 * ESPL_FORMAT: `then` is no identity. */
espl_status espl_model_identity_compare(const espl_str *now, const espl_str *then, const char *path,
                                        espl_str *different, espl_str *missing);

#endif
