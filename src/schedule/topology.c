/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the topology of a node by hwloc, and compares ranks with it. */
#include "espalier/schedule/topology.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "espalier/base/integer.h"

#ifdef ESPL_HWLOC
#include <hwloc.h>
#endif

void espl_cpu_set_add(espl_cpu_set *s, int64_t i) { s->words[i / 64] |= UINT64_C(1) << i % 64; }

static bool cpu_set_has(const espl_cpu_set *s, int64_t i) { return s->words[i / 64] >> i % 64 & 1; }

int64_t espl_cpu_set_count(const espl_cpu_set *s) {
    int64_t n = 0;
    for (int i = 0; i < ESPL_PROCESSOR_WORDS; i++) n += __builtin_popcountll(s->words[i]);
    return n;
}

espl_cpu_set espl_cpu_set_bound(void) {
    espl_cpu_set s = {0};
    _Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "cpu_set_t is an array of unsigned long");
    if (sched_getaffinity(0, sizeof s, (cpu_set_t *)s.words) != 0) s = (espl_cpu_set){0};
    return s;
}

/* --------------------------------------------------------------- the node */

/* Every processor that is online is a core. */
static void topology_count_processors(espl_topology *t) {
    int64_t online = espl_min_i64(espl_max_i64(sysconf(_SC_NPROCESSORS_ONLN), 1), ESPL_PROCESSORS);
    *t = (espl_topology){.sockets = 1, .domains = 1, .cores = online, .domain_cores = online};
    for (int64_t i = 0; i < ESPL_PROCESSORS; i++) t->core_of[i] = (int16_t)(i < online ? i : -1);
}

#ifdef ESPL_HWLOC
/* Numbers the processors of each core. Some machines, and some descriptions of one, have no level of cores: then every
 * processor is one. */
static void topology_take_cores(hwloc_topology_t h, espl_topology *t) {
    int n = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_CORE);
    hwloc_obj_type_t type = n > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    n = hwloc_get_nbobjs_by_type(h, type);
    for (int i = 0; i < n && t->cores < ESPL_PROCESSORS; i++) {
        hwloc_obj_t core = hwloc_get_obj_by_type(h, type, (unsigned)i);
        for (int pu = hwloc_bitmap_first(core->cpuset); pu >= 0 && pu < ESPL_PROCESSORS;
             pu = hwloc_bitmap_next(core->cpuset, pu))
            t->core_of[pu] = (int16_t)t->cores;
        t->cores++;
    }
}

/* Memory of two kinds beside the same cores is two NUMA nodes of hwloc, but one domain: a core is of the first one. */
static void topology_take_domains(hwloc_topology_t h, espl_topology *t) {
    int n = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_NUMANODE);
    for (int64_t c = 0; c < t->cores; c++) t->domain_of[c] = -1;
    for (int i = 0; i < n; i++) {
        hwloc_const_bitmap_t set = hwloc_get_obj_by_type(h, HWLOC_OBJ_NUMANODE, (unsigned)i)->cpuset;
        espl_cpu_set taken = {0};
        for (int64_t pu = 0; pu < ESPL_PROCESSORS; pu++) {
            int16_t core = t->core_of[pu];
            if (core < 0 || !hwloc_bitmap_isset(set, (unsigned)pu)) continue;
            if (t->domain_of[core] >= 0 && t->domain_of[core] != t->domains) continue;
            t->domain_of[core] = (int16_t)t->domains;
            espl_cpu_set_add(&taken, core);
        }
        int64_t cores = espl_cpu_set_count(&taken);
        if (cores == 0) continue;
        t->domain_cores = t->domains == 0 ? cores : espl_min_i64(t->domain_cores, cores);
        t->domains++;
    }
}

static bool topology_load(espl_topology *t) {
    hwloc_topology_t h;
    if (hwloc_topology_init(&h) != 0) return false;
    *t = (espl_topology){0};
    memset(t->core_of, -1, sizeof t->core_of);
    bool loaded = hwloc_topology_load(h) == 0;
    if (loaded) {
        topology_take_cores(h, t);
        topology_take_domains(h, t);
        t->sockets = espl_max_i64(1, hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_PACKAGE));
    }
    hwloc_topology_destroy(h);
    return t->cores > 0 && t->domains > 0;
}
#else
static bool topology_load(espl_topology *t) {
    (void)t;
    return false;
}
#endif

const char *espl_topology_library(void) {
    static char text[32] = "none";
#ifdef ESPL_HWLOC
    unsigned v = hwloc_get_api_version();
    snprintf(text, sizeof text, "%u.%u.%u", v >> 16, v >> 8 & 0xff, v & 0xff);
#endif
    return text;
}

void espl_topology_read(espl_topology *out) {
    if (!topology_load(out)) topology_count_processors(out);
}

/* -------------------------------------------------------------- the ranks */

espl_place espl_topology_place(const espl_topology *t, const espl_cpu_set *bound, int64_t rank, int64_t threads) {
    espl_place p = {.rank = rank, .threads = threads};
    for (int64_t i = 0; i < ESPL_PROCESSORS; i++)
        if (cpu_set_has(bound, i) && t->core_of[i] >= 0) espl_cpu_set_add(&p.cores, t->core_of[i]);
    if (espl_cpu_set_count(&p.cores) > 0) return p;
    for (int64_t c = 0; c < t->cores; c++) espl_cpu_set_add(&p.cores, c);
    return p;
}

static int64_t place_count_domains(const espl_topology *t, const espl_place *p) {
    espl_cpu_set domains = {0};
    for (int64_t c = 0; c < t->cores; c++)
        if (cpu_set_has(&p->cores, c) && t->domain_of[c] >= 0) espl_cpu_set_add(&domains, t->domain_of[c]);
    return espl_cpu_set_count(&domains);
}

/* Do two ranks get in each other's way? Ranks that are not bound overlap, too, but find room as long as there are
 * enough cores for both. */
static bool places_collide(const espl_place *a, const espl_place *b) {
    int64_t together = 0, common = 0;
    for (int i = 0; i < ESPL_PROCESSOR_WORDS; i++) {
        together += __builtin_popcountll(a->cores.words[i] | b->cores.words[i]);
        common += __builtin_popcountll(a->cores.words[i] & b->cores.words[i]);
    }
    return common > 0 && a->threads + b->threads > together;
}

espl_layout_faults espl_layout_check(const espl_topology *t, const espl_place *places, int64_t n) {
    espl_layout_faults f = {.crowded = -1, .shared = -1, .shared_with = -1, .split = -1};
    int64_t threads = 0;
    for (int64_t i = 0; i < n; i++) {
        const espl_place *p = &places[i];
        int64_t cores = espl_cpu_set_count(&p->cores), domains = place_count_domains(t, p);
        threads += p->threads;
        if (f.crowded < 0 && p->threads > cores) {
            f.crowded = p->rank;
            f.crowded_threads = p->threads;
            f.crowded_cores = cores;
        }
        if (f.split < 0 && p->threads > 1 && domains > 1) {
            f.split = p->rank;
            f.split_domains = domains;
        }
        for (int64_t k = 0; k < i && f.shared < 0; k++) {
            if (!places_collide(&places[k], p)) continue;
            f.shared = places[k].rank;
            f.shared_with = p->rank;
        }
    }
    f.spare = t->cores - threads;
    return f;
}
