/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines and the progress line share stderr: a log line first ends a progress line that is open on the terminal,
 * otherwise the next redraw would overwrite it.
 */
#include "espalier/base/log.h"

#include "espalier/base/region.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* Seconds between two progress lines: a terminal is redrawn at 10 Hz; a file of a batch job should stay readable. */
static const double PROGRESS_TERMINAL = 0.1, PROGRESS_FILE = 10.0;
enum { PROGRESS_NEVER = -1000000000 }; /* seconds: so long ago that the next line is due */

static espl_log_level log_level = ESPL_LOG_INFO;
static int log_rank;
static double progress_shown = PROGRESS_NEVER;
static bool progress_open; /* a progress line stands unfinished on the terminal */

void espl_log_init(espl_log_level level, int rank) {
    log_level = level;
    log_rank = rank;
}

void espl_log(espl_log_level level, const char *fmt, ...) {
    if (log_rank != 0 || level > log_level) return;
    if (progress_open) fputc('\n', stderr);
    progress_open = false;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void espl_log_progress(bool last, const char *fmt, ...) {
    if (log_rank != 0 || log_level < ESPL_LOG_INFO) return;
    bool terminal = isatty(STDERR_FILENO) != 0;
    double now = espl_clock_now();
    if (!last && now - progress_shown < (terminal ? PROGRESS_TERMINAL : PROGRESS_FILE)) return;
    progress_shown = last ? PROGRESS_NEVER : now;
    if (terminal) fputs("\r\033[K", stderr); /* to the first column, and erase the line */
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (last || !terminal) fputc('\n', stderr);
    progress_open = terminal && !last;
    fflush(stderr);
}
