/* Private to the prune room: the one-shot job. */
#ifndef ESPL_PRUNE_ONESHOT_H
#define ESPL_PRUNE_ONESHOT_H

#include "espalier/methods/allocate.h"
#include "espalier/methods/oneshot.h"
#include "espalier/model/block.h"
#include "espalier/model/calibration.h"
#include "espalier/model/shape.h"
#include "espalier/prune/linear.h"
#include "espalier/prune/lsa.h"
#include "espalier/prune/sparsegpt.h"
#include "espalier/tensor/statistics.h"

/* A block's linears see four different inputs: of q, k, v; of o; of gate, up; of down. */
enum { INPUTS = 4 };

/* Who adds up the statistics of a block and works on them. */
typedef enum owner_rule {
    OWNER_INPUT, /* the ranks in turn, input after input: Hessians are spread */
    OWNER_BLOCK, /* one rank for a block, the ranks in turn */
    OWNER_SLICE  /* the rank whose slice the block is in */
} owner_rule;

/* What is added up over the samples. `part`: of one group of samples on this rank. `sum`: of all, in f64, at the owner.
 */
typedef struct statistics {
    bool squares, grams, gradients;          /* wanted */
    double *square_part[INPUTS];             /* [in] */
    double *square_sum[INPUTS];              /* [in] */
    float *gram_part[INPUTS];                /* [in, in], lower triangle */
    double *gram_sum[INPUTS];                /* [in, in], lower triangle */
    float *gradient_part[ESPL_LINEAR_KINDS]; /* [out, in] squares of the block-local gradient */
    double *gradient_sum[ESPL_LINEAR_KINDS]; /* [out, in] */
} statistics;

typedef struct oneshot {
    espl_comm *comm;
    espl_model *m;
    const espl_model_config *config;
    const espl_method_options *o;
    const int32_t *ids; /* [samples, window] */
    espl_masks *masks;
    espl_range mine; /* this rank's linears */
    int rank, ranks;
    espl_range *slices;             /* [ranks] */
    int64_t linears, group, groups; /* of the model; samples of a group; groups */
    int64_t local;                  /* samples of this rank */
    espl_block *block;
    float *states; /* [local, window, hidden]: inputs of the block under way */
    float *sample; /* [window, hidden] a gradient's start; or NULL */
    owner_rule rule;
    statistics s;
    uint64_t *block_masks[ESPL_LINEAR_KINDS];
    void *block_weights[ESPL_LINEAR_KINDS]; /* updated, in the linear's dtype */
    float *norm[INPUTS];                    /* [in] at the owner */
    float *matrix, *factor;                 /* [largest out, in]; [largest in, in] */
    bool *dead;
    float **gradients;    /* [slice linears] GBLM: of the whole model's loss */
    float **norms;        /* [slice layers * INPUTS] search: of the dense model */
    int64_t *counts;      /* [linears] weights to prune */
    int64_t *weights;     /* [linears] */
    int64_t done, passes; /* blocks, of all passes */
} oneshot;

/* The first linear that sees input i; i = INPUTS: the end. */
espl_linear_kind espl_oneshot_first(int i);
int espl_oneshot_input_of(espl_linear_kind kind);
void espl_oneshot_shape(const oneshot *p, espl_linear_kind kind, int64_t *out, int64_t *in);
int espl_oneshot_owner(const oneshot *p, int64_t layer, int input);
int espl_oneshot_slice_owner(const oneshot *p, int64_t layer);
bool espl_oneshot_mine(const oneshot *p, int64_t layer);

/* Local. Allocates what s->squares, grams, gradients ask for. */
espl_status espl_statistics_prepare(oneshot *p);
void espl_statistics_free(statistics *s);
/* Local. Embeds this rank's samples. */
espl_status espl_oneshot_embed(oneshot *p);
/* Collective. Adds up the statistics of the loaded block. */
espl_status espl_oneshot_collect(oneshot *p, int64_t layer);
/* Local. This rank's samples through the loaded block. */
void espl_oneshot_advance(oneshot *p);
/* Local. ||X_j||_2 of an input at its owner, from the sums: over all samples, or the mean sample's. */
void espl_oneshot_norm(const oneshot *p, int input, bool mean, float *norm);

/* Collective. Fills p->counts. */
espl_status espl_oneshot_allocate(oneshot *p);

#endif
