/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 64-bit hash and a hash map from byte strings to int64. All functions are Local.
 */
#ifndef ESPALIER_BASE_HASH_H
#define ESPALIER_BASE_HASH_H

#include "espalier/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* XXH3, 64 bits. Checkpoints and manifests store its values: the function must not change. */
uint64_t espl_hash64(const void *bytes, int64_t n, uint64_t seed);

/* Map from byte strings to int64. Keys are borrowed: they must outlive the map. Keys may contain NUL or be empty. */
typedef struct espl_map espl_map;
/* `expected`: number of keys that fit before the table grows. */
espl_status espl_map_create(espl_map **out, int64_t expected);
/* Adds a key or replaces its value. ESPL_NOMEM. */
espl_status espl_map_put(espl_map *m, const char *key, int64_t len, int64_t value);
/* True, and *value is set, if the key is present. value may be NULL. */
bool espl_map_get(const espl_map *m, const char *key, int64_t len, int64_t *value);
int64_t espl_map_count(const espl_map *m);
void espl_map_destroy(espl_map **m);

#endif
