/* SPDX-License-Identifier: Apache-2.0 */
/* Backend "random": what an agent must beat. */
#ifndef ESPL_AGENT_RANDOM_H
#define ESPL_AGENT_RANDOM_H

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"
#include "espalier/base/str.h"

/* Appends a valid plan that knows nothing of the profile, as reply JSON: random linears that have room, each with a
 * random step, together 1 / horizon of the target and `backoff` times less after each rollback in a row. A pure
 * function of its arguments. */
espl_status espl_random_propose(const espl_agent_view *v, const espl_policy_options *o, int64_t run_seed, int64_t seed,
                                espl_str *json);

#endif
