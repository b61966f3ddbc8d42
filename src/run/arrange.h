/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the run room: the grid of ranks. */
#ifndef ESPL_RUN_ARRANGE_H
#define ESPL_RUN_ARRANGE_H

#include "state.h"

/* Local. The numbers of a grid for `ranks` ranks: as run.replicas and run.team say, or chosen with at least min_stages
 * stages. The inputs must have been read. ESPL_CONFIG; a status of espl_model_config_read, of a local agent's model. */
espl_status espl_arrange_choose(const espl_job *j, int ranks, int min_stages, espl_grid *out);
/* Local. How many of so many replicas should take a window of the profile together, if run.team leaves it open. */
int espl_arrange_team(const espl_config *o, const espl_model_config *c, int replicas);
/* Collective. Makes j->comm a communicator of the ranks that work, with their grid; NULL on ranks that are left over.
 */
espl_status espl_arrange_ranks(espl_job *j);

#endif
