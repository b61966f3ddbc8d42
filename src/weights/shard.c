/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One safetensors file, or its bytes in memory, as a shard of a model. A file is mapped, never read: a rank touches
 * only the pages of the tensors of its own layers.
 */
#include "shards.h"

#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <string.h>

espl_status espl_weights_add_shard(espl_weights *w, const char *name, const espl_mapping *memory) {
    int64_t number = w->n_shards++, first = w->count;
    espl_weights_shard *s = &w->shards[number];
    /* The shard counts from here on, so that close releases what a failure leaves. */
    *s = (espl_weights_shard){.mapped = !memory};
    ESPL_TRY(espl_str_dup(&s->path, name, "path of a shard"));
    if (memory)
        s->map = *memory;
    else
        ESPL_TRY(espl_file_map(name, &s->map));
    ESPL_TRY(espl_weights_read_header(w, number));

    /* Two tensors of one name would leave it to the order of files which one the model gets. cJSON keeps repeated keys,
     * so that both may even stand in one file. */
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
