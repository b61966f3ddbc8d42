/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that stop a job early. All functions are Local. */
#ifndef ESPALIER_RUN_STOP_H
#define ESPALIER_RUN_STOP_H

#include <stdbool.h>

/* Catches USR1 and TERM: they are remembered, and the job stops between two phases. */
void espl_stop_watch(void);
/* Gives both signals their default effect back, and carries out one that was caught: for what writes no checkpoints. */
void espl_stop_unwatch(void);
/* Has this process caught one of them? */
bool espl_stop_signalled(void);

#endif
