/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a checkpoint. Every rank opens the file on its own and reads the layers it holds; rank 0 also reads the
 * tables and texts. The ranks agree once, at the end.
 */
#include "skeleton.h"

#include <inttypes.h>

#include "espalier/base/integer.h"
#include "espalier/tensor/mask.h"

/* Opens a complete checkpoint of a model of this depth. Widths are checked where they matter: in the dimensions of the
 * masks and the profile. *f is to be closed also after a failure. */
static espl_status checkpoint_open(const char *path, const espl_checkpoint_shape *shape, h5_file *f,
                                   skeleton_root *root) {
    *f = (h5_file){.path = path};
    ESPL_TRY(espl_h5_open(f, H5_READ, NULL));
    ESPL_TRY(espl_skeleton_read_root(f, root));
    if (!root->complete) return ESPL_FAIL(ESPL_FORMAT, "%s: is not complete", path);
    if (root->layers != shape->layers)
        return ESPL_FAIL(ESPL_CONFIG, "%s is of a model of %" PRId64 " layers, and this one has %" PRId64, path,
                         root->layers, shape->layers);
    return ESPL_OK;
}

espl_status espl_checkpoint_read(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                 espl_checkpoint *out) {
    h5_file f;
    skeleton_root root;
    checkpoint_records r = {0};
    espl_status st;
    *out = (espl_checkpoint){.masks = out->masks}; /* the only input */
    ESPL_CHECK(st, done, checkpoint_open(path, shape, &f, &root));
    out->iteration = root.iteration;
    out->revision = root.revision;
    out->update_dtype = root.update_dtype;
    if (espl_comm_rank(c) == 0) {
        ESPL_CHECK(st, done, espl_skeleton_read(&f, &r));
        ESPL_CHECK(st, done, espl_records_unpack(&r, shape, root.iteration, path, out));
    }
    ESPL_CHECK(st, done, espl_slab_read(&f, shape, SLAB_MASKS, ESPL_DTYPE_U8, (void *const *)out->masks));
done:
    espl_records_free(&r);
    espl_h5_close(&f);
    st = espl_comm_agree(c, st); /* damage to the layers of one rank is a failure of all */
    if (st != ESPL_OK) espl_checkpoint_free(out);
    return st;
}

/* The widths of one kind of linear, from the dimensions of its masks. */
static espl_status checkpoint_read_widths(const h5_file *f, espl_checkpoint_shape *shape, espl_linear_kind k) {
    slab s;
    hid_t dataset;
    espl_slab_describe(shape, SLAB_MASKS, ESPL_DTYPE_U8, k, &s);
    s.spec.dims[1] = s.spec.dims[2] = DATASET_ANY_DIM;
    ESPL_TRY(espl_dataset_open(f, &s.spec, &dataset));
    espl_status st = espl_h5_get_number(f, dataset, s.path + 1, "in", H5T_STD_I64LE, &shape->in[k]);
    H5Dclose(dataset);
    ESPL_TRY(st);
    shape->out[k] = (int64_t)s.spec.dims[1];
    if (shape->out[k] < 1 || shape->in[k] < 1 || shape->in[k] > INT32_MAX ||
        (int64_t)s.spec.dims[2] != espl_mask_words(shape->in[k]))
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: dataset \"%s\" has rows of %" PRIu64 " words and an attribute \"in\" of %" PRId64
                         ": they do not fit each other",
                         f->path, s.path + 1, (uint64_t)s.spec.dims[2], shape->in[k]);
    return ESPL_OK;
}

/* The experts of a layer, from the first dimension of the masks that they have; 0 without such masks. */
static espl_status checkpoint_read_experts(const h5_file *f, espl_checkpoint_shape *shape) {
    espl_checkpoint_shape one = *shape;
    slab s;
    hid_t dataset;
    one.experts = 1; /* any: it gives the path */
    espl_slab_describe(&one, SLAB_MASKS, ESPL_DTYPE_U8, ESPL_GATE_PROJ, &s);
    if (H5Lexists(f->id, espl_slab_group(SLAB_MASKS), H5P_DEFAULT) <= 0 || H5Lexists(f->id, s.path, H5P_DEFAULT) <= 0)
        return ESPL_OK;
    for (int d = 0; d < s.spec.rank; d++) s.spec.dims[d] = DATASET_ANY_DIM;
    ESPL_TRY(espl_dataset_open(f, &s.spec, &dataset));
    H5Dclose(dataset);
    shape->experts = (int64_t)s.spec.dims[0] / espl_max_i64(shape->layers, 1);
    if (shape->experts < 1 || shape->experts * shape->layers != (int64_t)s.spec.dims[0])
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: dataset \"%s\" has %" PRIu64 " rows of experts, expected some for each of %" PRId64
                         " layers",
                         f->path, s.path + 1, (uint64_t)s.spec.dims[0], shape->layers);
    return ESPL_OK;
}

espl_status espl_checkpoint_read_shape(espl_comm *c, const char *path, espl_checkpoint_shape *out) {
    h5_file f = {.path = path};
    skeleton_root root;
    espl_status st;
    *out = (espl_checkpoint_shape){0};
    ESPL_CHECK(st, done, espl_h5_open(&f, H5_READ, NULL));
    ESPL_CHECK(st, done, espl_skeleton_read_root(&f, &root));
    out->layers = root.layers;
    ESPL_CHECK(st, done, checkpoint_read_experts(&f, out));
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        ESPL_CHECK(st, done, checkpoint_read_widths(&f, out, (espl_linear_kind)k));
done:
    espl_h5_close(&f);
    return espl_comm_agree(c, st);
}

espl_status espl_checkpoint_has_updates(espl_comm *c, const char *path, bool *has, espl_dtype *dtype) {
    h5_file f = {.path = path};
    skeleton_root root = {0};
    espl_status st = espl_h5_open(&f, H5_READ, NULL);
    if (st == ESPL_OK) st = espl_skeleton_read_root(&f, &root);
    espl_h5_close(&f);
    *has = root.has_updates;
    *dtype = root.update_dtype;
    return espl_comm_agree(c, st);
}

espl_status espl_checkpoint_read_updates(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                         void *const *updates) {
    h5_file f;
    skeleton_root root;
    espl_status st;
    ESPL_CHECK(st, done, checkpoint_open(path, shape, &f, &root));
    if (root.has_updates)
        st = espl_slab_read(&f, shape, SLAB_UPDATES, root.update_dtype, updates);
    else
        st = ESPL_FAIL(ESPL_FORMAT, "%s: holds no updated weights", path);
done:
    espl_h5_close(&f);
    return espl_comm_agree(c, st);
}
