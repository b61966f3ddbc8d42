/* SPDX-License-Identifier: Apache-2.0 */
/* --version: what a bug report needs to name. */
#include "version.h"

#include <stdio.h>

#include "espalier/checkpoint.h"
#include "espalier/comm.h"
#include "espalier/schedule/topology.h"
#include "espalier/tensor/workspace.h"
#include "espl_revision.h"

void cli_version_print(void) {
    printf("espalier %s (%s)\nMPI: %s\nHDF5: %s (parallel)\nOpenBLAS: %s\noneDNN: %s\nhwloc: %s\n", ESPL_VERSION,
           ESPL_REVISION, espl_comm_library(), espl_checkpoint_library(), espl_tensor_blas_init(),
           espl_arithmetic_library(), espl_topology_library());
}
