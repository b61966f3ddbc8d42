/* SPDX-License-Identifier: Apache-2.0 */
/* The writing half of the room: layout.c decides where each tensor goes, writer.c writes the file. */
#ifndef ESPL_WEIGHTS_LAYOUT_H
#define ESPL_WEIGHTS_LAYOUT_H

#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "espalier/weights/writer.h"

typedef struct espl_weights_place {
    char *name;     /* owned; for messages */
    int64_t bytes;  /* 0: the tensor lies in another file */
    int64_t offset; /* from the end of the header */
} espl_weights_place;

struct espl_weights_writer {
    char *path, *part;           /* owned; the file and its unfinished form */
    espl_weights_place *tensors; /* in the caller's order */
    int64_t n;
    espl_str header; /* with its size in front */
    int64_t file_bytes;
    int fd;       /* of `part`, -1 while closed */
    bool started; /* by this process, and not finished: it removes `part` if it gives up */
};

/* Both fill tensors, n, header and file_bytes; on failure what is filled is the writer's to free. */
espl_status espl_weights_lay_out(espl_weights_writer *w, const espl_tensor_spec *specs, int64_t n);
espl_status espl_weights_lay_out_like(espl_weights_writer *w, const espl_weights *like, int64_t shard);

#endif
