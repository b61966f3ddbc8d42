/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export: a pruned model as a Hugging Face directory (docs/run.md, "The exported model").
 */
#ifndef ESPALIER_EXPORT_H
#define ESPALIER_EXPORT_H

#include "espalier/base/str.h"
#include "espalier/comm.h"
#include "espalier/model/model.h"

/* What an export says about itself: two whole files, owned by the caller. */
typedef struct espl_export_about {
    espl_str card;   /* README.md: the model card */
    espl_str recipe; /* espalier_recipe.json: how the model was made */
} espl_export_about;

/* Collective. Writes the model as it is now, with its masks and updated weights, to the directory `dir`:
 *   - the source's shards, each with its header to the byte. Pruned weights are +0; all other weights have the bits of
 *     the model (espl_model_set_weight) or of the source;
 *   - the other files of `source` (config.json, tokenizer, ...), except directories, other weights, and files over
 *     1 GiB, which a note names;
 *   - README.md and espalier_recipe.json, from `about` (read on rank 0 only). Files of the source with these names are
 *     kept as README.base.md and espalier_recipe.base.json, and those that have these names already as
 *     README.base.base.md, and so on;
 *   - espalier_export.json, which marks the directory as replaceable.
 * Each rank writes the tensors of its slice; the bytes do not depend on the number of ranks.
 *
 * The export grows in DIR.part and gets its name once all of it is on the disk. An empty directory and an earlier
 * export of this model are replaced. On failure DIR is as before, and DIR.part is removed. `dir` is read on rank 0
 * only. ESPL_IO naming the file: also if dir is the source, a mount point, or holds anything else. ESPL_NOMEM. */
espl_status espl_export_model(espl_comm *c, const espl_model *m, const char *source, const char *dir,
                              const espl_export_about *about);

/* Collective. Fails now if `dir` is blocked, with the error of espl_export_model: a run checks it before hours of work.
 * Creates the parent of `dir`, nothing else. */
espl_status espl_export_check_model(espl_comm *c, const espl_model *m, const char *source, const char *dir);

/* Local. Appends the lines of a model card's front matter that say under which licence and for which languages `source`
 * is published: license, license_name, license_link and language, as the front matter of its README.md has them.
 * Without a license there, the file LICENSE decides: "apache-2.0", "mit" or "other". Appends nothing if neither is
 * there. A README.md or LICENSE that an export would not copy is not read. *known: a licence was found. ESPL_IO,
 * ESPL_NOMEM. */
espl_status espl_export_put_licence(const char *source, espl_str *front_matter, bool *known);

#endif
