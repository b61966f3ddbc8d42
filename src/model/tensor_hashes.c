/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes of the tensors of a model. Each rank reads only the tensors of its own slice, which it needs for its passes
 * anyway, and its threads take one tensor each: a hash is then independent of ranks and threads. Every replica hashes
 * what it reads.
 */
#include <stdlib.h>
#include <string.h>

#include "espalier/base/hash.h"
#include "state.h"

/* A tensor's place in name order, and its hash. */
typedef struct tensor_hash {
    int64_t index;
    uint64_t hash;
} tensor_hash;

bool espl_model_owns_tensor(const espl_model *m, const char *name) {
    static const char layers[] = "model.layers.";
    if (strncmp(name, layers, sizeof layers - 1) == 0) {
        int64_t i = strtoll(name + sizeof layers - 1, NULL, 10);
        return i >= m->slice.first && i < m->slice.last;
    }
    return strcmp(name, "model.embed_tokens.weight") == 0 ? m->first : m->last;
}

espl_status espl_model_hash_tensors(espl_comm *c, const espl_model *m, uint64_t *hashes) {
    const espl_grid *grid = m->grid;
    bool root = grid->stage == 0; /* of each replica; the first one's is rank 0 */
    int64_t n = 0, tensors = espl_weights_count(m->weights);
    tensor_hash *mine = NULL, *all = NULL;
    espl_status st = espl_mem_alloc(&mine, tensors, sizeof *mine, "tensor hashes");
    if (st == ESPL_OK && root) st = espl_mem_alloc(&all, tensors, sizeof *all, "tensor hashes");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    for (int64_t i = 0; i < tensors; i++)
        if (espl_model_owns_tensor(m, espl_weights_at(m->weights, i)->name)) mine[n++].index = i;
#pragma omp parallel for schedule(dynamic)
    for (int64_t k = 0; k < n; k++) {
        const espl_tensor_info *t = espl_weights_at(m->weights, mine[k].index);
        mine[k].hash = espl_hash64(t->data, t->bytes, 0);
    }
    /* Replicas may read copies of the files on other nodes, which must be the same model. */
    uint64_t own = espl_hash64(mine, n * (int64_t)sizeof *mine, 0), first = own;
    espl_comm_broadcast(grid->peers, &first, sizeof first, 0);
    if (own != first)
        st = ESPL_FAIL(ESPL_FORMAT, "%s: rank %d reads other weights here than rank %d does",
                       espl_weights_shard_path(m->weights, 0), espl_comm_rank(c), grid->stage);
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    st = espl_comm_gather_records(grid->pipeline, mine, n, sizeof *mine, tensors, all);
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    for (int64_t k = 0; espl_comm_rank(c) == 0 && k < tensors; k++) hashes[all[k].index] = all[k].hash;
done:
    espl_mem_free(&mine);
    espl_mem_free(&all);
    return st;
}
