/* SPDX-License-Identifier: Apache-2.0 */
/* The job's checkpoints: RUN/checkpoints/iteration-NNNNNN.h5 (docs/checkpoint-format.md). */
#ifndef ESPL_RUN_STORE_H
#define ESPL_RUN_STORE_H

#include "state.h"

/* Collective. Writes the accepted state after step j->iteration, and deletes old checkpoints (run.keep). */
espl_status espl_store_write(espl_job *j);
/* Collective. Restores the newest checkpoint that can be read; *found is false if there is none. Skips damaged newer
 * ones. Changes no file. ESPL_FORMAT if all are damaged: the run is not restarted over them. */
espl_status espl_store_restore(espl_job *j, bool *found);
/* Collective. The same for a run that goes on: damaged checkpoints are renamed, old ones deleted. */
espl_status espl_store_resume(espl_job *j, bool *found);

#endif
