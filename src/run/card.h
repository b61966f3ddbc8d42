/* SPDX-License-Identifier: Apache-2.0 */
/* The model card of an export (docs/run.md). Rank 0 only. */
#ifndef ESPL_RUN_CARD_H
#define ESPL_RUN_CARD_H

#include "quality.h"
#include "state.h"

/* Appends README.md of the pruned model: front matter for a hub, what was pruned and how, dense against pruned, how to
 * repeat it, what it is good for. It depends on nothing that may differ between equal runs: no time, place or ranks.
 * ESPL_IO: the source's README.md or LICENSE cannot be read. ESPL_NOMEM. */
espl_status espl_card_write(const espl_job *j, const espl_report_quality *dense, const espl_report_quality *pruned,
                            espl_str *out);

#endif
