/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cores of a node, its NUMA domains, and where ranks run on them. All functions are Local.
 *
 * The threads of a rank read each other's masks, activations and weights, so a rank belongs into one NUMA domain: the
 * recommended layout has one rank per domain, with a thread for each core of it.
 */
#ifndef ESPALIER_SCHEDULE_TOPOLOGY_H
#define ESPALIER_SCHEDULE_TOPOLOGY_H

#include "espalier/base.h"

enum { ESPL_PROCESSORS = 4096, ESPL_PROCESSOR_WORDS = ESPL_PROCESSORS / 64 };

/* Bit i % 64 of word i / 64: processor i of the operating system (a hardware thread), or core i of a topology. */
typedef struct espl_cpu_set {
    uint64_t words[ESPL_PROCESSOR_WORDS];
} espl_cpu_set;

void espl_cpu_set_add(espl_cpu_set *s, int64_t i);
int64_t espl_cpu_set_count(const espl_cpu_set *s);
/* The processors that this thread may run on; empty if the system does not tell. */
espl_cpu_set espl_cpu_set_bound(void);

typedef struct espl_topology {
    int64_t sockets, domains, cores;    /* that this job may use; a domain without cores does not count */
    int64_t domain_cores;               /* of the smallest domain */
    int16_t core_of[ESPL_PROCESSORS];   /* the core of each processor; -1: none that the job may use */
    int16_t domain_of[ESPL_PROCESSORS]; /* [cores] */
} espl_topology;

/* This node, as hwloc sees it: HWLOC_SYNTHETIC and HWLOC_XMLFILE describe another one. Without hwloc, or if it fails,
 * every processor that is online is a core of one domain. */
void espl_topology_read(espl_topology *out);

/* "2.8.0", the version of the interface of the hwloc in use, or "none". Static storage. */
const char *espl_topology_library(void);

/* Where a rank runs. */
typedef struct espl_place {
    int64_t rank, threads;
    espl_cpu_set cores; /* of the topology */
} espl_place;

/* The place of a rank whose threads may run on the processors `bound`: on all cores, if none of them is known. */
espl_place espl_topology_place(const espl_topology *t, const espl_cpu_set *bound, int64_t rank, int64_t threads);

/* What slows down the ranks of a node; -1: nothing of the kind. Each names the first rank that it concerns. */
typedef struct espl_layout_faults {
    int64_t crowded, crowded_threads, crowded_cores; /* a rank with more threads than cores it is bound to */
    int64_t shared, shared_with;                     /* two ranks whose cores overlap and do not hold both's threads */
    int64_t split, split_domains;                    /* a rank whose threads may run in several domains */
    int64_t spare;                                   /* cores beyond the threads of all ranks; < 0: missing ones */
} espl_layout_faults;

/* places [n]: those of the ranks of a node. */
espl_layout_faults espl_layout_check(const espl_topology *t, const espl_place *places, int64_t n);

#endif
