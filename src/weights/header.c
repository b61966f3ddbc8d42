/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of one safetensors file, read as hostile input. A file that passes has tensors of known dtype and bounded
 * shape whose bytes lie inside the file and cover its data exactly once, so that later code may use `data` and `bytes`
 * without checks. Nothing behind the header is read here: opening a model must not load its weights.
 */
#include "shards.h"

#include "espalier/base/absent.h"
#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The limit of the reference implementation; without one a hostile size would ask for any amount of memory. */
#define MAX_HEADER_BYTES 100000000
/* 2^53: cJSON keeps numbers as double, which holds every integer up to here. */
#define MAX_INTEGER 9007199254740992.0
/* The little-endian header size at the start of the file. */
#define SIZE_BYTES 8

/* Dtypes that the format defines and this program does not read. Their tensors are known by place and name only, so
 * that one that no model needs, such as a table of F64, does not stand in the way. */
static const struct {
    const char *name;
    int64_t bits; /* of an element */
} foreign_dtypes[] = {{"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},
                      {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},     {"F8_E8M0", 8},
                      {"I16", 16}, {"U16", 16},    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
                      {"U32", 32}, {"C64", 64},    {"F64", 64},        {"U64", 64}};
enum { BITS_PER_BYTE = 8 };

/* Names are printed in errors and reports. UTF-8 is checked for the whole header. */
bool espl_weights_name_is_clean(const char *name) {
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) return false;
    return true;
}

/* Finds the header's text and checks what cJSON does not. cJSON accepts bytes that are not UTF-8, and ends a string at
 * \u0000: without these checks one tensor name could pose as another. */
static espl_status header_find_text(const espl_weights_shard *s, const char **text, int64_t *size) {
    int64_t len = s->map.len;
    /* Interrupted downloads are the usual fault: a message says "cut off?" where one would look like this. */
    if (len < SIZE_BYTES)
        return ESPL_FAIL(ESPL_FORMAT, "%s: %" PRId64 " bytes are too few for a safetensors file (cut off?)", s->path,
                         len);
    /* A clone without git-lfs holds a small text file in place of the weights. */
    if (espl_file_is_lfs_pointer(s->map.data, len)) return espl_file_fail_lfs_pointer(s->path);
    uint64_t n = 0;
    for (int i = SIZE_BYTES - 1; i >= 0; i--) n = n << 8 | s->map.data[i];
    if (n > MAX_HEADER_BYTES)
        return ESPL_FAIL(ESPL_FORMAT, "%s: header of %" PRIu64 " bytes, at most %d allowed (a safetensors file?)",
                         s->path, n, MAX_HEADER_BYTES);
    if ((int64_t)n > len - SIZE_BYTES)
        return ESPL_FAIL(ESPL_FORMAT, "%s: header of %" PRIu64 " bytes in a file of %" PRId64 " (cut off?)", s->path, n,
                         len);

    const char *p = (const char *)s->map.data + SIZE_BYTES;
    if (n == 0 || p[0] != '{') return ESPL_FAIL(ESPL_FORMAT, "%s: header is not a JSON object", s->path);
    for (int64_t i = 0, step; i < (int64_t)n; i += step) {
        step = espl_utf8_length(p + i, (int64_t)n - i);
        if (step == 0 || p[i] == '\0')
            return ESPL_FAIL(ESPL_FORMAT, "%s: header is not UTF-8 text at byte %" PRId64, s->path, i);
    }
    if (memmem(p, n, "\\u0000", 6)) return ESPL_FAIL(ESPL_FORMAT, "%s: header with an escaped NUL character", s->path);
    *text = p;
    *size = (int64_t)n;
    return ESPL_OK;
}

/* A whole number from 0 to MAX_INTEGER: shapes and offsets. */
static bool json_is_count(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(v >= 0 && v <= MAX_INTEGER)) return false; /* NaN included: the cast below would be undefined */
    *out = (int64_t)v;
    return (double)*out == v;
}

/* Sets dtype, dims, count and bytes of t. Products are checked for overflow: a hostile shape must not wrap around to a
 * small number of bytes. */
static espl_status entry_read_shape(const cJSON *dtype, const cJSON *shape, espl_tensor_info *t) {
    const char *name = cJSON_GetStringValue(dtype);
    if (!name) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": no dtype string", t->file, t->name);
    int64_t bits = 0;
    if (espl_dtype_parse(name, &t->dtype)) {
        bits = BITS_PER_BYTE * (int64_t)espl_dtype_size(t->dtype);
    } else {
        for (size_t i = 0; i < sizeof foreign_dtypes / sizeof *foreign_dtypes; i++)
            if (strcmp(name, foreign_dtypes[i].name) == 0) {
                t->foreign = foreign_dtypes[i].name;
                t->dtype = ESPL_DTYPE_U8; /* no float: nothing computes with it */
                bits = foreign_dtypes[i].bits;
            }
        if (!t->foreign)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": unknown dtype \"%s\"", t->file, t->name,
                             espl_weights_name_is_clean(name) ? name : "?");
    }

    if (!cJSON_IsArray(shape)) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": no shape array", t->file, t->name);
    t->count = 1;
    const cJSON *dim;
    cJSON_ArrayForEach(dim, shape) {
        if (t->n_dims == ESPL_WEIGHTS_MAX_DIMS)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: tensor \"%s\": more than %d dimensions", t->file, t->name,
                             ESPL_WEIGHTS_MAX_DIMS);
        int64_t *d = &t->dims[t->n_dims++];
        if (!json_is_count(dim, d))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": dimension %d is not a whole number >= 0", t->file,
                             t->name, t->n_dims - 1);
        if (!espl_mul_i64(t->count, *d, &t->count))
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": shape overflows", t->file, t->name);
    }
    if (!espl_mul_i64(t->count, bits, &t->bytes) || t->bytes % BITS_PER_BYTE != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": shape overflows, or ends within a byte", t->file, t->name);
    t->bytes /= BITS_PER_BYTE;
    return ESPL_OK;
}

/* Sets offset and data of t. The file counts data_offsets from the end of the header. */
static espl_status entry_read_offsets(const cJSON *item, const espl_weights_shard *s, espl_tensor_info *t) {
    int64_t begin, end, room = s->map.len - s->data_start;
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 2 || !json_is_count(cJSON_GetArrayItem(item, 0), &begin) ||
        !json_is_count(cJSON_GetArrayItem(item, 1), &end))
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
    /* `begin <= end <= room` holds, so the difference cannot overflow. */
    if (end - begin != t->bytes)
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": %" PRId64 " data bytes, its shape and dtype need %" PRId64,
                         t->file, t->name, end - begin, t->bytes);
    t->offset = s->data_start + begin;
    t->data = s->map.data + t->offset;
    return ESPL_OK;
}

/* One member of the header: "NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}. */
static espl_status header_read_entry(const cJSON *entry, const espl_weights_shard *s, int64_t number,
                                     espl_tensor_info *t) {
    enum { DTYPE, SHAPE, OFFSETS, KEYS };
    static const char *const keys[KEYS] = {"dtype", "shape", "data_offsets"};
    const cJSON *found[KEYS] = {0}, *item;
    *t = (espl_tensor_info){.name = entry->string, .file = s->path, .shard = number};
    /* Not quoted in the message: that is what the name must not reach. */
    if (!espl_weights_name_is_clean(t->name) || !*t->name)
        return ESPL_FAIL(ESPL_FORMAT, "%s: header with an empty tensor name or control characters in one", s->path);
    if (!cJSON_IsObject(entry))
        return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": its entry is not an object", t->file, t->name);
    /* Each key exactly once: cJSON keeps repeated keys and would return the first, other readers the last. */
    cJSON_ArrayForEach(item, entry) {
        int k = 0;
        while (k < KEYS && strcmp(item->string, keys[k]) != 0) k++;
        if (k == KEYS)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": unexpected key in its entry", t->file, t->name);
        if (found[k]) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": \"%s\" twice", t->file, t->name, keys[k]);
        found[k] = item;
    }
    for (int k = 0; k < KEYS; k++)
        if (!found[k]) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\": no \"%s\"", t->file, t->name, keys[k]);
    ESPL_TRY(entry_read_shape(found[DTYPE], found[SHAPE], t));
    return entry_read_offsets(found[OFFSETS], s, t);
}

/* In the order of their bytes, for the check of coverage. */
static int tensor_by_offset(const void *a, const void *b) {
    const espl_tensor_info *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty tensors first: they share their neighbour's offset */
}

/* The order is: text, entries one by one, then how they lie together. Entries that were appended before a failure stay
 * in w, which the caller closes. */
espl_status espl_weights_read_header(espl_weights *w, int64_t number) {
    espl_weights_shard *s = &w->shards[number];
    char where[ESPL_ERROR_TEXT_MAX];
    const char *text = NULL;
    int64_t size = 0, first = w->count;
    ESPL_TRY(header_find_text(s, &text, &size));
    snprintf(where, sizeof where, "%s: header", s->path);
    ESPL_TRY(espl_json_parse(text, size, where, &s->header));
    s->data_start = SIZE_BYTES + size;

    /* One slot too many if there is metadata; t->name stays valid as long as the header does. */
    const cJSON *entry;
    ESPL_TRY(espl_mem_resize(&w->tensors, w->count + cJSON_GetArraySize(s->header), sizeof *w->tensors, "tensor list"));
    cJSON_ArrayForEach(entry, s->header) {
        if (strcmp(entry->string, "__metadata__") != 0)
            ESPL_TRY(header_read_entry(entry, s, number, &w->tensors[w->count++]));
        else if (!cJSON_IsObject(entry) && !cJSON_IsNull(entry)) /* null is none, as for the safetensors library */
            return ESPL_FAIL(ESPL_FORMAT, "%s: __metadata__ is not an object", s->path);
    }

    /* The tensors must lie end to end: a gap could hide data, an overlap make two tensors change together. */
    espl_tensor_info *t = w->tensors + first;
    int64_t n = w->count - first, at = s->data_start;
    if (n > 0) qsort(t, (size_t)n, sizeof *t, tensor_by_offset);
    for (int64_t i = 0; i < n; i++) {
        if (t[i].offset > at)
            return ESPL_FAIL(ESPL_FORMAT, "%s: gap of %" PRId64 " bytes before tensor \"%s\"", s->path,
                             t[i].offset - at, t[i].name);
        if (t[i].offset < at)
            return ESPL_FAIL(ESPL_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", s->path, t[i - 1].name, t[i].name);
        at += t[i].bytes;
    }
    if (at != s->map.len)
        return ESPL_FAIL(ESPL_FORMAT, "%s: the last %" PRId64 " bytes belong to no tensor", s->path, s->map.len - at);
    return ESPL_OK;
}
