/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection. The environment is read once, at the first site that is passed; after that a site costs one string
 * comparison, and only where a fault is asked for. Sites are passed on the main thread alone: the counter has no lock.
 */
#include "espalier/base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool parsed, kill;
    char site[64]; /* "": no fault */
    long rank, nth, passed;
    int list; /* where the sites that are passed are written, or -1 */
} fault;
static int fault_my_rank;

void espl_fault_rank(int rank) { fault_my_rank = rank; }

/* A malformed value leaves fault.site empty: the run then succeeds, and the test that asked for a fault fails. */
static void fault_parse_environment(void) {
    fault.parsed = true;
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

bool espl_fault(const char *site) {
    if (!fault.parsed) fault_parse_environment();
    if (fault.list >= 0) (void)dprintf(fault.list, "%s %d\n", site, fault_my_rank);
    if (!fault.site[0] || fault_my_rank != fault.rank || strcmp(site, fault.site) != 0) return false;
    fault.passed++;
    if (fault.nth > 0 && fault.passed != fault.nth) return false;
    if (fault.kill) raise(SIGKILL); /* not abort(): a killed rank must not flush or clean up anything */
    return true;
}
