/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection. The environment is read once, at the first site that is passed; after that a site costs one string
 * comparison, and only where a fault is asked for. The environment is read on the main thread; later, any thread may
 * pass the site of an allocation, so the count is atomic.
 */
#include "espalier/base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    bool parsed, kill;
    char site[64]; /* "": no fault */
    long rank, nth;
    _Atomic long passed;
    int list; /* where the sites that are passed are written, or -1 */
} fault;
static int fault_my_rank;

/* Where rank 0 waits. */
static struct {
    char site[64]; /* "": nowhere */
    const char *file;
    long nth, passed;
} fault_wait;

void espl_fault_rank(int rank) { fault_my_rank = rank; }

/* A malformed value leaves fault.site empty: the run then succeeds, and the test that asked for a fault fails. */
static void fault_parse_environment(void) {
    fault.parsed = true;
    const char *wait = getenv("ESPL_FAULT_WAIT"), *first = wait ? strchr(wait, ':') : NULL;
    const char *second = first ? strchr(first + 1, ':') : NULL;
    if (second && (size_t)(first - wait) < sizeof fault_wait.site) {
        memcpy(fault_wait.site, wait, (size_t)(first - wait));
        fault_wait.nth = strtol(first + 1, NULL, 10);
        fault_wait.file = second + 1;
    }
    const char *list = getenv("ESPL_FAULT_LIST");
    fault.list = list ? open(list, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    const char *text = getenv("ESPL_FAULT"), *colon = text ? strchr(text, ':') : NULL;
    if (!colon || (size_t)(colon - text) >= sizeof fault.site) return;
    char *end;
    fault.rank = strtol(colon + 1, &end, 10);
    if (end == colon + 1) return;
    if (*end == ':') fault.nth = strtol(end + 1, &end, 10);
    fault.kill = strcmp(end, ":kill") == 0;
    if (*end && !fault.kill) return;
    memcpy(fault.site, text, (size_t)(colon - text));
}

static void fault_wait_here(void) {
    const struct timespec pause = {.tv_nsec = 10000000};
    int fd = open(fault_wait.file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return;
    close(fd);
    while (access(fault_wait.file, F_OK) == 0) nanosleep(&pause, NULL);
}

bool espl_fault(const char *site) {
    if (!fault.parsed) fault_parse_environment();
    if (fault_wait.site[0] && fault_my_rank == 0 && strcmp(site, fault_wait.site) == 0 &&
        ++fault_wait.passed == fault_wait.nth)
        fault_wait_here();
    if (fault.list >= 0) (void)dprintf(fault.list, "%s %d\n", site, fault_my_rank);
    if (!fault.site[0] || fault_my_rank != fault.rank || strcmp(site, fault.site) != 0) return false;
    long passed = atomic_fetch_add(&fault.passed, 1) + 1;
    if (fault.nth > 0 && passed != fault.nth) return false;
    if (fault.kill) raise(SIGKILL); /* not abort(): a killed rank must not flush or clean up anything */
    return true;
}
