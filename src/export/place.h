/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that an export becomes, from DIR.part to its name. All functions are Local, for rank 0. */
#ifndef ESPL_EXPORT_PLACE_H
#define ESPL_EXPORT_PLACE_H

#include "espalier/base/str.h"
#include "files.h"

/* Zero-initialise; free with espl_export_place_free. */
typedef struct export_place {
    const char *source; /* borrowed */
    espl_str dir;       /* DIR, absolute and without links */
    espl_str part;      /* DIR.part, in which the export grows */
    espl_str old;       /* DIR.old, where an earlier export waits until the new one has its name */
    export_files files;
    bool begun;    /* DIR.part is ours */
    bool replaces; /* DIR holds an earlier export */
    bool has_old;  /* DIR.old holds one, left by a killed export */
} export_place;

/* Finds out what goes where, and whether it may: an export of the model with tensors w, read from `source`, to `dir`.
 * Creates nothing but the parent of dir. `quiet`: no notes on files that are left out. ESPL_IO: dir is the source or a
 * mount point, or holds anything but an earlier export of this model. */
espl_status espl_export_place_find(export_place *p, const espl_weights *w, const char *source, const char *dir,
                                   bool quiet);
/* Removes the DIR.part of a killed export and creates ours. ESPL_IO. */
espl_status espl_export_place_begin(export_place *p);
/* Gives the complete DIR.part its name. On failure an earlier export is in its place again. ESPL_IO. */
espl_status espl_export_place_publish(export_place *p);
/* Removes DIR.part, if begun and not published. */
void espl_export_place_abandon(export_place *p);
void espl_export_place_free(export_place *p);

#endif
