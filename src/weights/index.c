/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.safetensors.index.json: which shard holds which tensor. It comes with the model, so it is hostile input too:
 * its file names must stay inside the model's directory, and it must agree with the shards, because a reader that
 * trusts the index and one that trusts the shards would otherwise load different models.
 */
#include "shards.h"

#include "espalier/base/hash.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <string.h>

/* An entry takes about 100 bytes: room for a million tensors, ten times as many as the largest published models have.
 */
#define MAX_INDEX_BYTES 100000000
enum { EXPECTED_SHARDS = 16 }; /* first size of a map, which grows */

/* Checks "weight_map". listed: tensor -> its position in the map; files: shard -> position of its first mention. */
static espl_status index_check(const cJSON *doc, const char *path, espl_map *listed, espl_map *files,
                               const cJSON **out) {
    const cJSON *map = espl_json_member(doc, "weight_map"), *item;
    if (!cJSON_IsObject(map)) return ESPL_FAIL(ESPL_FORMAT, "%s: no \"weight_map\" object", path);
    if (!map->child) return ESPL_FAIL(ESPL_FORMAT, "%s: \"weight_map\" is empty", path);
    int64_t i = 0;
    cJSON_ArrayForEach(item, map) {
        const char *name = item->string, *file = cJSON_GetStringValue(item);
        if (!espl_weights_name_is_clean(name))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor name with control characters", path);
        /* A path could lead out of the model's directory. */
        if (!file || !*file || *file == '.' || strpbrk(file, "/\\") || !espl_weights_name_is_clean(file))
            return ESPL_FAIL(ESPL_FORMAT, "%s: the shard of tensor \"%s\" is not a plain file name", path, name);
        if (espl_map_get(listed, name, (int64_t)strlen(name), NULL))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" is listed twice", path, name);
        ESPL_TRY(espl_map_put(listed, name, (int64_t)strlen(name), i));
        if (!espl_map_get(files, file, (int64_t)strlen(file), NULL))
            ESPL_TRY(espl_map_put(files, file, (int64_t)strlen(file), i));
        i++;
    }
    *out = map;
    return ESPL_OK;
}

/* The plain file name of a tensor's shard, as the index writes it. */
static const char *shard_file(const espl_tensor_info *t) {
    const char *slash = strrchr(t->file, '/');
    return slash ? slash + 1 : t->file;
}

/* Index and shards must name the same tensors, each in the same file. A tensor that the index does not list would be
 * found by name all the same, and one that is listed elsewhere shows that files of two models are mixed. */
static espl_status index_compare(const espl_weights *w, const cJSON *map, const espl_map *listed, const char *path) {
    const cJSON *item;
    cJSON_ArrayForEach(item, map) {
        const char *name = item->string, *file = item->valuestring;
        int64_t i;
        if (!espl_map_get(w->by_name, name, (int64_t)strlen(name), &i))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" is not in shard %s", path, name, file);
        if (strcmp(shard_file(&w->tensors[i]), file) != 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" is listed in shard %s but lies in %s", path, name, file,
                             shard_file(&w->tensors[i]));
    }
    for (int64_t i = 0; i < w->count; i++) {
        const espl_tensor_info *t = &w->tensors[i];
        if (!espl_map_get(listed, t->name, (int64_t)strlen(t->name), NULL))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" of shard %s is not listed", path, t->name, shard_file(t));
    }
    return ESPL_OK;
}

espl_status espl_weights_open_index(espl_weights *w, const char *dir, const char *path) {
    struct cJSON *doc = NULL;
    const cJSON *map = NULL, *item;
    espl_map *listed = NULL, *files = NULL;
    espl_str shard = {0};
    int64_t i = 0, first;
    espl_status st;
    ESPL_CHECK(st, done, espl_json_read(path, MAX_INDEX_BYTES, &doc));
    ESPL_CHECK(st, done, espl_map_create(&listed, ESPL_WEIGHTS_EXPECTED));
    ESPL_CHECK(st, done, espl_map_create(&files, EXPECTED_SHARDS));
    ESPL_CHECK(st, done, index_check(doc, path, listed, files, &map));

    /* Shards are opened in the order of their first mention, so that their numbers do not depend on a hash. */
    ESPL_CHECK(st, done, espl_mem_alloc(&w->shards, espl_map_count(files), sizeof *w->shards, "shard list"));
    cJSON_ArrayForEach(item, map) {
        const char *file = item->valuestring;
        if (espl_map_get(files, file, (int64_t)strlen(file), &first) && first == i) {
            shard.len = 0;
            espl_str_printf(&shard, "%s/%s", dir, file);
            ESPL_CHECK(st, done, espl_str_status(&shard));
            ESPL_CHECK(st, done, espl_weights_add_shard(w, shard.data, NULL));
        }
        i++;
    }
    ESPL_CHECK(st, done, index_compare(w, map, listed, path));
done:
    espl_str_free(&shard);
    espl_map_destroy(&files);
    espl_map_destroy(&listed);
    espl_json_free(&doc);
    return st;
}
