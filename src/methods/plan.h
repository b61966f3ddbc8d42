/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the methods room: what a one-shot method will do, from the model's configuration and the options alone.
 * The driver (oneshot.c) carries the plan out, cost.c adds up what it takes.
 */
#ifndef ESPL_METHODS_PLAN_H
#define ESPL_METHODS_PLAN_H

#include "espalier/methods/options.h"
#include "espalier/model/block.h"
#include "espalier/model/shape.h"

/* The linears of a block see different inputs: of q, k, v; of o; and of each MLP or expert of gate, up; of down.
 * Statistics of the inputs are shared by the linears of an input. */
enum { ATTENTION_INPUTS = 2, MLP_INPUTS = 2 };

/* Which rank adds up the statistics of a block's inputs and works on their linears. */
typedef enum plan_owner {
    OWNER_INPUT, /* ranks in turn, input after input: spreads the Hessians and their factorization */
    OWNER_BLOCK, /* one rank for a block, ranks in turn: for measures that need all inputs of a block */
    OWNER_SLICE  /* the rank whose slice holds the block, in the first replica: for measures that stay with the slice */
} plan_owner;

/* A pass over all blocks: the statistics it collects, and their owner. */
typedef struct pass_plan {
    bool squares;   /* sums of squares of each input feature */
    bool grams;     /* X^T X of each input */
    bool drifts;    /* products of the dense model's inputs, less the pruned one's, with the pruned one's */
    bool gradients; /* sums of squares of the block-local gradient of each weight */
    bool staged;    /* of the inputs of one stage of a block at a time, which may change between stages */
    plan_owner owner;
    int64_t before; /* blocks of earlier passes, for the progress display */
} pass_plan;

typedef struct method_plan {
    const espl_model_config *config;
    const espl_method_options *o;
    int rank, ranks; /* of all replicas: they share samples and linears */
    int stages;
    const espl_range *slices; /* [stages], borrowed; NULL if no owner is asked for */
    int64_t linears;          /* of the model */
    int inputs, places;       /* inputs and linears of a block */
    int64_t blocks;           /* of all passes */
    /* The samples go to the ranks in groups of a fixed size, group g to rank g mod ranks: the groups, and with them the
     * order of every sum, do not depend on the number of ranks. */
    int64_t group, groups; /* samples of a group (fewer in the last one); number of groups */
    int64_t local;         /* samples of this rank */
    bool updating;         /* SparseGPT updates the surviving weights while it selects them */
    bool model_gradients;  /* GBLM's gradients of the model's loss are needed */
    bool outputs;          /* curvature: a calibration of the dense model gives norms and row factors */
    bool direct;           /* masks come from that calibration at once, without a pruning pass over the blocks */
    bool surveys;          /* a pass over the dense model precedes the allocation */
    pass_plan survey, prune;
} method_plan;

/* Local. */
method_plan espl_plan_make(const espl_model_config *c, const espl_method_options *o, int rank, int ranks);
/* Local. Samples of group g. */
int64_t espl_plan_group_size(const method_plan *p, int64_t g);
/* Local. Owner of an input of a block. */
int espl_plan_owner(const method_plan *p, const pass_plan *pass, int64_t layer, int input);
/* Local. False if this rank never owns this input, so that it needs no memory for its sums. */
bool espl_plan_may_own(const method_plan *p, const pass_plan *pass, int input);

/* Local. The linears that see an input are at the places (espl_linear_at) espl_input_first(input) ..
 * espl_input_first(input + 1) - 1 of a block. */
int espl_input_first(int input);
int espl_input_of(int64_t at);
/* Local. The stage of a block that makes an input. */
espl_block_stage espl_input_stage(int input);
/* Local. Has an input drifts? Not those of experts, which see other tokens in the dense and in the pruned model. */
bool espl_plan_drifts(const method_plan *p, const pass_plan *pass, int input);
/* Local. Features of an input. */
int64_t espl_input_size(const espl_model_config *c, int input);
/* Local. Shape of the linear at a place of a block. */
void espl_plan_shape(const espl_model_config *c, int64_t at, int64_t *out, int64_t *in);
/* Local. The largest input, the most outputs and the most weights of a linear. */
void espl_plan_largest(const espl_model_config *c, int64_t *in, int64_t *out, int64_t *weights);

/* Local. Fills max [linears] with the weights that each linear, of weights [linears], may lose under its cap. Returns
 * how many all of them are to lose: the target of those that may be pruned. */
int64_t espl_plan_limits(const method_plan *p, const int64_t *weights, int64_t *max);

#endif
