/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a run directory tell about the run, while it goes on, from any machine that sees them, and
 * afterwards. Nothing is written. All functions are Local.
 */
#ifndef ESPALIER_RUN_STATUS_H
#define ESPALIER_RUN_STATUS_H

#include "espalier/base/str.h"

/* X(name, text) */
#define ESPL_RUN_STATE_LIST(X)                                                                                         \
    X(NONE, "not started")        /* no directory, or nothing in it */                                                 \
    X(RUNNING, "running")         /* its lock is held */                                                               \
    X(INTERRUPTED, "interrupted") /* neither finished nor held: --resume continues it */                               \
    X(FINISHED, "finished")
typedef enum espl_run_state {
#define X(name, text) ESPL_RUN_##name,
    ESPL_RUN_STATE_LIST(X)
#undef X
} espl_run_state;
/* "running". Static storage. */
const char *espl_run_state_name(espl_run_state state);

/* Numbers that are not known are NaN, texts are empty. Zero-initialise; free with espl_run_status_free. */
typedef struct espl_run_status {
    espl_run_state state;
    espl_str holder;               /* RUNNING: host and process, from the lock */
    espl_status verdict;           /* FINISHED: ESPL_OK, or why it is not what was asked for (espalier/run/job.h) */
    espl_str end;                  /* why the loop ended: "target reached" */
    int64_t iterations, rollbacks; /* done so far */
    double sparsity, target;       /* of the accepted state; what the run aims at */
    double dense, perplexity;      /* on the validation windows: of the dense model, and of the accepted state */
    double started, changed;       /* seconds since 1970: the first and the last record */
    double step_seconds;           /* of the last step */
    double seconds_left;           /* to the end, as the run estimated it after its last step, less the time since */
} espl_run_status;

/* Reads the status of run directory `dir`. A directory without a run is ESPL_RUN_NONE. ESPL_FORMAT naming file and
 * line; ESPL_IO; ESPL_NOMEM. */
espl_status espl_run_status_read(const char *dir, espl_run_status *out);
void espl_run_status_free(espl_run_status *s);

#endif
