/* SPDX-License-Identifier: Apache-2.0 */
/* The recipe of an export: how its model was made, for programs (docs/run.md). Rank 0 only. */
#ifndef ESPL_RUN_RECIPE_H
#define ESPL_RUN_RECIPE_H

#include "state.h"

/* Appends espalier_recipe.json: versions, hashes of model and data, the result, the configuration without places, all
 * decisions, and the sparsity of each linear from pruned [j->linears], its pruned weights. Equal runs have equal
 * recipes. ESPL_NOMEM. */
espl_status espl_recipe_write(const espl_job *j, const int64_t *pruned, espl_str *out);

#endif
