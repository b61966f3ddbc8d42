/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the methods room: a pass over the blocks of the model with the samples spread over the ranks.
 */
#ifndef ESPL_METHODS_PASS_H
#define ESPL_METHODS_PASS_H

#include "statistics.h"

typedef struct block_pass {
    const method_plan *plan;
    const pass_plan *wanted;
    block_statistics s;
    float *states; /* [local, window, hidden]: inputs of the current block */
    pool *buffers; /* of the pass, and of whoever makes it; borrowed */
    /* What is done with each block once its statistics are collected; set by whoever makes the pass. */
    espl_status (*work)(void *context, int64_t layer); /* Local, on what this rank owns */
    void (*publish)(void *context, int64_t layer);     /* Collective, after work succeeded on every rank; or NULL */
    void *context;
} block_pass;

/* Local. Takes the buffers of a pass: statistics and states. Keeps the callbacks. comm and block may be NULL when the
 * pool only counts. */
void espl_pass_take(block_pass *p, const method_plan *plan, const pass_plan *wanted, espl_comm *comm, espl_block *block,
                    pool *buffers);
/* Local. Fills states with the embeddings of this rank's samples of ids [samples, window]. A failure of the pool that
 * the buffers were taken from shows here. */
espl_status espl_pass_embed(block_pass *p, const int32_t *ids);
/* Collective. Runs the pass: embeds ids [samples, window], then for each block collects its statistics, works,
 * publishes and computes the next block's inputs, with the masks and weights that `publish` set. Fails on every rank if
 * the buffers could not be taken on one of them. */
espl_status espl_pass_run(block_pass *p, const int32_t *ids);

#endif
