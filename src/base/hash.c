/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3, and a hash map over it: open addressing with linear probing in a table whose size is a power of two. A slot is
 * empty if its key is NULL. The table is at most 2/3 full, so that a search always meets an empty slot. Keys are never
 * removed.
 */
#include "espalier/base/hash.h"

#include "espalier/base/memory.h"

#include <string.h>
#include <xxhash.h>

uint64_t espl_hash64(const void *bytes, int64_t n, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, (size_t)n, seed);
}

typedef struct map_slot {
    const char *key;
    int64_t len, value;
    uint64_t hash;
} map_slot;

struct espl_map {
    map_slot *slots;
    int64_t size, count;
};

/* The slot of the key, or the empty slot where it belongs. */
static map_slot *map_find(map_slot *slots, int64_t size, const char *key, int64_t len, uint64_t hash) {
    uint64_t mask = (uint64_t)size - 1;
    for (uint64_t i = hash & mask;; i = (i + 1) & mask) {
        map_slot *s = &slots[i];
        if (!s->key) return s;
        if (s->hash == hash && s->len == len && memcmp(s->key, key, (size_t)len) == 0) return s;
    }
}

/* Moves all keys to a larger table. Pointers to slots are invalid afterwards. */
static espl_status map_grow(espl_map *m, int64_t size) {
    map_slot *slots;
    ESPL_TRY(espl_mem_alloc(&slots, size, sizeof *slots, "hash map"));
    for (int64_t i = 0; i < m->size; i++) {
        const map_slot *s = &m->slots[i];
        if (s->key) *map_find(slots, size, s->key, s->len, s->hash) = *s;
    }
    espl_mem_free(&m->slots);
    m->slots = slots;
    m->size = size;
    return ESPL_OK;
}

espl_status espl_map_create(espl_map **out, int64_t expected) {
    *out = NULL;
    int64_t size = 16; /* doubled until `expected` keys fill at most 2/3 */
    while (size < INT64_MAX / 4 && size * 2 / 3 <= expected) size *= 2;
    espl_map *m;
    ESPL_TRY(espl_mem_alloc(&m, 1, sizeof *m, "hash map"));
    espl_status st = map_grow(m, size);
    if (st != ESPL_OK) espl_map_destroy(&m);
    *out = m;
    return st;
}

espl_status espl_map_put(espl_map *m, const char *key, int64_t len, int64_t value) {
    if ((m->count + 1) * 3 > m->size * 2) ESPL_TRY(map_grow(m, m->size * 2));
    uint64_t hash = espl_hash64(key, len, 0);
    map_slot *s = map_find(m->slots, m->size, key, len, hash);
    if (!s->key) m->count++;
    *s = (map_slot){.key = key, .len = len, .value = value, .hash = hash};
    return ESPL_OK;
}

bool espl_map_get(const espl_map *m, const char *key, int64_t len, int64_t *value) {
    const map_slot *s = map_find(m->slots, m->size, key, len, espl_hash64(key, len, 0));
    if (!s->key) return false;
    if (value) *value = s->value;
    return true;
}

int64_t espl_map_count(const espl_map *m) { return m->count; }

void espl_map_destroy(espl_map **m) {
    if (!m || !*m) return;
    espl_mem_free(&(*m)->slots);
    espl_mem_free(m);
}
