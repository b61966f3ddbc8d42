/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of numbers that come from outside the room. */
#ifndef ESPL_AGENT_CHECK_H
#define ESPL_AGENT_CHECK_H

#include "espalier/agent/options.h"
#include "espalier/base/status.h"

/* ESPL_CONFIG unless lo <= v <= hi; NAN is out of range. */
espl_status espl_agent_check_range(const char *name, double v, double lo, double hi);
/* ESPL_CONFIG: a number out of range, or something missing that the backend needs. */
espl_status espl_agent_options_check(const espl_agent_options *o);

#endif
