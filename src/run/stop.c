/* Ways to be stopped: signals, a stop file, a time limit. All ranks stop together, between two phases. */
#include "internal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t caught;

static void remember(int number) { caught = number; }

void espl_stop_watch(void) {
    struct sigaction a = {.sa_handler = remember, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

bool espl_stop_signalled(void) { return caught != 0; }

enum { NO_REASON, SIGNAL, STOP_FILE, TIME_LIMIT };

static bool stop_file(const job *j) {
    espl_str path = {0};
    bool there = espl_job_path(j, "stop", &path) == ESPL_OK && espl_file_exists(path.data);
    espl_str_free(&path);
    return there;
}

/* RUN/stop has done its work: as RUN/stopped it stops no later start, and tells scripts why this one ended. */
static void retire_stop_file(const job *j) {
    espl_str from = {0}, to = {0};
    if (espl_job_path(j, "stop", &from) == ESPL_OK && espl_job_path(j, "stopped", &to) == ESPL_OK &&
        rename(from.data, to.data) != 0)
        ESPL_INFO("note: %s cannot be renamed to %s: it would stop the next start too", from.data, to.data);
    espl_str_free(&from);
    espl_str_free(&to);
}

/* The next iteration is taken to last as long as the longest so far, and a tenth more. */
static bool out_of_time(const job *j) {
    double limit = 60 * j->o->run_max_minutes, used = espl_clock_now() - j->start;
    return limit > 0 && used + 1.1 * j->longest > limit;
}

static int reason_here(const job *j, bool iteration) {
    if (espl_stop_signalled()) return SIGNAL;
    if (!j->root) return NO_REASON;
    if (stop_file(j)) return STOP_FILE;
    return iteration && out_of_time(j) ? TIME_LIMIT : NO_REASON;
}

static const char *text_of(int reason) {
    static const char *const texts[] = {"", "a signal", "the stop file", "the time limit (run.max_minutes)"};
    return texts[reason];
}

espl_status espl_stop_check(job *j, bool iteration) {
    int reason = espl_comm_max(j->c, reason_here(j, iteration));
    if (reason == NO_REASON) return ESPL_OK;
    if (j->root && reason == STOP_FILE) retire_stop_file(j);
    return ESPL_FAIL(ESPL_STOPPED, "stopped by %s after iteration %lld; --resume continues from there", text_of(reason),
                     (long long)j->iteration);
}
