/* SPDX-License-Identifier: Apache-2.0 */
/* The growable list of token ids. */
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/tokenizer.h"

#include <string.h>

espl_status espl_ids_append(espl_ids *to, const int32_t *ids, int64_t n) {
    if (!to->data || to->len + n > to->cap) {
        int64_t cap = to->len + n + to->cap / 2 + 64; /* half as much again: n pushes cost O(n) */
        ESPL_TRY(espl_mem_resize(&to->data, cap, sizeof *to->data, "token ids"));
        to->cap = cap;
    }
    if (n == 1) /* nearly always: a word that is one token */
        to->data[to->len] = *ids;
    else if (n > 0)
        memcpy(to->data + to->len, ids, (size_t)n * sizeof *ids);
    to->len += n;
    return ESPL_OK;
}

void espl_ids_free(espl_ids *ids) {
    espl_mem_free(&ids->data);
    ids->len = ids->cap = 0;
}
