/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of this node, and whether replicas of a model fit it. All functions are Local. */
#ifndef ESPALIER_RUN_NODE_MEMORY_H
#define ESPALIER_RUN_NODE_MEMORY_H

#include <stdint.h>

/* Bytes that programs may still take on this node: what the kernel calls available, at most the limits of the control
 * group and of the Slurm job (SLURM_MEM_PER_NODE). INT64_MAX: unknown. */
int64_t espl_node_memory(void);
/* Bytes that `ranks` ranks of replicas of `stages` stages take on a node: `rank_bytes` each, and once the `weights` of
 * a replica that they map, or the part of it that they hold; with a tenth on top for what is not counted. */
int64_t espl_node_needs(int64_t weights, int64_t rank_bytes, int ranks, int stages);

#endif
