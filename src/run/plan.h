/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a job takes on a grid of ranks: the real schedule of each phase, simulated with measured speeds. Local.
 */
#ifndef ESPL_RUN_PLAN_H
#define ESPL_RUN_PLAN_H

#include "espalier/methods/options.h"
#include "espalier/schedule/pipeline.h"
#include "footprint.h"
#include "plan_speed.h"

/* How the ranks of a job are laid out: `replicas` pipelines of `stages` ranks, each with `threads` threads; `members`
 * replicas take a window of the profile together. */
typedef struct espl_plan_grid {
    int64_t replicas, stages, members, threads;
} espl_plan_grid;

/* What a job computes, by its inputs and options. The same for every grid. */
typedef struct espl_plan_work {
    const espl_config *o;
    const espl_model_config *config;
    espl_footprint needs; /* method and memory */
    bool oneshot;
    int64_t profile_windows, judge_windows;                /* of probe questions */
    int64_t distilled;                                     /* windows */
    int64_t validation_tokens, test_tokens, answer_tokens; /* answers: windows of the judge, without padding */
    int64_t probe_tokens, probe_decoded, report_tokens, report_decoded; /* of prompts; generated */
    int64_t checkpoint_bytes, export_bytes;
    double *milestones; /* [n_milestones] prune.milestones; espl_plan_work_free */
    int64_t n_milestones;
    espl_plan_speed speed;
} espl_plan_work;

/* Seconds. A one-shot job is one iteration. */
typedef struct espl_plan_time {
    double profile, pruning, judge, probes, recovery, checkpoint; /* of an iteration; probes: their mean share */
    double iteration, iterations;
    double prepare;    /* before the first iteration: the dense model */
    double milestones; /* reports and exports on the way, all together */
    double finish;     /* distillation at the target, the report, and the export */
    double total;
    espl_timeline pass; /* the profile's windows of text on one replica, or validation for a one-shot method */
} espl_plan_time;

/* Counts what the job computes, from the inputs that were read. ESPL_CONFIG; ESPL_NOMEM. Free with espl_plan_work_free,
 * also after a failure. */
espl_status espl_plan_count_work(const espl_job *j, espl_plan_work *out);
void espl_plan_work_free(espl_plan_work *w);
/* ESPL_CONFIG: more stages than layers. ESPL_NOMEM. */
espl_status espl_plan_simulate(const espl_plan_work *w, const espl_machine *m, espl_plan_grid g, espl_plan_time *out);

#endif
