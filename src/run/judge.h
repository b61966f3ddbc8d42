/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The losses that a state of the model is judged by: of each validation window, and of each answer to the judge's
 * questions. A step is compared with the last accepted state on the same windows and questions, which cancels most of
 * what differs between them. All functions are Collective unless said; results are the same on every rank.
 */
#ifndef ESPL_RUN_JUDGE_H
#define ESPL_RUN_JUDGE_H

#include "state.h"

/* Local. Takes the memory. Free with espl_judge_free. ESPL_NOMEM. */
espl_status espl_judge_create(espl_job *j);
void espl_judge_free(espl_job *j);

/* Measures the model as it is masked now. *out: perplexity and the loss of answers; no probe question is counted. */
espl_status espl_judge_measure(espl_job *j, espl_quality *out);
/* The same for a step, with the verdict. The rise over the last accepted state (espl_quality_rise) must not exceed
 * log(1 + prune.threshold), that over the dense model not log(1 + prune.max_rise). If the text's share of the first
 * bound is already exceeded on the first quarter of the windows, by three standard errors of the paired difference, the
 * rest is not measured: *after is then the last accepted state's quality plus that difference. */
espl_status espl_judge_step(espl_job *j, espl_quality *after, bool *accepted);
/* Local. What was measured last is the accepted state from now on. */
void espl_judge_accept(espl_job *j);

/* Local. The perplexity of the accepted state on the validation windows, as the report would measure it with the loop's
 * arithmetic; windows = 0 if this process has not measured that state. */
espl_perplexity espl_judge_accepted_text(const espl_job *j);

/* Local. Whether a step was rolled back for its rise over the dense model. */
bool espl_judge_is_beyond_limit(const espl_job *j, const espl_quality *after);

#endif
