/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and threads on the cores of a node: what is recommended, and what is wrong with those that run. */
#ifndef ESPALIER_RUN_LAYOUT_H
#define ESPALIER_RUN_LAYOUT_H

#include "espalier/comm.h"
#include "espalier/schedule/topology.h"

/* Local. Appends "2 sockets, 8 NUMA domains, 64 cores". */
void espl_layout_put_node(const espl_topology *t, espl_str *out);
/* Local. Appends a command line up to the program: mpirun binds `ranks` ranks, `per_node` on each node of `domains`
 * NUMA domains, to `threads` cores each. */
void espl_layout_put_mpirun(int64_t ranks, int64_t per_node, int64_t threads, int64_t domains, espl_str *out);
/* Local. Appends the recommended layout of a node, one rank per NUMA domain, as such a command line. */
void espl_layout_put_recommendation(const espl_topology *t, espl_str *out);

/* Collective. Compares the ranks of c and their threads with the cores of their nodes, and logs a note for each kind of
 * fault: more threads than cores, ranks on the same cores, threads in several NUMA domains, cores without a thread;
 * then the recommended layout. Silent if nothing is wrong, and after the first call of a process. ESPL_NOMEM. */
espl_status espl_layout_advise(espl_comm *c);

#endif
