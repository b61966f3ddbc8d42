/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reading half of the room. Layers, bottom to top:
 *
 *   header.c   checks the header of one file and lists its tensors; touches nothing behind the header
 *   shard.c    one file or buffer: maps it, reads its header, enters its tensor names
 *   index.c    model.safetensors.index.json: opens the shards it names and compares both
 *   open.c     the public functions: open, look up, close
 */
#ifndef ESPL_WEIGHTS_SHARDS_H
#define ESPL_WEIGHTS_SHARDS_H

#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/status.h"
#include "espalier/weights/reader.h"

struct cJSON;

/* First size of maps from tensor names, which grow: a small model has about 300 tensors. */
enum { ESPL_WEIGHTS_EXPECTED = 512 };

typedef struct espl_weights_shard {
    char *path;           /* owned */
    espl_mapping map;     /* the file's bytes */
    bool mapped;          /* true: unmap `map` on close; false: the caller's memory */
    struct cJSON *header; /* owns the names of the shard's tensors */
    int64_t data_start;   /* offset of the first data byte: header and its size come before */
} espl_weights_shard;

struct espl_weights {
    espl_weights_shard *shards; /* allocated for all shards before the first is added: tensors point into them */
    int64_t n_shards;
    espl_tensor_info *tensors; /* in name order once opened */
    int64_t count;
    espl_map *by_name; /* name -> index into tensors */
    int64_t bytes;     /* of all tensors */
    char *names;       /* owns the names that espl_weights_add_prefix has made */
};

/* header.c: checks the header of w->shards[number] and appends the shard's tensors to w, in file order. */
espl_status espl_weights_read_header(espl_weights *w, int64_t number);
/* False for a name with control characters, which must not reach a terminal, a log or a path. */
bool espl_weights_name_is_clean(const char *name);

/* shard.c: adds the file `name`, or the bytes of `memory` (not NULL; borrowed until w is closed) under that name. Needs
 * room in w->shards. What a failure leaves behind, espl_weights_close releases. */
espl_status espl_weights_add_shard(espl_weights *w, const char *name, const espl_mapping *memory);

/* index.c: opens every shard that the index at `path` names; they are files of `dir`. w has no shards yet. */
espl_status espl_weights_open_index(espl_weights *w, const char *dir, const char *path);

#endif
