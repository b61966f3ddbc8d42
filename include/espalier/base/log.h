/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log and progress lines for people: on stderr, from rank 0 only. Results go to stdout and do not pass here. All
 * functions are Local; call them from the main thread.
 */
#ifndef ESPALIER_BASE_LOG_H
#define ESPALIER_BASE_LOG_H

#include <stdbool.h>

typedef enum espl_log_level { ESPL_LOG_QUIET, ESPL_LOG_INFO, ESPL_LOG_DEBUG } espl_log_level;

/* Lines above `level` are dropped, and all lines on ranks other than 0. Default: ESPL_LOG_INFO, rank 0. */
void espl_log_init(espl_log_level level, int rank);
/* Writes one line; the newline is added. */
void espl_log(espl_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define ESPL_INFO(...) espl_log(ESPL_LOG_INFO, __VA_ARGS__)
#define ESPL_DEBUG(...) espl_log(ESPL_LOG_DEBUG, __VA_ARGS__)
/* A progress line: redrawn in place on a terminal, elsewhere written at most every 10 s. `last` ends the line and is
 * always written. Cheap enough to call in every step of a loop. */
void espl_log_progress(bool last, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
