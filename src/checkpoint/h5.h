/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HDF5 as this room uses it: files, attributes, and contiguous datasets that are checked before a byte of them is
 * believed. Private to the checkpoint room.
 *
 * HDF5 never prints here: the reason of a failed call is kept and goes into the message of espl_h5_fail.
 */
#ifndef ESPL_CHECKPOINT_H5_H
#define ESPL_CHECKPOINT_H5_H

#include "espalier/checkpoint.h"

#include <hdf5.h>

/* H5_CLOSE(T, type) closes an id that may have failed to open. */
#define H5_CLOSE(kind, id)                                                                                             \
    do {                                                                                                               \
        if ((id) >= 0) H5##kind##close(id);                                                                            \
    } while (0)

/* ------------------------------------------------------------------ files */

/* A file held open by HDF5. Zero-initialise it with a path. */
typedef struct h5_file {
    hid_t id;                     /* < 0: closed */
    const char *path;             /* borrowed; messages name it */
    const char *opened;           /* what is opened instead of `path`; NULL: path itself */
    int64_t bytes;                /* size of an existing file when it was opened */
    const espl_checkpoint_io *io; /* H5_CREATE: alignment; H5_SHARED: hints; NULL: none */
} h5_file;

typedef enum h5_mode {
    H5_CREATE, /* a new file, or the old one emptied */
    H5_READ,
    H5_UPDATE, /* read and write by this process alone */
    H5_SHARED  /* Collective: all ranks write one file through MPI-IO. Each rank must have seen the file before */
} h5_mode;

/* Records the failure "PATH: WHAT: REASON", the reason taken from HDF5, and returns code. */
espl_status espl_h5_fail(espl_status code, const char *path, const char *what);
/* Drops the reason of a call that was allowed to fail; a later failure must not be reported with it. */
void espl_h5_forget(void);

/* Opens f->path. Local, but for H5_SHARED. c may be NULL for the other modes. ESPL_IO; ESPL_FORMAT for a file that can
 * be read but is not HDF5. f->id is then < 0. */
espl_status espl_h5_open(h5_file *f, h5_mode mode, const espl_comm *c);
/* Local. Makes an empty file at f->path, or empties it, through MPI-IO: hints about the place of a file on disk, such
 * as stripes, count only when it is made. One process makes it: MPI-IO hangs if a rank cannot see what another one has
 * made. ESPL_IO. */
espl_status espl_h5_make(const h5_file *f);
/* Closes the file if it is open. A full disk may show only here: check the status after writing. */
espl_status espl_h5_close(h5_file *f);

/* ------------------------------------------------------------- attributes */

/* Scalar attributes of an open object. `name`: the object's, for messages. ESPL_IO; ESPL_FORMAT for a missing attribute
 * or another type. Texts are fixed UTF-8 strings of less than `size` bytes. */
espl_status espl_h5_put_text(const h5_file *f, hid_t object, const char *key, const char *text);
espl_status espl_h5_put_number(const h5_file *f, hid_t object, const char *key, hid_t type, const void *value);
espl_status espl_h5_get_text(const h5_file *f, hid_t object, const char *name, const char *key, char *buf, size_t size);
espl_status espl_h5_get_number(const h5_file *f, hid_t object, const char *name, const char *key, hid_t type,
                               void *value);

/* A fixed UTF-8 string type of this many bytes (at least 1). < 0 on failure. Close with H5_CLOSE(T, ...). */
hid_t espl_h5_text_type(int64_t bytes);

#endif
