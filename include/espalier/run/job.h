/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pruning job: profile, ask, prune, judge, accept or roll back, checkpoint, until the goal; then the report and the
 * export. docs/run.md describes it for users.
 */
#ifndef ESPALIER_RUN_JOB_H
#define ESPALIER_RUN_JOB_H

#include "espalier/comm.h"
#include "espalier/config/config.h"

/* Collective. Runs the job or, with `resume`, continues it from its newest checkpoint. ESPL_STOPPED (exit code 75):
 * stopped early, can be resumed. ESPL_OFF_TARGET (3), ESPL_FELL_BACK (4): the run is complete, but its target was not
 * reached, or the policy decided in place of the agent. */
espl_status espl_run_prune(espl_comm *c, const espl_config *o, bool resume);

/* What to plan for. Zero: as it is running. */
typedef struct espl_dry_options {
    int64_t ranks;         /* 0: as many as are running */
    int64_t nodes, cores;  /* > 0: the fastest grid of ranks and threads on so many nodes of so many cores */
    int64_t domains;       /* > 0: NUMA domains of a node, which divide its cores; no rank spans two */
    double memory_gib;     /* of a node, which no grid may exceed; 0: any */
    const char *machine;   /* file of speeds that `calibrate` wrote; NULL: this machine's */
    const char *calibrate; /* measure this machine and write that file instead; NULL: plan */
    double gflops_per_core, bandwidth_gb_s, latency_us; /* > 0: instead of what is measured or in the file */
} espl_dry_options;

/* Collective. Prints on rank 0 what the job would take: layers and bytes of each rank, the goal, and the time of an
 * iteration or of the one-shot method and of the whole job, from a simulation of the schedule. Of the model it needs
 * config.json and tokenizer alone. ESPL_CONFIG: no grid fits. */
espl_status espl_run_dry(espl_comm *c, const espl_config *o, const espl_dry_options *d);

/* Collective. Appends, on rank 0, what a language model would read in the next iteration of the run in run.dir, or in
 * the first one if there is no run. It profiles the model, asks nobody and changes no file of the run. */
espl_status espl_run_prompt(espl_comm *c, const espl_config *o, espl_str *out);

/* Local. Can summary.json at `path` be read, and does its checksum hold? It is written last and in one piece, so one
 * that cannot be read was damaged later, and the run's end must be repeated. *verdict: ESPL_OK, ESPL_OFF_TARGET or
 * ESPL_FELL_BACK. */
bool espl_run_summary_reads(const char *path, espl_status *verdict);

/* What a report measured on the pruned model; NaN where it did not. */
typedef struct espl_run_measures {
    double test;             /* perplexity of the test text */
    double mmlu, freebaseqa; /* fraction of right answers */
} espl_run_measures;
/* Local. The measures in the summary.json of the run that wrote the checkpoint at path `checkpoint`; all NaN if there
 * is no such file, if it cannot be read, or if another checkpoint was measured. */
espl_run_measures espl_run_measures_of(const char *checkpoint);

#endif
