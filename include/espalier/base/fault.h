/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection for tests/fault. All functions are Local.
 *
 * The environment variable ESPL_FAULT=SITE:RANK[:NTH[:kill]] makes the NTH call (counted from 1; 0 or absent: every
 * call) of espl_fault(SITE) on that rank return true, or kills the process there. Without it nothing ever fails.
 *
 * ESPL_FAULT_LIST=FILE appends a line "SITE RANK" for each call, so that a test can try all of them.
 * ESPL_FAULT_WAIT=SITE:NTH:FILE makes rank 0 create FILE at the NTH call and wait there until a test deletes it.
 */
#ifndef ESPALIER_BASE_FAULT_H
#define ESPALIER_BASE_FAULT_H

#include <stdbool.h>

/* True: the caller must fail here as if the system had refused. Sites are named "room.step". Where nothing can fail any
 * more, behind a rename for instance, the result is ignored and the site is there for the kill alone. */
bool espl_fault(const char *site);
/* Tells the injector the rank of this process; espl_comm_create calls it. */
void espl_fault_rank(int rank);

#endif
