/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a run: dense against pruned, the exported model, summary.json and timing.json. */
#ifndef ESPL_RUN_REPORT_H
#define ESPL_RUN_REPORT_H

#include "state.h"

/* Collective. The end of a run: measures the pruned and the dense model, exports, writes timing.json and summary.json,
 * and prints the summary. summary.json is written last, in one piece: where it is, the run is finished.
 * ESPL_OFF_TARGET, ESPL_FELL_BACK: it is, but not as it was meant. */
espl_status espl_report_write(espl_job *j);

/* Local. Sets the error of a finished run whose verdict is ESPL_OFF_TARGET or ESPL_FELL_BACK, and returns it. */
espl_status espl_report_fail(espl_status verdict, const char *run_dir);

#endif
