/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the unpruned model scores. Runs of one model on the same texts and questions measure the same, so
 * run.dense_cache keeps the numbers in a directory, for all of them. Numbers that are read there have the bits of those
 * that would be measured. All functions are Collective, and their results are the same on every rank.
 */
#ifndef ESPL_RUN_DENSE_H
#define ESPL_RUN_DENSE_H

#include "quality.h"

/* What the loop compares with: fills j->dense, with the probes, and the losses that the judge measured last. The model
 * must be dense. */
espl_status espl_dense_measure(espl_job *j);
/* What the report says of the dense model, measured at the first call. Masks that are applied are applied again
 * afterwards. *out is borrowed from the job. Of the questions, only the counts of right answers are there. */
espl_status espl_dense_report(espl_job *j, const espl_report_quality **out);
/* Local. */
void espl_dense_free(espl_job *j);

#endif
