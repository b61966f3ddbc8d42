/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a run: dense against pruned, the exported model, summary.json and timing.json. */
#ifndef ESPL_RUN_REPORT_H
#define ESPL_RUN_REPORT_H

#include "state.h"

/* Collective. The end of a run: measures the pruned and the dense model, exports, writes timing.json and summary.json,
 * and prints the summary. summary.json is written last, in one piece: where it is, the run is finished. */
espl_status espl_report_write(espl_job *j);

#endif
