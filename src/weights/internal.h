/* What the files of this room share; not for other rooms. */
#ifndef ESPALIER_WEIGHTS_INTERNAL_H
#define ESPALIER_WEIGHTS_INTERNAL_H

#include "espalier/weights.h"

struct cJSON;

typedef struct shard {
    char *path;           /* owned */
    espl_mapping map;     /* its bytes */
    bool mapped;          /* map is ours to unmap; else borrowed memory */
    struct cJSON *header; /* owns the names of the shard's tensors */
    int64_t data_start;   /* where the tensors begin: bytes of the header and of its size */
} shard;

struct espl_weights {
    shard *shards;
    int64_t n_shards;
    espl_tensor_info *tensors; /* in name order once opened */
    int64_t count, capacity;
    espl_map *by_name; /* name -> index into tensors */
    int64_t bytes;
};

/* Checks the header of s->map and appends the shard's tensors to w, in file order. s->header then owns the names. */
espl_status espl_weights_read_header(espl_weights *w, shard *s);

/* Maps `path` (taken over, also on failure) as one more shard of w. The caller made room in w->shards. */
espl_status espl_weights_add_shard(espl_weights *w, char *path);

/* Opens every shard that `path` (a model.safetensors.index.json in `dir`) names; index and shards must agree. */
espl_status espl_weights_open_index(espl_weights *w, const char *dir, const char *path);

/* "dir/name" in new memory, owned by the caller: espl_mem_free. */
espl_status espl_weights_join(const char *dir, const char *name, char **out);

/* Refuses what must not reach a terminal, a log or a path by way of a name. */
bool espl_weights_name_is_clean(const char *name);

#endif
