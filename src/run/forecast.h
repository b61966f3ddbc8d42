/* SPDX-License-Identifier: Apache-2.0 */
/* When the run will end, for people: no decision depends on it. Rank 0 only. */
#ifndef ESPL_RUN_FORECAST_H
#define ESPL_RUN_FORECAST_H

#include "state.h"

/* The dense model, or the restored state, is measured: estimates j->report_seconds from what that took, and takes the
 * steps of an earlier process into the pace. */
void espl_forecast_start(espl_job *j);
/* The step `o` took `seconds` and is judged; j holds the accepted state, and the profile's rows are those before the
 * step. Sets j->seconds_left. ESPL_NOMEM. */
espl_status espl_forecast_step(espl_job *j, const espl_outcome *o, double seconds);

#endif
