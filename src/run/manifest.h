/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.json: where, when, with which program and configuration a run was started. */
#ifndef ESPL_RUN_MANIFEST_H
#define ESPL_RUN_MANIFEST_H

#include "state.h"

/* Collective. Writes manifest.json: everything needed to know where a number came from. */
espl_status espl_manifest_write(espl_job *j);

#endif
