/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines and the progress line share stderr. On a terminal, the progress line stands last and without a newline: a
 * log line erases it first, and the next progress draws it again below.
 */
#include "espalier/base/log.h"

#include "espalier/base/region.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Seconds between two progress lines: a terminal is redrawn at 10 Hz; a file of a batch job should stay readable. */
static const double PROGRESS_TERMINAL = 0.1, PROGRESS_FILE = 60.0;
enum { LINE_BYTES_MAX = 512, FILE_COLUMNS = 100, COLUMNS_MIN = 40, MORE_INDENT = 6 };

static espl_log_level log_level = ESPL_LOG_INFO;
static int log_rank;
static espl_log_progress_form log_form = ESPL_PROGRESS_AUTO;
static bool log_knows_form;              /* log_form is decided */
static int log_terminal = STDERR_FILENO; /* what is asked for its width */

static double progress_shown = -1; /* clock of the last progress; below 0: none */
static bool progress_open;         /* a progress line stands unfinished on the terminal */
static char progress_status[LINE_BYTES_MAX / 2];

/* --------------------------------------------------------------- terminal */

/* mpirun gives its ranks pipes, and copies what comes from them to its own stderr. Rank 0 runs on the machine of mpirun
 * and is its child. -1: not so, or that is no terminal. */
static int log_open_launcher_terminal(void) {
    char path[64];
    if (!getenv("OMPI_COMM_WORLD_RANK")) return -1;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getppid(), STDERR_FILENO);
    int fd = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && isatty(fd)) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static bool log_on_terminal(void) {
    if (log_knows_form) return log_form == ESPL_PROGRESS_LINE;
    log_knows_form = true;
    if (log_form != ESPL_PROGRESS_AUTO) return log_form == ESPL_PROGRESS_LINE;
    const char *term = getenv("TERM");
    bool dumb = !term || !*term || strcmp(term, "dumb") == 0;
    int launcher = dumb || isatty(STDERR_FILENO) ? -1 : log_open_launcher_terminal();
    if (launcher >= 0) log_terminal = launcher;
    log_form = !dumb && (isatty(STDERR_FILENO) || launcher >= 0) ? ESPL_PROGRESS_LINE : ESPL_PROGRESS_LOG;
    return log_form == ESPL_PROGRESS_LINE;
}

bool espl_log_shows_status(void) { return log_on_terminal(); }

static int log_columns(void) {
    struct winsize size;
    if (!log_on_terminal() || ioctl(log_terminal, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return FILE_COLUMNS;
    return size.ws_col < COLUMNS_MIN ? COLUMNS_MIN : size.ws_col;
}

const char *espl_log_colour_code(espl_log_colour c) {
    static const char *const codes[] = {"\033[0m", "\033[32m", "\033[1;31m", "\033[2m"};
    const char *refused = getenv("NO_COLOR"); /* no-color.org: any value but an empty one */
    return log_on_terminal() && !(refused && *refused) ? codes[c] : "";
}

/* ------------------------------------------------------------------ lines */

void espl_log_init(espl_log_level level, int rank) {
    log_level = level;
    log_rank = rank;
}

void espl_log_set_progress(espl_log_progress_form form) {
    log_form = form;
    log_knows_form = false;
}

void espl_log_end(void) {
    if (progress_open) fputs("\r\033[K", stderr); /* to the first column, and erase the line */
    progress_open = false;
}

static void log_put_time(void) {
    char text[32];
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S  ", &local) > 0)
        fputs(text, stderr);
}

void espl_log(espl_log_level level, const char *fmt, ...) {
    if (log_rank != 0 || level > log_level) return;
    espl_log_end();
    if (!log_on_terminal()) log_put_time();
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void espl_log_more(const char *fmt, ...) {
    if (log_rank != 0 || log_level < ESPL_LOG_INFO) return;
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int written = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (written < 0) return;
    espl_log_end();
    int width = log_columns() - MORE_INDENT - 1, column = 0;
    for (const char *word = text + strspn(text, " \n"); *word; word += strspn(word, " \n")) {
        int n = (int)strcspn(word, " \n"), cells = 0;
        for (int i = 0; i < n; i++)
            cells += ((unsigned char)word[i] & 0xc0) != 0x80; /* not the rest of a UTF-8 letter */
        if (column > 0 && column + 1 + cells > width) {
            fputc('\n', stderr);
            column = 0;
        }
        fprintf(stderr, "%*s%.*s", column ? 1 : MORE_INDENT, "", n, word);
        column += cells + (column > 0);
        word += n;
    }
    if (column > 0) fputc('\n', stderr);
    free(text);
}

/* --------------------------------------------------------------- progress */

void espl_log_status(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(progress_status, sizeof progress_status, fmt, ap);
    va_end(ap);
    if (!*progress_status) espl_log_end();
}

/* In a file, the end of a phase needs no line: what came of it follows. On a terminal, the line stays for the phases
 * without progress, as long as there is a status. */
void espl_log_progress(bool last, const char *fmt, ...) {
    if (log_rank != 0 || log_level < ESPL_LOG_INFO) return;
    bool terminal = log_on_terminal();
    double now = espl_clock_now();
    if (last && !*progress_status) {
        espl_log_end();
        return;
    }
    if (progress_shown < 0 && !terminal) progress_shown = now; /* a program of less than a minute shows none */
    if (now - progress_shown < (terminal ? PROGRESS_TERMINAL : PROGRESS_FILE) && !(last && terminal)) return;
    progress_shown = now;
    char text[LINE_BYTES_MAX], line[LINE_BYTES_MAX + sizeof progress_status];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int length = snprintf(line, sizeof line, "%s%s%s", progress_status, *progress_status ? " | " : "", text);
    espl_log_end();
    if (terminal)
        fprintf(stderr, "%.*s", length < log_columns() ? length : log_columns() - 1,
                line); /* a wrapped line cannot be erased */
    else {
        log_put_time();
        fprintf(stderr, "progress: %s\n", line);
    }
    progress_open = terminal;
    fflush(stderr);
}
