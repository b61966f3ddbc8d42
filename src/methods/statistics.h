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
    block_sum *gradients;   /* [places] of [out, in] squares of the block-local gradient */
    block_sum **all;        /* [n] */
    int n;                  /* of `all`: the sums that the pass wants */
    espl_block_input *seen; /* [places] of one sample */
    float **parts;          /* [places] the parts of `gradients` */
    float *output;          /* [window, hidden] of one sample, for its gradient */
} block_statistics;

/* Local. Buffers for what the pass collects. comm and block may be NULL when the pool only counts. */
void espl_statistics_take(block_statistics *s, const method_plan *plan, const pass_plan *pass, espl_comm *comm,
                          espl_block *block, pool *buffers);
/* Collective. Totals over all samples of the loaded block; states [local, window, hidden] are its inputs. */
espl_status espl_statistics_collect(block_statistics *s, int64_t layer, const float *states);
/* Local. ||X_j||_2 of an input at its owner: over all samples, or of the mean sample. norm [in]. Of an expert that no
 * token reached: as of one token with features of 1; its Hessian is a unit matrix. */
void espl_statistics_norm(const block_statistics *s, int input, bool mean, float *norm);

#endif
