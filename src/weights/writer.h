/* The writer's two files share this: layout.c plans, writer.c touches the disk. */
#ifndef ESPALIER_WEIGHTS_WRITER_H
#define ESPALIER_WEIGHTS_WRITER_H

#include "internal.h"

/* A tensor with its place. */
typedef struct planned {
    char *name; /* owned */
    espl_dtype dtype;
    int n_dims;
    int64_t dims[ESPL_WEIGHTS_MAX_DIMS];
    int64_t bytes, offset; /* from the end of the header */
    int64_t spec;          /* position in the caller's list */
} planned;

struct espl_weights_writer {
    char *path, *part; /* owned; the file and its unfinished form */
    planned *tensors;  /* in file order */
    int64_t *place;    /* caller's position -> file order */
    int64_t n;
    espl_str header;
    int64_t file_bytes;
    int fd;       /* of `part`, -1 while closed */
    bool started; /* by this process, and not finished */
};

/* Fills tensors, place, header and file_bytes. */
espl_status espl_weights_plan(espl_weights_writer *w, const espl_tensor_spec *specs, int64_t n);
/* The same, with the header of shard `number` of `like`; dtypes and shapes stay empty. */
espl_status espl_weights_plan_like(espl_weights_writer *w, const espl_weights *like, int64_t number);

#endif
