/* Reading a checkpoint: every rank opens the file for itself and takes the layers it holds. */
#include "internal.h"

#include <inttypes.h>

static espl_status require_root(const h5file *f, const espl_checkpoint_shape *shape, root *top) {
    ESPL_TRY(espl_skeleton_read_root(f, top));
    if (!top->complete) return ESPL_FAIL(ESPL_FORMAT, "%s: is not complete", f->path);
    if (top->layers == shape->layers) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "%s is of a model of %" PRId64 " layers, and this one has %" PRId64, f->path,
                     top->layers, shape->layers);
}

static espl_status read_records(const h5file *f, const espl_checkpoint_shape *shape, espl_checkpoint *out) {
    records r;
    espl_status st = espl_skeleton_read(f, &r);
    if (st == ESPL_OK) st = espl_records_unpack(&r, shape, out->iteration, f->path, out);
    espl_records_free(&r);
    return st;
}

static espl_status read_file(const espl_comm *c, const h5file *f, const espl_checkpoint_shape *shape,
                             espl_checkpoint *out) {
    root top;
    ESPL_TRY(require_root(f, shape, &top));
    out->iteration = top.iteration;
    out->revision = top.revision;
    out->update_dtype = top.update_dtype;
    if (espl_comm_rank(c) == 0) ESPL_TRY(read_records(f, shape, out));
    return espl_slab_read(f, shape, SLAB_MASKS, ESPL_DTYPE_U8, (void *const *)out->masks);
}

espl_status espl_checkpoint_read(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                 espl_checkpoint *out) {
    h5file f = {.path = path};
    *out = (espl_checkpoint){.masks = out->masks};
    espl_status st = espl_h5_open(&f, H5_READ, NULL);
    if (st == ESPL_OK) st = read_file(c, &f, shape, out);
    espl_h5_close(&f);
    st = espl_comm_agree(c, st);
    if (st != ESPL_OK) espl_checkpoint_free(out);
    return st;
}

espl_status espl_checkpoint_has_updates(espl_comm *c, const char *path, bool *has, espl_dtype *dtype) {
    h5file f = {.path = path};
    root top = {0};
    espl_status st = espl_h5_open(&f, H5_READ, NULL);
    if (st == ESPL_OK) st = espl_skeleton_read_root(&f, &top);
    espl_h5_close(&f);
    *has = top.has_updates;
    *dtype = top.update_dtype;
    return espl_comm_agree(c, st);
}

static espl_status read_updates(const h5file *f, const espl_checkpoint_shape *shape, void *const *updates) {
    root top;
    ESPL_TRY(require_root(f, shape, &top));
    if (!top.has_updates) return ESPL_FAIL(ESPL_FORMAT, "%s: holds no updated weights", f->path);
    return espl_slab_read(f, shape, SLAB_UPDATES, top.update_dtype, updates);
}

espl_status espl_checkpoint_read_updates(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                         void *const *updates) {
    h5file f = {.path = path};
    espl_status st = espl_h5_open(&f, H5_READ, NULL);
    if (st == ESPL_OK) st = read_updates(&f, shape, updates);
    espl_h5_close(&f);
    return espl_comm_agree(c, st);
}
