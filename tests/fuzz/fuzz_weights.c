/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: weights */
/* Safetensors files and shard indexes. The first byte says what the rest is: 'f' a whole file, 'h' a header (its size
 * is put before it) up to the first NUL and data after it, 'i' a model.safetensors.index.json beside two good shards.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/base.h"
#include "espalier/weights/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

/* What the reader hands out must be readable, sorted and found by name. */
static void use(const espl_weights *w) {
    int64_t total = 0;
    uint8_t sum = 0;
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i), *r = NULL;
        const uint8_t *p = t->data;
        for (int64_t k = 0; k < t->bytes; k++) sum ^= p[k];
        total += t->bytes;
        if (espl_weights_find(w, t->name) != t) abort();
        if (i > 0 && strcmp(espl_weights_at(w, i - 1)->name, t->name) >= 0) abort();
        if ((espl_weights_require(w, t->name, t->n_dims, t->dims, &r) == ESPL_OK) != espl_dtype_is_float(t->dtype))
            abort();
    }
    sink = sum;
    if (total != espl_weights_bytes(w)) abort();
}

static void try_memory(const uint8_t *bytes, size_t n) {
    espl_weights *w;
    espl_status st = espl_weights_open_memory(bytes, (int64_t)n, "fuzz", &w);
    if ((st == ESPL_OK) != (w != NULL)) abort();
    if (w) use(w);
    espl_weights_close(&w);
}

static void try_header(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t header = nul ? (size_t)(nul - data) : size, rest = nul ? size - header - 1 : 0;
    uint8_t *file = malloc(8 + header + rest);
    if (!file) abort();
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)header >> 8 * i);
    if (header) memcpy(file + 8, data, header);
    if (rest) memcpy(file + 8 + header, nul + 1, rest);
    try_memory(file, 8 + header + rest);
    free(file);
}

static char dir[] = "/tmp/espl-fuzz-XXXXXX";

static void put_file(const char *name, const void *bytes, size_t n) {
    char path[64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) abort();
}

static void remove_dir(void) {
    static const char *const names[] = {"a", "b", "model.safetensors.index.json"};
    char path[64];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* A shard that is refused would hide everything behind it. */
static void check_shard(const char *bytes, size_t n) {
    espl_weights *w;
    if (espl_weights_open_memory(bytes, (int64_t)n, "shard", &w) != ESPL_OK) abort();
    espl_weights_close(&w);
}

static void make_dir(void) {
    static const char a[] = "\x38\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}   1";
    static const char b[] = "\x38\0\0\0\0\0\0\0{\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}   2";
    static bool made;
    if (made) return;
    if (!mkdtemp(dir)) abort();
    made = true;
    put_file("a", a, sizeof a - 1);
    put_file("b", b, sizeof b - 1);
    check_shard(a, sizeof a - 1);
    check_shard(b, sizeof b - 1);
    atexit(remove_dir);
}

static void try_index(const uint8_t *data, size_t size) {
    espl_weights *w;
    make_dir();
    put_file("model.safetensors.index.json", data, size);
    if (espl_weights_open(dir, &w) == ESPL_OK) use(w);
    espl_weights_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t before = espl_mem_balance();
    if (size == 0) return 0;
    if (data[0] == 'f') try_memory(data + 1, size - 1);
    if (data[0] == 'h') try_header(data + 1, size - 1);
    if (data[0] == 'i') try_index(data + 1, size - 1);
    if (espl_mem_balance() != before) abort();
    return 0;
}
