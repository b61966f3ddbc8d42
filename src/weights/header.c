/* The header of one safetensors file, read as hostile input. Nothing past the header is touched here. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER_BYTES 100000000     /* the reference implementation's limit */
#define MAX_INTEGER 9007199254740992.0 /* 2^53: cJSON keeps numbers as double */

/* Dtypes the format knows and this program does not. */
static const char *const foreign_dtypes[] = {"BOOL",    "F4",      "F6_E2M3",     "F6_E3M2",     "I8",  "F8_E5M2",
                                             "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16",
                                             "U32",     "C64",     "F64",         "U64"};

static uint64_t load_u64(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static espl_status header_size(const shard *s, int64_t *size) {
    static const char lfs[] = "version https://git-lfs";
    int64_t len = s->map.len;
    if (len < 8)
        return ESPL_FAIL(ESPL_FORMAT, "%s: %" PRId64 " bytes are too few for a safetensors file (cut off?)", s->path,
                         len);
    if (len >= (int64_t)sizeof lfs && memcmp(s->map.data, lfs, sizeof lfs - 1) == 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: is a Git LFS pointer, not the weights (git lfs pull fetches them)", s->path);
    uint64_t n = load_u64(s->map.data);
    if (n > MAX_HEADER_BYTES)
        return ESPL_FAIL(ESPL_FORMAT, "%s: header of %" PRIu64 " bytes, at most %d allowed (a safetensors file?)",
                         s->path, n, MAX_HEADER_BYTES);
    if ((int64_t)n > len - 8)
        return ESPL_FAIL(ESPL_FORMAT, "%s: header of %" PRIu64 " bytes in a file of %" PRId64 " (cut off?)", s->path, n,
                         len);
    *size = (int64_t)n;
    return ESPL_OK;
}

/* cJSON takes any bytes, and ends a string at \u0000: a name could then pose as another. */
static espl_status check_text(const shard *s, const char *text, int64_t n) {
    if (n == 0 || text[0] != '{') return ESPL_FAIL(ESPL_FORMAT, "%s: header is not a JSON object", s->path);
    for (int64_t i = 0, len; i < n; i += len) {
        len = espl_utf8_length(text + i, n - i);
        if (len == 0 || text[i] == '\0')
            return ESPL_FAIL(ESPL_FORMAT, "%s: header is not UTF-8 text at byte %" PRId64, s->path, i);
    }
    if (memmem(text, (size_t)n, "\\u0000", 6))
        return ESPL_FAIL(ESPL_FORMAT, "%s: header with an escaped NUL character", s->path);
    return ESPL_OK;
}

bool espl_weights_name_is_clean(const char *name) {
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) return false;
    return true;
}

static bool as_integer(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(v >= 0 && v <= MAX_INTEGER)) return false;
    *out = (int64_t)v;
    return (double)*out == v;
}

static espl_status read_dtype(const cJSON *item, espl_tensor_info *t) {
    const char *name = cJSON_GetStringValue(item);
    if (!name) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": no dtype string", t->file, t->name);
    if (espl_dtype_parse(name, &t->dtype)) return ESPL_OK;
    for (size_t i = 0; i < sizeof foreign_dtypes / sizeof *foreign_dtypes; i++)
        if (strcmp(name, foreign_dtypes[i]) == 0)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: tensor \"%s\": unsupported dtype %s", t->file, t->name, name);
    return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": unknown dtype \"%s\"", t->file, t->name,
                     espl_weights_name_is_clean(name) ? name : "?");
}

static espl_status read_shape(const cJSON *item, espl_tensor_info *t) {
    if (!cJSON_IsArray(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": no shape array", t->file, t->name);
    const cJSON *dim;
    t->count = 1;
    cJSON_ArrayForEach(dim, item) {
        if (t->n_dims == ESPL_WEIGHTS_MAX_DIMS)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: tensor \"%s\": more than %d dimensions", t->file, t->name,
                             ESPL_WEIGHTS_MAX_DIMS);
        int64_t *d = &t->dims[t->n_dims++];
        if (!as_integer(dim, d))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": dimension %d is not a whole number >= 0", t->file,
                             t->name, t->n_dims - 1);
        if (!espl_mul_i64(t->count, *d, &t->count))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": shape overflows", t->file, t->name);
    }
    if (!espl_mul_i64(t->count, (int64_t)espl_dtype_size(t->dtype), &t->bytes))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": shape overflows", t->file, t->name);
    return ESPL_OK;
}

/* data_offsets count from the end of the header. */
static espl_status read_offsets(const cJSON *item, const shard *s, espl_tensor_info *t) {
    int64_t begin, end, room = s->map.len - s->data_start;
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 || !as_integer(cJSON_GetArrayItem(item, 0), &begin) ||
        !as_integer(cJSON_GetArrayItem(item, 1), &end))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": data_offsets are not two whole numbers >= 0", t->file,
                         t->name);
    if (begin > end)
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": data_offsets [%" PRId64 ", %" PRId64 "] are reversed",
                         t->file, t->name, begin, end);
    if (end > room)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: tensor \"%s\": data_offsets [%" PRId64 ", %" PRId64 "] lie outside the %" PRId64
                         " data bytes of the file (cut off?)",
                         t->file, t->name, begin, end, room);
    if (end - begin != t->bytes)
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": %" PRId64 " data bytes, its shape and dtype need %" PRId64,
                         t->file, t->name, end - begin, t->bytes);
    t->offset = s->data_start + begin;
    t->data = s->map.data + t->offset;
    return ESPL_OK;
}

/* Each of the three members once and nothing else: cJSON keeps repeated keys and would hand out the first. */
static espl_status find_members(const cJSON *entry, const espl_tensor_info *t, const cJSON *found[3]) {
    static const char *const keys[3] = {"dtype", "shape", "data_offsets"};
    const cJSON *item;
    if (!cJSON_IsObject(entry))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": its entry is not an object", t->file, t->name);
    cJSON_ArrayForEach(item, entry) {
        int k = 0;
        while (k < 3 && strcmp(item->string, keys[k]) != 0) k++;
        if (k == 3) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": unexpected key in its entry", t->file, t->name);
        if (found[k]) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": \"%s\" twice", t->file, t->name, keys[k]);
        found[k] = item;
    }
    for (int k = 0; k < 3; k++)
        if (!found[k]) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": no \"%s\"", t->file, t->name, keys[k]);
    return ESPL_OK;
}

static espl_status read_entry(const cJSON *entry, const shard *s, int64_t number, espl_tensor_info *t) {
    const cJSON *found[3] = {0};
    *t = (espl_tensor_info){.name = entry->string, .file = s->path, .shard = number};
    if (!espl_weights_name_is_clean(t->name) || !*t->name)
        return ESPL_FAIL(ESPL_FORMAT, "%s: header with an empty tensor name or control characters in one", s->path);
    ESPL_TRY(find_members(entry, t, found));
    ESPL_TRY(read_dtype(found[0], t));
    ESPL_TRY(read_shape(found[1], t));
    return read_offsets(found[2], s, t);
}

static espl_status make_room(espl_weights *w, int64_t extra) {
    if (w->tensors && w->count + extra <= w->capacity) return ESPL_OK;
    ESPL_TRY(espl_mem_resize(&w->tensors, w->count + extra, sizeof *w->tensors, "tensor list"));
    w->capacity = w->count + extra;
    return ESPL_OK;
}

static espl_status read_entries(espl_weights *w, const shard *s) {
    const cJSON *entry;
    ESPL_TRY(make_room(w, cJSON_GetArraySize(s->header)));
    cJSON_ArrayForEach(entry, s->header) {
        if (strcmp(entry->string, "__metadata__") != 0)
            ESPL_TRY(read_entry(entry, s, s - w->shards, &w->tensors[w->count++]));
        else if (!cJSON_IsObject(entry))
            return ESPL_FAIL(ESPL_FORMAT, "%s: __metadata__ is not an object", s->path);
    }
    return ESPL_OK;
}

static int by_offset(const void *a, const void *b) {
    const espl_tensor_info *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty tensors first */
}

/* The tensors t[0..n), sorted by offset, lie end to end from `at` to the end of the file. */
static espl_status check_coverage(const shard *s, const espl_tensor_info *t, int64_t n, int64_t at) {
    for (int64_t i = 0; i < n; i++) {
        if (t[i].offset > at)
            return ESPL_FAIL(ESPL_FORMAT, "%s: gap of %" PRId64 " bytes before tensor \"%s\"", s->path,
                             t[i].offset - at, t[i].name);
        if (t[i].offset < at)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", s->path, t[i - 1].name, t[i].name);
        at += t[i].bytes;
    }
    if (at == s->map.len) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: the last %" PRId64 " bytes belong to no tensor", s->path, s->map.len - at);
}

espl_status espl_weights_read_header(espl_weights *w, shard *s) {
    char where[ESPL_ERROR_TEXT_MAX];
    int64_t size = 0, first = w->count;
    ESPL_TRY(header_size(s, &size));
    const char *text = (const char *)s->map.data + 8;
    ESPL_TRY(check_text(s, text, size));
    snprintf(where, sizeof where, "%s: header", s->path);
    ESPL_TRY(espl_json_parse(text, size, where, &s->header));
    s->data_start = 8 + size;
    ESPL_TRY(read_entries(w, s));
    if (w->count > first) qsort(w->tensors + first, (size_t)(w->count - first), sizeof *w->tensors, by_offset);
    return check_coverage(s, w->tensors + first, w->count - first, s->data_start);
}
