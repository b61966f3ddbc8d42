#include "espalier/base.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static espl_log_level log_level = ESPL_LOG_INFO;
static int log_rank;
static double last_progress = -1e9;
static bool line_open; /* a progress line stands unfinished on the terminal */

void espl_log_init(espl_log_level level, int rank) {
    log_level = level;
    log_rank = rank;
}

static void close_line(void) {
    if (line_open) fputc('\n', stderr);
    line_open = false;
}

void espl_log(espl_log_level level, const char *fmt, ...) {
    if (log_rank != 0 || level > log_level) return;
    close_line();
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void espl_log_progress(bool last, const char *fmt, ...) {
    if (log_rank != 0 || log_level < ESPL_LOG_INFO) return;
    bool tty = isatty(STDERR_FILENO) != 0;
    double now = espl_clock_now();
    if (!last && now - last_progress < (tty ? 0.1 : 10.0)) return;
    last_progress = last ? -1e9 : now;
    if (tty) fputs("\r\033[K", stderr);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (last || !tty) fputc('\n', stderr);
    line_open = tty && !last;
    fflush(stderr);
}
