/* SPDX-License-Identifier: Apache-2.0 */
/* The profiles as a language model reads them: one line per linear, or per layer and per kind of linear. */
#ifndef ESPL_AGENT_PROFILE_TABLE_H
#define ESPL_AGENT_PROFILE_TABLE_H

#include "espalier/agent/view.h"
#include "espalier/base/str.h"

/* Appends the table. paper: z_s, z_g and sparsity alone. groups: lines for each kind and each layer, then for the
 * linears that are cheapest to prune, instead of one for every linear. */
void espl_profile_table_put(espl_str *s, const espl_agent_view *v, bool paper, bool groups);

#endif
