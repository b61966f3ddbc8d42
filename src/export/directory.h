/* Private to the room: the directory that an export becomes. All functions are Local, for rank 0. */
#ifndef ESPL_EXPORT_DIRECTORY_H
#define ESPL_EXPORT_DIRECTORY_H

#include "espalier/base/hash.h"
#include "espalier/base/str.h"
#include "espalier/weights/reader.h"

/* Zero-initialise; espl_export_free frees it. */
typedef struct export_place {
    const char *source;      /* borrowed */
    espl_str dir, part, old; /* where it goes, DIR.part while it grows, DIR.old while it takes an earlier one's place */
    char **names;            /* [n] files of an export of this model, but for the marker; owned */
    int64_t n, n_copied;     /* names[0 .. n_copied - 1] are copied from the source, the others are its shards */
    espl_map *known;         /* all these names and the marker's */
    bool quiet;              /* no word on what is left out */
    bool begun, replaces, has_old; /* DIR.part is ours; DIR is, DIR.old is an earlier export */
} export_place;

/* Finds out what goes where, removes what a killed export left, and makes DIR.part. w: the model's tensors. ESPL_IO:
 * dir is the source, or holds what is not an earlier export. */
espl_status espl_export_begin(export_place *p, const espl_weights *w, const char *source, const char *dir);
/* The same verdict, before there is anything to export; DIR.part is not made. */
espl_status espl_export_check(export_place *p, const espl_weights *w, const char *source, const char *dir);
/* Copies the source's other files. */
espl_status espl_export_copy(const export_place *p);
/* DIR.part is complete: gives it its name. */
espl_status espl_export_publish(export_place *p);
/* Removes DIR.part, if begun and not published. */
void espl_export_abandon(export_place *p);
void espl_export_free(export_place *p);

#endif
