/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the methods room: statistics of a block over samples that are spread over the ranks.
 */
#ifndef ESPL_METHODS_STATISTICS_H
#define ESPL_METHODS_STATISTICS_H

#include "espalier/comm.h"
#include "espalier/model/block.h"
#include "plan.h"
#include "pool.h"

/* One sum over all samples. */
typedef struct block_sum {
    int64_t n;
    int input;     /* its owner is the input's */
    bool wide;     /* the part is f64, else f32 */
    void *part;    /* [n] over one group of samples, on this rank */
    double *total; /* [n] over all samples, at the owner; NULL where the rank never owns it */
} block_sum;

typedef struct block_statistics {
    const method_plan *plan;
    const pass_plan *pass;
    espl_comm *comm;
    espl_block *block;
    block_sum *squares;     /* [inputs] of [in] */
    block_sum *grams;       /* [inputs] of [in, in], lower triangle */
    block_sum *drifts;      /* [inputs] of [in, in], row: feature of the dense model's input */
    block_sum *gradients;   /* [places] of [out, in] squares of the block-local gradient */
    block_sum **all;        /* [n] */
    int n;                  /* of `all`: the sums that the pass wants */
    espl_block_input *seen; /* [places] of one sample */
    float **parts;          /* [places] the parts of `gradients` */
    float *output;          /* [window, hidden] of one sample, for its gradient */
    float **dense;          /* [inputs] of [window, in] of one sample, for its drifts */
    /* A staged pass: what is collected now, and the block's linears [places] in the dense and in the pruned model;
     * those of the stage and of later ones are not used. Set by its caller, borrowed. */
    espl_block_stage stage;
    const espl_linear *sources, *current;
} block_statistics;

/* Local. Buffers for what the pass collects. comm and block may be NULL when the pool only counts. */
void espl_statistics_take(block_statistics *s, const method_plan *plan, const pass_plan *pass, espl_comm *comm,
                          espl_block *block, pool *buffers);
/* Collective. Totals over the samples of the loaded block that are in `groups` of the plan's groups. states [local,
 * window, hidden], of all samples of this rank, are the block's inputs.
 *
 * Of a staged pass: totals of the inputs of s->stage. states are the residual stream where the stage begins: stages QKV
 * and O leave it as it is, GATE_UP takes it from before to behind the attention, DOWN leaves it there. With drifts,
 * dense [local, window, hidden] is the stream in the dense model, which O takes behind the attention, and DOWN to the
 * block's end; else NULL. Every sample must go through all stages in their order. */
espl_status espl_statistics_collect(block_statistics *s, int64_t layer, float *states, float *dense, espl_range groups);
/* Local. ||X_j||_2 of an input at its owner: over all samples, or of the mean sample. norm [in]. Of an expert that no
 * token reached: as of one token with features of 1; its Hessian is a unit matrix. */
void espl_statistics_norm(const block_statistics *s, int input, bool mean, float *norm);

#endif
