/* SPDX-License-Identifier: Apache-2.0 */
/* The model card of an export (docs/run.md). Rank 0 only. */
#ifndef ESPL_RUN_CARD_H
#define ESPL_RUN_CARD_H

#include "quality.h"
#include "state.h"

/* Appends README.md of the pruned model: front matter for a hub, what was pruned and how, dense against pruned, how to
 * repeat it, what it is good for. It depends on nothing that may differ between equal runs: no time, place or ranks.
 * decided_by: as espl_agent_decided_by; not read for a one-shot method. Of the measures, those that are not known are 0
 * or have no questions. ESPL_IO: the source's README.md or LICENSE cannot be read. ESPL_NOMEM. */
espl_status espl_card_write(const espl_job *j, const char *decided_by, const espl_report_quality *dense,
                            const espl_report_quality *pruned, espl_str *out);

#endif
