/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which the ranks of a pipeline work, and how long that takes: the model room carries the order out,
 * --dry-run simulates it. All functions are Local.
 */
#ifndef ESPALIER_SCHEDULE_PIPELINE_H
#define ESPALIER_SCHEDULE_PIPELINE_H

#include <stdbool.h>

#include "espalier/base.h"

/* One window's way through a rank, forward or backward. `turn` counts the passes of its direction on this rank. */
typedef struct espl_pass {
    bool backward;
    int64_t window, turn;
} espl_pass;

/* The passes of a rank over windows 0 .. max(forward, backward) - 1, of which the first `backward` also have a backward
 * pass. Those without come first. Then one forward and one backward pass in turn ("1F1B", Narayanan et al. 2021), after
 * `ahead` forward passes that fill the pipeline. passes [max(forward, backward) + backward]. Returns their number. */
int64_t espl_pass_order(int64_t forward, int64_t backward, int64_t ahead, espl_pass *passes);

/* How many windows stage `stage` of `stages` may be ahead of its own backward pass; it saves the inputs of one more. */
int64_t espl_pass_ahead(int64_t backward, int64_t stage, int64_t stages);

/* Seconds that one window takes on each stage [stages]. */
typedef struct espl_pipeline {
    int64_t stages;
    const double *forward;  /* a window without a backward pass */
    const double *sample;   /* the forward pass of a window with one; may be NULL without such windows */
    const double *backward; /* its backward pass; likewise */
    double handoff;         /* from the end of a pass to its arrival at the next stage */
} espl_pipeline;

typedef struct espl_timeline {
    double seconds;  /* until all stages are done */
    double busy;     /* seconds that the busiest stage computes */
    double mean;     /* the mean over the stages */
    int64_t busiest; /* the first one, if several are */
} espl_timeline;

/* Simulates espl_pass_order on all stages, pass by pass: a stage starts a pass when it has finished the one before and
 * the input has arrived. Transfers overlap computation, as the program's do; buffers are not a limit. ESPL_NOMEM. */
espl_status espl_pipeline_simulate(const espl_pipeline *p, int64_t forward, int64_t backward, espl_timeline *out);

#endif
