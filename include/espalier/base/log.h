/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log and progress lines for people: on stderr, from rank 0 only. Results go to stdout and do not pass here. All
 * functions are Local; call them from the main thread.
 *
 * On a terminal, also behind mpirun, the last line shows the progress of the current phase and is redrawn in place. In
 * a file, each line begins with date and time, and progress is written once a minute at most: the log of a batch job is
 * read afterwards.
 */
#ifndef ESPALIER_BASE_LOG_H
#define ESPALIER_BASE_LOG_H

#include <stdbool.h>

typedef enum espl_log_level { ESPL_LOG_QUIET, ESPL_LOG_INFO, ESPL_LOG_DEBUG } espl_log_level;
/* How progress appears. AUTO: as a LINE if stderr, or that of the mpirun that started this process, is a terminal. */
typedef enum espl_log_progress_form {
    ESPL_PROGRESS_AUTO,
    ESPL_PROGRESS_LINE,
    ESPL_PROGRESS_LOG
} espl_log_progress_form;

/* Lines above `level` are dropped, and all lines on ranks other than 0. Default: ESPL_LOG_INFO, rank 0. */
void espl_log_init(espl_log_level level, int rank);
/* Default: AUTO. */
void espl_log_set_progress(espl_log_progress_form form);
/* Writes one line; the newline is added. */
void espl_log(espl_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define ESPL_INFO(...) espl_log(ESPL_LOG_INFO, __VA_ARGS__)
#define ESPL_DEBUG(...) espl_log(ESPL_LOG_DEBUG, __VA_ARGS__)
/* Writes a text that belongs to the line before it, of any length: wrapped between words, and indented. */
void espl_log_more(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Progress within a phase. `last`: the phase is over. Cheap enough to call in every step of a loop. */
void espl_log_progress(bool last, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What stands before the progress of every phase from now on: "iteration 4, 12 % of 45 %, 3 min left". Empty: nothing;
 * the progress line is erased then when a phase is over. */
void espl_log_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Is there a last line that shows the status, as on a terminal? Lines above it need not repeat it. */
bool espl_log_shows_status(void);
/* Erases the progress line. Call it before something else is written to the terminal. */
void espl_log_end(void);

/* Escape sequences that switch a colour on, and off again. Empty where there are no colours: in a file, or if NO_COLOR
 * is set. Static storage. */
typedef enum espl_log_colour { ESPL_COLOUR_OFF, ESPL_COLOUR_GOOD, ESPL_COLOUR_BAD, ESPL_COLOUR_FAINT } espl_log_colour;
const char *espl_log_colour_code(espl_log_colour c);

#endif
