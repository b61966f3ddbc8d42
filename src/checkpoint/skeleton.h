/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything of the file but the content of masks and updates: groups, attributes, tables, texts, checksums. One
 * process writes it. Private to the checkpoint room.
 */
#ifndef ESPL_CHECKPOINT_SKELETON_H
#define ESPL_CHECKPOINT_SKELETON_H

#include "h5.h"
#include "records.h"
#include "slabs.h"

/* The attributes of the file's root. */
typedef struct skeleton_root {
    int64_t iteration, revision, layers;
    bool has_updates, complete;
    espl_dtype update_dtype; /* ESPL_DTYPE_F32 without updates */
} skeleton_root;

/* Local, on rank 0. Writes the skeleton into the open file `image`; masks and updates are holes in it. part: the name
 * for messages. io: alignment; may be NULL. checksums[kind] [linears], NULL for updates without
 * updates. */
espl_status espl_skeleton_write(const char *part, int image, const espl_checkpoint_shape *shape,
                                const skeleton_root *root, const espl_checkpoint_io *io, checkpoint_records *r,
                                uint64_t *const checksums[SLAB_KINDS]);
/* Local, on rank 0. Sets the attribute `complete` of a verified file. */
espl_status espl_skeleton_seal(const char *part);
/* Local. Reads and checks the root's attributes. ESPL_FORMAT. */
espl_status espl_skeleton_read_root(const h5_file *f, skeleton_root *out);
/* Local. Reads all tables and texts and verifies their checksums. Free *r with espl_records_free, also after a failure.
 */
espl_status espl_skeleton_read(const h5_file *f, checkpoint_records *r);

#endif
