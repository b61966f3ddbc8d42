/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock, and timed regions: where the time of a run goes (timing.json, --verbose). All functions are Local; call
 * them from the main thread.
 */
#ifndef ESPALIER_BASE_REGION_H
#define ESPALIER_BASE_REGION_H

#include <stddef.h>

/* Seconds of a monotonic clock. */
double espl_clock_now(void);

/* X(name, label). LOAD to TRANSFER are kinds of computation; the regions from PROFILE on are phases of a pruning run,
 * which contain the former. */
#define ESPL_REGION_LIST(X)                                                                                            \
    X(LOAD, "load")                                                                                                    \
    X(TOKENIZE, "tokenize")                                                                                            \
    X(LINEAR, "linear")                                                                                                \
    X(ATTENTION, "attention")                                                                                          \
    X(ELEMENTWISE, "elementwise")                                                                                      \
    X(HEAD, "head")                                                                                                    \
    X(TRANSFER, "transfer wait")                                                                                       \
    X(PROFILE, "profile")                                                                                              \
    X(AGENT, "agent")                                                                                                  \
    X(PRUNE, "prune")                                                                                                  \
    X(JUDGE, "perplexity")                                                                                             \
    X(PROBE, "probes")                                                                                                 \
    X(CHECKPOINT, "checkpoint")                                                                                        \
    X(REPORT, "report")                                                                                                \
    X(EXPORT, "export")
/* "45 s", "12 min", "3.5 h": for people, an estimate that moves should not look exact. */
void espl_clock_format(double seconds, char *buf, size_t size);

typedef enum espl_region {
#define X(name, label) ESPL_REGION_##name,
    ESPL_REGION_LIST(X)
#undef X
        ESPL_REGION_COUNT
} espl_region;
enum { ESPL_REGION_PHASES = ESPL_REGION_PROFILE }; /* the first phase */

const char *espl_region_label(espl_region r);
/* Adds `seconds` to a region. */
void espl_region_add(espl_region r, double seconds);
/* Adds the time since `since` to a region and returns the current time: for consecutive parts of one function.
 *
 *     double t = espl_clock_now();
 *     ...
 *     t = espl_region_lap(ESPL_REGION_LINEAR, t);
 *     ...
 *     t = espl_region_lap(ESPL_REGION_ATTENTION, t); */
double espl_region_lap(espl_region r, double since);
double espl_region_seconds(espl_region r);
/* Sets all regions to 0. */
void espl_region_reset(void);

/* Times the rest of the enclosing block, early exits included:
 *
 *     ESPL_REGION_SCOPE(ESPL_REGION_EXPORT);
 *
 * It declares a variable. A goto from above it to a label below it in the same block would skip the declaration and
 * time from an undefined start: place it before the first ESPL_CHECK of the block. */
typedef struct espl_region_scope {
    espl_region region;
    double start;
} espl_region_scope;
espl_region_scope espl_region_scope_begin(espl_region r);
void espl_region_scope_end(const espl_region_scope *s);
#define ESPL_REGION_JOIN_(a, b) a##b
#define ESPL_REGION_NAME_(line) ESPL_REGION_JOIN_(espl_region_scope_, line)
#define ESPL_REGION_SCOPE(region)                                                                                      \
    espl_region_scope ESPL_REGION_NAME_(__LINE__) __attribute__((cleanup(espl_region_scope_end), unused)) =            \
        espl_region_scope_begin(region)

#endif
