/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contiguous datasets: described, created, checked on opening, and, the small ones, written and read whole together
 * with a checksum. Private to the checkpoint room.
 */
#ifndef ESPL_CHECKPOINT_DATASET_H
#define ESPL_CHECKPOINT_DATASET_H

#include "h5.h"

enum { DATASET_MAX_RANK = 3 };
/* A dimension that espl_dataset_open accepts as found. */
#define DATASET_ANY_DIM ((hsize_t)-1)

/* What is created, or what must be found. */
typedef struct dataset_spec {
    const char *path; /* "/masks/self_attn.q_proj"; borrowed */
    hid_t type;       /* of the elements, in the file and in memory */
    int rank;         /* 0: a scalar */
    hsize_t dims[DATASET_MAX_RANK];
    const char *description, *axes, *units; /* attributes for readers of the file, or NULL; not checked on opening */
} dataset_spec;

/* Number of elements, -1 if it overflows int64. */
int64_t espl_dataset_count(const dataset_spec *s);
/* Creates the dataset with its space reserved, unwritten, and with its describing attributes. Groups on its path must
 * exist. *out is open (H5Dclose) if it is >= 0, also after a failure. ESPL_IO. */
espl_status espl_dataset_create(const h5_file *f, const dataset_spec *s, hid_t *out);
/* Opens a dataset and compares it with *s: reached by hard links alone, type, rank, dimensions, layout, storage inside
 * the file. Dimensions that are DATASET_ANY_DIM are filled in. ESPL_FORMAT naming file, dataset, found and expected.
 * *out is open only after ESPL_OK. */
espl_status espl_dataset_open(const h5_file *f, dataset_spec *s, hid_t *out);

/* Creates a dataset, writes all of it, and stores its checksum as an attribute. bytes: of the data. ESPL_IO. */
espl_status espl_dataset_write(const h5_file *f, const dataset_spec *s, const void *data, int64_t bytes);
/* Opens a dataset as above, reads all of it into *out (owned by the caller) and verifies its checksum. element: bytes
 * of an element. ESPL_FORMAT, ESPL_IO. */
espl_status espl_dataset_read(const h5_file *f, dataset_spec *s, int64_t element, void **out);

#endif
