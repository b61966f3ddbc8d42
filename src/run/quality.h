/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the model with the masks that are applied to it: for the judge, and for the report. All functions are
 * Collective, and their results are the same on every rank. */
#ifndef ESPL_RUN_QUALITY_H
#define ESPL_RUN_QUALITY_H

#include "espalier/eval/perplexity.h"
#include "state.h"

/* Asks the probe questions and adds the answers to *out. */
espl_status espl_quality_probe(espl_job *j, espl_quality *out);
/* Mean loss, in nats per token, on a corpus in windows of `window` tokens. */
espl_status espl_quality_loss(espl_job *j, const espl_corpus *corpus, int64_t window, double *nll);

/* What the report says of one model. */
typedef struct espl_report_quality {
    espl_perplexity validation, test; /* windows = 0: not measured */
    espl_mmlu_result mmlu;
    espl_freebaseqa_result freebaseqa;
} espl_report_quality;

/* Everything that the report asks for. `validation`: what this process has measured of the same state in the loop,
 * windows = 0: nothing. It is not measured again where the report computes as the loop does: the bits would be the
 * same, since those of a window do not depend on other windows. ESPL_FORMAT: a perplexity is not a number. Free with
 * espl_report_quality_free (Local). */
espl_status espl_quality_report(espl_job *j, espl_perplexity validation, espl_report_quality *out);
void espl_report_quality_free(espl_report_quality *q);
/* Local. Puts the object `key` of a summary: what was measured of it. */
void espl_quality_put_report(espl_json_writer *w, const char *key, const espl_job *j, const espl_report_quality *q);

#endif
