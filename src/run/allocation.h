/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations as files: the sparsity of each linear by its name. All functions are Local. */
#ifndef ESPL_RUN_ALLOCATION_H
#define ESPL_RUN_ALLOCATION_H

#include "state.h"

/* Reads sparsity [linears] of a model of `layers` layers, fractions 0 .. 1, from a file: a JSON object linear ->
 * sparsity, or an object that has such an object as its member "allocation" (espalier_recipe.json); or lines "linear,
 * sparsity", perhaps below a line "linear,sparsity". A linear that is not named gets 0. ESPL_IO; ESPL_FORMAT naming
 * file and linear: an unknown name, one that appears twice, no number or one out of range; a file that names no linear.
 */
espl_status espl_allocation_read(const char *path, espl_layout layout, double *sparsity);

/* The sparsity of all linears of a model together. */
double espl_allocation_sparsity(const espl_model_config *c, const double *sparsity);

/* Appends the object linear -> sparsity, from pruned [j->linears], the pruned weights of each. */
void espl_allocation_put(espl_json_writer *w, const char *key, const espl_job *j, const int64_t *pruned);

#endif
