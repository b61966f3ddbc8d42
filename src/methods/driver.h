/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the methods room: one run of a one-shot method, and its phases. Layers, lowest first: pool, plan,
 * statistics, pass; survey (measures of the dense model); global (selection over all linears), curvature (its
 * statistics); allocation (counts, from the survey or by search); oneshot (the driver). update goes over the blocks on
 * its own, on top of pass. cost.c sizes all of them.
 */
#ifndef ESPL_METHODS_DRIVER_H
#define ESPL_METHODS_DRIVER_H

#include "espalier/model/masks.h"
#include "pass.h"

/* What outlives a pass. A pass owns its own buffers (pass.h). */
typedef struct method_driver {
    espl_comm *comm;
    espl_masks *masks;
    espl_model *m;      /* of the masks */
    const int32_t *ids; /* [samples, window] */
    method_plan plan;
    espl_block *block;
    espl_range *slices; /* [stages] */
    int64_t *weights;   /* [linears] */
    int64_t *counts;    /* [linears] weights to prune */
    float **gradients;  /* [slice linears] GBLM: 100 sqrt(sum of squares) per weight; else NULL */
    float *norms;       /* curvature: ||X_j|| of the dense model, [slice layers, inputs of a block]; else NULL */
    float *rows;        /* curvature: row factors, [layers of the model, outputs of a block's linears]; else NULL */
} method_driver;

/* Local. Whether a block is in this rank's slice. */
static inline bool espl_driver_mine(const method_driver *driver, int64_t layer) {
    espl_range slice = espl_model_slice(driver->m);
    return layer >= slice.first && layer < slice.last;
}

/* Collective. Measures each block of the dense model in a pass: OWL's outliers into values[first linear of the block];
 * LSA's errors into values [linears]; for the search the norms of the blocks of this rank's slice into norms [slice
 * layers, inputs of a layer]. */
espl_status espl_survey_run(method_driver *driver, double *values, float *const *norms);
/* Local. Bytes that it allocates. */
int64_t espl_survey_bytes(const method_plan *plan);

/* Local. Takes driver->norms and driver->rows, if the method has score curvature. */
void espl_curvature_take(method_driver *driver, const method_plan *plan, espl_range slice, pool *buffers);
/* Collective. Fills them, from a calibration of the dense model. */
espl_status espl_curvature_measure(method_driver *driver);
/* Local. Row factors [out] of any linear of the model. */
const float *espl_curvature_rows(const method_driver *driver, int64_t index);
/* Collective. Fills driver->counts: the lowest scores of the whole model, at most prune.cap of a linear and never all.
 */
espl_status espl_curvature_allocate(method_driver *driver);
int64_t espl_curvature_allocation_bytes(const method_plan *plan, espl_range slice); /* Local. What it allocates. */
/* Local. Masks of this rank's linears from driver->counts and the dense model's statistics. */
espl_status espl_curvature_prune(method_driver *driver);

/* Collective. Fills driver->counts. */
espl_status espl_driver_allocate(method_driver *driver);
/* Local. Bytes that it allocates, for layers `slice`. */
int64_t espl_allocation_bytes(const method_plan *plan, espl_range slice);

/* Local. FLOPs of a pass over the blocks, without the work on each block (cost.c). */
double espl_pass_flops(const method_plan *p, const pass_plan *pass);

/* Local. Bytes of the driver, which all phases have, and of the pruning pass. */
int64_t espl_driver_bytes(const method_plan *plan, espl_range slice);
int64_t espl_pruning_bytes(const method_plan *plan);

#endif
