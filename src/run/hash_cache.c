/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: {"files": text, "tensors": {name: hash, ...}, "check": hash}. "files" names each file of the weights with
 * the state that it had; "check" covers both other members, because a hash that was damaged on the disk would look like
 * another model.
 */
#include "hash_cache.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "espalier/base/json.h"
#include "espalier/base/json_writer.h"

static const int64_t CACHE_BYTES_MAX = (int64_t)1 << 28;

/* Local. Appends one line per file of the weights. A rank that sees another file under the same name, as on disks of
 * the nodes, gets another text. */
static espl_status cache_describe_files(const espl_weights *w, espl_str *out) {
    for (int64_t i = 0; i < espl_weights_shards(w); i++) {
        const espl_file_state *s = espl_weights_shard_state(w, i);
        espl_str_printf(out, "%s bytes=%" PRId64 " inode=%" PRId64 " mtime=%" PRId64 " ctime=%" PRId64 "\n",
                        espl_weights_shard_path(w, i), s->bytes, s->inode, s->modified_ns, s->changed_ns);
    }
    return espl_str_status(out);
}

static uint64_t cache_check(const espl_str *files, const espl_weights *w, const uint64_t *hashes) {
    uint64_t check = espl_hash64(files->data, files->len, 0);
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const char *name = espl_weights_at(w, i)->name;
        check = espl_hash64(name, (int64_t)strlen(name), check);
    }
    return espl_hash64(hashes, espl_weights_count(w) * (int64_t)sizeof *hashes, check);
}

static bool cache_read_hash(const cJSON *object, const char *key, uint64_t *out) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    char *end = NULL;
    if (!cJSON_IsString(v) || strlen(v->valuestring) != 16) return false;
    *out = strtoull(v->valuestring, &end, 16);
    return *end == '\0';
}

bool espl_hash_cache_read(const char *path, const espl_weights *w, const espl_str *files, uint64_t *hashes) {
    cJSON *doc = NULL;
    uint64_t check = 0;
    if (!espl_file_exists(path) || espl_json_read(path, CACHE_BYTES_MAX, &doc) != ESPL_OK) return false;
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(doc, "files");
    const cJSON *tensors = cJSON_GetObjectItemCaseSensitive(doc, "tensors"), *v = tensors ? tensors->child : NULL;
    bool found = cJSON_IsString(text) && strcmp(text->valuestring, files->data ? files->data : "") == 0;
    for (int64_t i = 0; found && i < espl_weights_count(w); i++) { /* both in name order */
        found =
            v && strcmp(v->string, espl_weights_at(w, i)->name) == 0 && cache_read_hash(tensors, v->string, &hashes[i]);
        v = v ? v->next : NULL;
    }
    found = found && !v && cache_read_hash(doc, "check", &check) && check == cache_check(files, w, hashes);
    espl_json_free(&doc);
    return found;
}

/* Rank 0 only. */
static espl_status cache_write(const char *path, const espl_weights *w, const espl_str *files, const uint64_t *hashes) {
    espl_str text = {0};
    espl_json_writer j = espl_json_writer_on(&text);
    espl_json_open_object(&j, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&j, "files", files->data);
    espl_json_open_object(&j, "tensors", ESPL_JSON_LINES);
    for (int64_t i = 0; i < espl_weights_count(w); i++)
        espl_json_put_printf(&j, espl_weights_at(w, i)->name, "%016" PRIx64, hashes[i]);
    espl_json_close(&j);
    espl_json_put_printf(&j, "check", "%016" PRIx64, cache_check(files, w, hashes));
    espl_json_close(&j);
    espl_str_puts(&text, "\n");
    espl_status st = espl_str_status(&text);
    if (st == ESPL_OK) st = espl_file_replace(path, text.data, text.len);
    espl_str_free(&text);
    return st;
}

/* A file that was changed within a tick of its clock, after it had been hashed, would keep its times. Files that were
 * changed less than this before they were hashed are therefore not trusted to be recognised. */
static const int64_t SETTLED_NS = 2000000000;

static bool cache_files_are_settled(const espl_weights *w, int64_t now_ns) {
    bool settled = true;
    for (int64_t i = 0; i < espl_weights_shards(w); i++) {
        const espl_file_state *s = espl_weights_shard_state(w, i);
        settled &= s->modified_ns < now_ns - SETTLED_NS && s->changed_ns < now_ns - SETTLED_NS;
    }
    return settled;
}

espl_status espl_hash_cache_tensors(espl_comm *c, const espl_model *m, const char *path, uint64_t *hashes) {
    const espl_weights *w = espl_model_weights(m);
    bool root = espl_comm_rank(c) == 0;
    espl_str files = {0}, first = {0};
    struct timespec now;
    espl_status st;
    if (!path) return espl_model_hash_tensors(c, m, hashes);
    clock_gettime(CLOCK_REALTIME, &now);
    ESPL_CHECK(st, done, espl_comm_agree(c, cache_describe_files(w, &files)));
    espl_str_put(&first, files.data, files.len);
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_str_status(&first)));
    ESPL_CHECK(st, done, espl_comm_broadcast_str(c, &first, 0));
    bool differs =
        first.len != files.len || (files.data && first.data && memcmp(first.data, files.data, (size_t)files.len) != 0);
    bool unknown = root && !espl_hash_cache_read(path, w, &files, hashes);
    if (espl_comm_max(c, differs || unknown) == 0) {
        ESPL_INFO("%s: unchanged since its tensors were hashed (%s)", espl_weights_shard_path(w, 0), path);
        goto done;
    }
    ESPL_CHECK(st, done, espl_model_hash_tensors(c, m, hashes));
    if (espl_comm_max(c, differs) == 0 && root &&
        cache_files_are_settled(w, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec) &&
        cache_write(path, w, &files, hashes) != ESPL_OK)
        ESPL_INFO("note: the next start hashes the model again: %s", espl_base_error_text());
done:
    espl_str_free(&files);
    espl_str_free(&first);
    return st;
}
