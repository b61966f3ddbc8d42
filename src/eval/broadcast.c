/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distributes what rank 0 has read. Only rank 0 needs files and a tokenizer; every rank needs the same token ids,
 * because each plans the same micro-batches for itself.
 */
#include "broadcast.h"

espl_status espl_eval_broadcast_array(espl_comm *c, void *inout, int64_t n, size_t size, const char *what) {
    void **array = inout;
    espl_status st = espl_comm_rank(c) == 0 ? ESPL_OK : espl_mem_alloc(array, n, size, what);
    /* A rank without memory must not leave the others waiting in the broadcast. */
    ESPL_TRY(espl_comm_agree(c, st));
    espl_comm_broadcast(c, *array, n * (int64_t)size, 0);
    return ESPL_OK;
}

espl_status espl_prompts_broadcast(espl_comm *c, espl_prompts *p) {
    int64_t counts[3] = {p->n_ids, p->n_families, p->n};
    espl_comm_broadcast(c, counts, sizeof counts, 0);
    p->n_ids = counts[0];
    p->n_families = counts[1];
    p->n = counts[2];
    ESPL_TRY(espl_eval_broadcast_array(c, &p->ids, p->n_ids, sizeof *p->ids, "prompt ids"));
    ESPL_TRY(espl_eval_broadcast_array(c, &p->families, p->n_families, sizeof *p->families, "prompt families"));
    return espl_eval_broadcast_array(c, &p->prompts, p->n, sizeof *p->prompts, "prompts");
}
