/* SPDX-License-Identifier: Apache-2.0 */
/*
 * methods: pruning a whole model in one step. How much each linear loses (allocations), and the driver that goes
 * through the model block by block. docs/methods.md has the definitions, their sources and what was compared.
 */
#ifndef ESPALIER_METHODS_H
#define ESPALIER_METHODS_H

#include "espalier/prune.h"

/* How much each linear loses. X(name, name in a configuration) */
#define ESPL_ALLOCATION_LIST(X)                                                                                        \
    X(UNIFORM, "uniform")                                                                                              \
    X(OWL, "owl")               /* by outliers of the Wanda score, per block (2310.05175) */                           \
    X(LSA, "lsa")               /* by the error of a greedy pruning, per block (ICLR 2026) */                          \
    X(LSA_LINEAR, "lsa-linear") /* the same per linear */                                                              \
    X(SEARCH, "search")         /* evolution by level switches (EvoPress, 2410.14649) */                               \
    X(GIVEN, "given")           /* by the caller */
typedef enum espl_allocation {
#define X(name, text) ESPL_ALLOCATION_##name,
    ESPL_ALLOCATION_LIST(X)
#undef X
        ESPL_ALLOCATION_COUNT
} espl_allocation;
const char *espl_allocation_name(espl_allocation a);
bool espl_allocation_parse(const char *name, espl_allocation *out);

/* -------------------------------------------------------------- allocations */

/* Local. From wished sparsities [n] of linears with weights [n] to counts [n] with sum(counts) = round(target *
 * sum(weights)) exactly and each at most floor(cap * weights): all sparsities are shifted by one number, clipped to
 * [0, cap], and the remainders go to the largest fractions first (the lower index among equals). ESPL_CONFIG: the cap
 * does not let the target be reached. */
espl_status espl_allocate_exact(const double *sparsity, const int64_t *weights, int64_t n, double target, double cap,
                                int64_t *counts);

/* Local. OWL: s_b = target + mean(d) - d_b, d = (D - min D) / (max D - min D) * 2 lambda; D [blocks]: share of
 * outliers. All equal: uniform. */
void espl_allocate_owl(const double *outliers, int64_t blocks, double target, double lambda, double *sparsity);
/* Local. LSA: d = the importance 1 - E / sum E, min-max scaled to 2 beta; s = target + (mean(d) - d) * mean(weights) /
 * weights. errors [n]; weights [n], or NULL: all the same (blocks). */
void espl_allocate_lsa(const double *errors, const int64_t *weights, int64_t n, double target, double beta,
                       double *sparsity);
/* Local. Its published beta for a target. */
double espl_lsa_beta(double target);
typedef struct espl_search_options {
    int64_t evaluations;  /* calls of the fitness in all, at least */
    int64_t offspring;    /* candidates of a generation */
    int64_t stages;       /* 1 .. ESPL_SEARCH_STAGES steps of selection, each on more data */
    int64_t survivors[3]; /* of each stage; the last is 1 */
    double step;          /* weights of a level, as a share of the smallest linear */
    uint64_t seed;
} espl_search_options;
enum { ESPL_SEARCH_STAGES = 3 };

/* Fitness, lower is better, of the allocation counts [n] on the data of a stage. The same everywhere if Collective. */
typedef espl_status (*espl_search_fitness)(void *context, const int64_t *counts, int64_t stage, double *fitness);

/* Local (Collective if the fitness is). counts [n] is the start and becomes the best found; sum(counts) never changes.
 * An offspring makes min(U{1..3}, U{1..3}) switches: one linear loses a level, another gains it, within 0 .. most [n].
 * The parent competes in the last stage. *best: its fitness there. */
espl_status espl_allocate_search(const espl_search_options *o, const int64_t *weights, const int64_t *most, int64_t n,
                                 espl_search_fitness fitness, void *context, int64_t *counts, double *best);

/* ----------------------------------------------------------------- one shot */

typedef struct espl_prune_options {
    espl_score score; /* not read with SparseGPT */
    espl_update update;
    espl_allocation allocation;
    espl_pattern pattern; /* an N:M pattern fixes the sparsity: uniform allocation, target not read */
    double target, cap;   /* overall sparsity; most of one linear */
    int64_t samples, window;
    double damping;                 /* SparseGPT */
    int64_t block;                  /* SparseGPT: columns */
    double owl_outlier, owl_lambda; /* M and lambda */
    double lsa_beta;                /* below 0: espl_lsa_beta */
    const double *given;            /* [linears of the model] sparsities for ESPL_ALLOCATION_GIVEN; borrowed */
    espl_search_options search;
    /* Collective. For ESPL_ALLOCATION_SEARCH: fitness (perplexity, divergence, ...) of the model with the masks that it
     * has now, on the data of a stage; the same number on every rank. */
    espl_status (*fitness)(void *context, int64_t stage, double *value);
    espl_model_progress progress; /* blocks done of all, or NULL */
    void *context;                /* of both */
} espl_prune_options;

/* The defaults of docs/methods.md: Wanda, row, uniform, target 0.45, 128 samples of 2048 tokens. */
espl_prune_options espl_prune_defaults(void);

/* Collective. Prunes the dense model in one go, block by block as published: statistics of a block come from inputs
 * that went through the already pruned blocks before it. The samples ids [samples, window], the same on every rank, are
 * dealt out to the ranks; sums over them are formed in groups of fixed size and added in order, so that the result is
 * the same for any number of ranks and threads. masks [slice linears], each [out, words], are written. updates [slice
 * linears], each [out, in] of the linear's dtype, are written by an updating method (else they may be NULL). Both are
 * then in effect in m. counts [linears of the model] or NULL: weights that each linear lost. Extra memory:
 * espl_prune_bytes. ESPL_CONFIG: options that do not fit together; ESPL_USAGE: ids; ESPL_FAILED naming the linear: a
 * Hessian that cannot be factored. */
espl_status espl_prune_oneshot(espl_comm *comm, espl_model *m, const espl_prune_options *o, const int32_t *ids,
                               uint64_t *const *masks, void *const *updates, int64_t *counts);

/* Local. Bytes that rank `rank` of `ranks` takes during espl_prune_oneshot, results not included. */
int64_t espl_prune_bytes(const espl_model_config *c, const espl_prune_options *o, int rank, int ranks);

#endif
