/* SPDX-License-Identifier: Apache-2.0 */
/* One safetensors file, or its bytes in memory, as a shard of a model. */
#include <string.h>

#include "reader.h"

espl_status espl_weights_add_shard(espl_weights *w, const char *name, const espl_mapping *memory) {
    espl_str path = {0};
    int64_t number = w->n_shards++, first = w->count;
    espl_weights_shard *s = &w->shards[number];
    espl_str_puts(&path, name);
    *s = (espl_weights_shard){.path = path.data, .mapped = !memory};
    ESPL_TRY(espl_str_status(&path));
    if (memory)
        s->map = *memory;
    else
        ESPL_TRY(espl_file_map(name, &s->map));
    ESPL_TRY(espl_weights_read_header(w, number));

    for (int64_t i = first, j; i < w->count; i++) {
        const espl_tensor_info *t = &w->tensors[i];
        int64_t len = (int64_t)strlen(t->name);
        if (espl_map_get(w->by_name, t->name, len, &j)) {
            const espl_tensor_info *other = &w->tensors[j];
            if (other->shard == number) return ESPL_FAIL(ESPL_FORMAT, "%s: tensor \"%s\" twice", t->file, t->name);
            return ESPL_FAIL(ESPL_FORMAT, "tensor \"%s\" is both in %s and in %s", t->name, other->file, t->file);
        }
        ESPL_TRY(espl_map_put(w->by_name, t->name, len, i));
        w->bytes += t->bytes;
    }
    return ESPL_OK;
}
