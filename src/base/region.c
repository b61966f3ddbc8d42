/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock, and the seconds of each region. One table per process, without a lock: only the main thread adds to it,
 * and threads inside a parallel kernel are timed by the scope around the kernel.
 */
#include "espalier/base/region.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static double region_seconds[ESPL_REGION_COUNT];

static const char *const region_labels[ESPL_REGION_COUNT] = {
#define X(name, label) label,
    ESPL_REGION_LIST(X)
#undef X
};

double espl_clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void espl_clock_format(double seconds, char *buf, size_t size) {
    if (seconds < 90)
        snprintf(buf, size, "%.0f s", seconds);
    else if (seconds < 5400)
        snprintf(buf, size, "%.0f min", seconds / 60);
    else
        snprintf(buf, size, "%.1f h", seconds / 3600);
}

const char *espl_region_label(espl_region r) { return region_labels[r]; }

void espl_region_add(espl_region r, double seconds) { region_seconds[r] += seconds; }

double espl_region_lap(espl_region r, double since) {
    double now = espl_clock_now();
    region_seconds[r] += now - since;
    return now;
}

double espl_region_seconds(espl_region r) { return region_seconds[r]; }

void espl_region_reset(void) { memset(region_seconds, 0, sizeof region_seconds); }

espl_region_scope espl_region_scope_begin(espl_region r) { return (espl_region_scope){r, espl_clock_now()}; }

void espl_region_scope_end(const espl_region_scope *s) { espl_region_lap(s->region, s->start); }
