/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the run room: the memory of a job's ranks, from its configuration and inputs. All functions are Local. */
#ifndef ESPL_RUN_FOOTPRINT_H
#define ESPL_RUN_FOOTPRINT_H

#include "state.h"

typedef struct espl_footprint {
    const espl_config *o; /* borrowed */
    const espl_model_config *config;
    espl_model_options options;
    espl_calibration_options calibration;
    espl_method_options method;
    bool oneshot;
    int64_t bytes_per_weight; /* of the widest dtype: mixed directories count as if all were of it */
    int64_t distilled;        /* windows */
    int threads;              /* of a rank */
} espl_footprint;

/* Reads the headers of the weights; where they cannot be read, two bytes a weight are assumed, and a note says so. The
 * inputs must have been read. Threads are those of this process. ESPL_CONFIG. */
espl_status espl_footprint_of(const espl_job *j, espl_footprint *out);
/* The open model on the rank that holds `slice`. */
espl_model_memory espl_footprint_model(const espl_footprint *f, espl_range slice);
/* Of grids the numbers count, not the communicators.
 *
 * What pruning takes on the rank at g->stage besides the model and its masks: calibration for the agent, or the method,
 * with the updated weights of its slice; distillation. */
int64_t espl_footprint_pruning(const espl_footprint *f, espl_range slice, const espl_grid *g);
/* The largest sum over the ranks of a grid, without the weights, which are mapped. ESPL_NOMEM. */
espl_status espl_footprint_rank(const espl_footprint *f, const espl_grid *g, int64_t *bytes);

/* Is the exponent of score curvature measured before the first step? */
bool espl_footprint_tries_powers(const espl_footprint *f);
/* What the trials do (espl_curvature_choose_power): the method of a trial, whose calibration all trials share. */
espl_method_options espl_footprint_trial(const espl_footprint *f);

#endif
