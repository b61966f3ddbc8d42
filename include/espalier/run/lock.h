/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run directory, one run. The lock is a file, `lock` in the directory, because flock and fcntl locks are missing or
 * local on many cluster file systems. It says who holds it, and its time of change is the holder's heartbeat. All
 * functions are Local, for rank 0.
 */
#ifndef ESPALIER_RUN_LOCK_H
#define ESPALIER_RUN_LOCK_H

#include "espalier/base/str.h"

#include <stdbool.h>

typedef struct espl_run_lock espl_run_lock;

/* Takes the lock of directory `dir`, which exists, and starts the heartbeat. The lock of a holder that is provably dead
 * is broken, with a line in the log; a proof may need the heartbeat to be silent for a minute, which is waited for
 * until cancelled() is true. ESPL_CONFIG naming the holder; ESPL_STOPPED: cancelled; ESPL_IO; ESPL_NOMEM. Owned by the
 * caller.
 */
espl_status espl_run_lock_take(espl_run_lock **out, const char *dir, bool (*cancelled)(void));
/* Is the lock still ours? ESPL_IO: the directory is gone or replaced, or somebody deleted or took the lock. NULL: OK.
 */
espl_status espl_run_lock_check(const espl_run_lock *l);
/* Ends the heartbeat and removes the lock if it is still ours. NULL-safe. */
void espl_run_lock_release(espl_run_lock **l);

/* Removes the lock that a dead holder has left in the directory of a finished run, which nobody takes again. Best
 * effort: such a lock harms nobody. */
void espl_run_lock_clear_dead(const char *dir, bool (*cancelled)(void));

/* Does somebody hold the lock of `dir` who is not provably dead? Appends who. */
bool espl_run_lock_is_held(const char *dir, espl_str *holder);

#endif
