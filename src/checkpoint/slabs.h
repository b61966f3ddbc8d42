/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Masks and updates: the data that all ranks hold. One dataset per kind of linear, [layers, ...] or
 * [layers * experts, ...]; every rank owns the
 * hyperslab of its layers. Private to the checkpoint room.
 */
#ifndef ESPL_CHECKPOINT_SLABS_H
#define ESPL_CHECKPOINT_SLABS_H

#include "dataset.h"
#include "espalier/checkpoint.h"

typedef enum slab_kind { SLAB_MASKS, SLAB_UPDATES, SLAB_KINDS } slab_kind;

/* The dataset of one kind of linear, and the dataset of its checksums. */
typedef struct slab {
    slab_kind kind;
    char path[64], checksums[64];
    dataset_spec spec; /* its path points to `path`: a slab must not be copied */
    int64_t pieces;    /* linears of this kind: one to a layer, or one to an expert, layer after layer */
    int64_t bytes;     /* of one of them */
    int64_t in;        /* input features */
} slab;
/* Fills *s for the linears of kind `linear`. dtype: of updates; ignored for masks. */
void espl_slab_describe(const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype, espl_linear_kind linear,
                        slab *s);
/* The linear (espl_linear_index) of a piece. */
int64_t espl_slab_linear(const espl_checkpoint_shape *shape, espl_linear_kind linear, int64_t piece);
/* The group of the datasets: "/masks", "/updates". */
const char *espl_slab_group(slab_kind kind);

/* This rank's data of one kind. */
typedef struct slab_set {
    slab_kind kind;
    espl_dtype dtype;         /* of updates */
    const void *const *items; /* [slice linears], in the order of espl_linear_index; borrowed */
    uint64_t *checksums;      /* [slice linears] */
} slab_set;

/* Local. Fills set->checksums from memory. ESPL_INTERNAL for a missing item or a mask with bits beyond its columns. */
espl_status espl_slab_checksum(const espl_checkpoint_shape *shape, slab_set *set);
/* Collective. Writes this rank's hyperslabs into f (H5_SHARED), by collective or independent calls as f->io says. fd:
 * this rank's own handle of the file, used to start the disk early and to find the reason of a failure. ESPL_IO, on
 * every rank. */
espl_status espl_slab_write(espl_comm *c, const h5_file *f, int fd, const espl_checkpoint_shape *shape,
                            const slab_set *set);
/* Local. Compares the bytes of the file, written as f->io says, with what was to be written. fd: as above. ESPL_FORMAT,
 * ESPL_IO. */
espl_status espl_slab_verify(const h5_file *f, int fd, const espl_checkpoint_shape *shape, const slab_set *set);
/* Local. Reads this rank's hyperslabs into items [slice linears], verifies the stored checksums and, for masks, that no
 * bits beyond the columns are set. ESPL_FORMAT, ESPL_IO. */
espl_status espl_slab_read(const h5_file *f, const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype,
                           void *const *items);

#endif
