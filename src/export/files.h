/* SPDX-License-Identifier: Apache-2.0 */
/* Which files an export of a model consists of, and copying those that are not weights. All functions are Local. */
#ifndef ESPL_EXPORT_FILES_H
#define ESPL_EXPORT_FILES_H

#include "espalier/base/hash.h"
#include "espalier/base/str.h"
#include "espalier/weights/reader.h"

/* The file that marks a directory as an export, which the next export may replace. File names alone would not do:
 * another model of the same family has the same ones. */
#define ESPL_EXPORT_MARKER "espalier_export.json"
/* The files that an export writes about itself (espl_export_about). */
#define ESPL_EXPORT_CARD "README.md"
#define ESPL_EXPORT_RECIPE "espalier_recipe.json"

/* Zero-initialise; free with espl_export_files_free. */
typedef struct export_files {
    char **sources; /* [n_copied] owned; names in the source of the files to copy, sorted */
    char **names;   /* [n] owned; first the same files' names in the export, then card, recipe and the shards; without
                       the marker */
    int64_t n, n_copied;
    espl_map *known; /* all these names and the marker */
} export_files;

/* Lists the files that an export of the model with tensors w, read from directory `source`, has. Files of the source
 * that are left out are named in a note, unless `quiet`. ESPL_IO, ESPL_NOMEM. */
espl_status espl_export_files_list(export_files *f, const espl_weights *w, const char *source, bool quiet);
/* Is this the name of a file of the export, finished or not (NAME.part)? */
bool espl_export_files_know(const export_files *f, const char *name);
/* Copies the files that are not weights from directory `source` to directory `target` and forces them onto the disk.
 * ESPL_IO. */
espl_status espl_export_files_copy(const export_files *f, const char *source, const char *target);
void espl_export_files_free(export_files *f);

/* Does the path DIR/NAME lead out of the model directory DIR, by a link? A repository from a hub may hold a link to a
 * private file of whoever clones it, and an export would publish that file. The cache of Hugging Face keeps the files
 * of snapshots/REVISION in blobs beside it: such a link is part of the model. */
bool espl_export_leads_out(const char *dir, const char *path);

/* The part of a path behind its last slash. Borrowed. */
const char *espl_export_base_name(const char *path);
/* Sets *out to "DIR/NAME" and `suffix`. Owned by the caller, also after ESPL_NOMEM. */
espl_status espl_export_join(const char *dir, const char *name, const char *suffix, espl_str *out);

#endif
