/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of this node. */
#include "espalier/run/node_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/integer.h"

/* The number behind `key` in the first line of a file that begins so; INT64_MAX if there is none, as for "max". */
static int64_t memory_read_number(const char *path, const char *key) {
    char line[256], *end;
    int64_t found = INT64_MAX;
    FILE *f = fopen(path, "r");
    while (f && found == INT64_MAX && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key)) != 0) continue;
        const char *digits = line + strlen(key);
        int64_t n = strtoll(digits, &end, 10);
        if (end != digits) found = n;
    }
    if (f) fclose(f);
    return found;
}

int64_t espl_node_memory(void) {
    enum { KIB = 1024, MIB = 1 << 20 };
    const char *job = getenv("SLURM_MEM_PER_NODE"); /* in MiB; 0: all of the node */
    int64_t memory = memory_read_number("/proc/meminfo", "MemAvailable:");
    int64_t limit = job ? strtoll(job, NULL, 10) : 0;
    if (memory < INT64_MAX / KIB) memory *= KIB;
    memory = espl_min_i64(memory, memory_read_number("/sys/fs/cgroup/memory.max", ""));
    return limit > 0 && limit < INT64_MAX / MIB ? espl_min_i64(memory, limit * MIB) : memory;
}

int64_t espl_node_needs(int64_t weights, int64_t rank_bytes, int ranks, int stages) {
    double part = (double)espl_min_i64(ranks, stages) / stages;
    return (int64_t)(1.1 * (part * (double)weights + (double)ranks * (double)rank_bytes));
}
