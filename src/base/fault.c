/* Failures on demand: tests/fault asks for them through the environment. */
#include "espalier/base.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool read, kill;
    char site[64];
    long rank, nth, passed;
} fault;
static int my_rank;

void espl_fault_rank(int rank) { my_rank = rank; }

/* "site:rank[:nth[:kill]]"; anything else leaves fault.site empty: no fault. */
static void read_environment(void) {
    fault.read = true;
    const char *text = getenv("ESPL_FAULT"), *colon = text ? strchr(text, ':') : NULL;
    if (!colon || (size_t)(colon - text) >= sizeof fault.site) return;
    char *end;
    fault.rank = strtol(colon + 1, &end, 10);
    if (*end == ':') fault.nth = strtol(end + 1, &end, 10);
    fault.kill = strcmp(end, ":kill") == 0;
    if (end == colon + 1 || (*end && !fault.kill)) return;
    memcpy(fault.site, text, (size_t)(colon - text));
}

bool espl_fault(const char *site) {
    if (!fault.read) read_environment();
    if (!fault.site[0] || my_rank != fault.rank || strcmp(site, fault.site) != 0) return false;
    fault.passed++;
    if (fault.nth > 0 && fault.passed != fault.nth) return false;
    if (fault.kill) raise(SIGKILL);
    return true;
}
