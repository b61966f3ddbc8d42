/* model.safetensors.index.json: which shard holds which tensor. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

#define MAX_INDEX_BYTES 100000000

/* A shard is a plain file name: no way out of the model's directory. */
static bool is_file_name(const char *s) {
    return *s && s[0] != '.' && !strchr(s, '/') && !strchr(s, '\\') && espl_weights_name_is_clean(s);
}

static espl_status read_map(const cJSON *doc, const char *path, const cJSON **out) {
    const cJSON *map = espl_json_member(doc, "weight_map"), *item;
    if (!cJSON_IsObject(map)) return ESPL_FAIL(ESPL_FORMAT, "%s: no \"weight_map\" object", path);
    if (!map->child) return ESPL_FAIL(ESPL_FORMAT, "%s: \"weight_map\" is empty", path);
    cJSON_ArrayForEach(item, map) {
        if (!espl_weights_name_is_clean(item->string))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor name with control characters", path);
        if (!cJSON_IsString(item) || !is_file_name(item->valuestring))
            return ESPL_FAIL(ESPL_FORMAT, "%s: the shard of tensor \"%s\" is not a plain file name", path,
                             item->string);
    }
    *out = map;
    return ESPL_OK;
}

/* names: tensor -> position in `map`, shards: file name -> position of its first mention. */
static espl_status collect(const cJSON *map, const char *path, espl_map *names, espl_map *shards) {
    const cJSON *item;
    int64_t i = 0;
    cJSON_ArrayForEach(item, map) {
        int64_t name_len = (int64_t)strlen(item->string), file_len = (int64_t)strlen(item->valuestring);
        if (espl_map_get(names, item->string, name_len, NULL))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" is listed twice", path, item->string);
        ESPL_TRY(espl_map_put(names, item->string, name_len, i));
        if (!espl_map_get(shards, item->valuestring, file_len, NULL))
            ESPL_TRY(espl_map_put(shards, item->valuestring, file_len, i));
        i++;
    }
    return ESPL_OK;
}

static espl_status open_shards(espl_weights *w, const char *dir, const cJSON *map, const espl_map *shards) {
    const cJSON *item;
    int64_t i = 0, first;
    ESPL_TRY(espl_mem_alloc(&w->shards, espl_map_count(shards), sizeof *w->shards, "shard list"));
    cJSON_ArrayForEach(item, map) {
        char *path;
        bool known = espl_map_get(shards, item->valuestring, (int64_t)strlen(item->valuestring), &first);
        if (known && first == i) {
            ESPL_TRY(espl_weights_join(dir, item->valuestring, &path));
            ESPL_TRY(espl_weights_add_shard(w, path));
        }
        i++;
    }
    return ESPL_OK;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Both name the same tensors, each in the same shard. */
static espl_status compare(const espl_weights *w, const cJSON *map, const espl_map *names, const char *path) {
    const cJSON *item;
    cJSON_ArrayForEach(item, map) {
        int64_t i;
        if (!espl_map_get(w->by_name, item->string, (int64_t)strlen(item->string), &i))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" is not in shard %s", path, item->string,
                             item->valuestring);
        if (strcmp(base_name(w->tensors[i].file), item->valuestring) != 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" is listed in shard %s but lies in %s", path, item->string,
                             item->valuestring, base_name(w->tensors[i].file));
    }
    for (int64_t i = 0; i < w->count; i++)
        if (!espl_map_get(names, w->tensors[i].name, (int64_t)strlen(w->tensors[i].name), NULL))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" of shard %s is not listed", path, w->tensors[i].name,
                             base_name(w->tensors[i].file));
    return ESPL_OK;
}

static espl_status open_with_maps(espl_weights *w, const char *dir, const char *path, const cJSON *doc, espl_map *names,
                                  espl_map *shards) {
    const cJSON *map = NULL;
    ESPL_TRY(read_map(doc, path, &map));
    ESPL_TRY(collect(map, path, names, shards));
    ESPL_TRY(open_shards(w, dir, map, shards));
    return compare(w, map, names, path);
}

espl_status espl_weights_open_index(espl_weights *w, const char *dir, const char *path) {
    struct cJSON *doc = NULL;
    espl_map *names = NULL, *shards = NULL;
    espl_status st = espl_json_read(path, MAX_INDEX_BYTES, &doc);
    if (st == ESPL_OK) st = espl_map_create(&names, 512);
    if (st == ESPL_OK) st = espl_map_create(&shards, 16);
    if (st == ESPL_OK) st = open_with_maps(w, dir, path, doc, names, shards);
    espl_map_destroy(&shards);
    espl_map_destroy(&names);
    espl_json_free(&doc);
    return st;
}
