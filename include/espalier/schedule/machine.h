/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A computer to plan for: how fast its ranks compute and talk. Measured by --calibrate, kept in a small JSON file, read
 * by --machine. All functions are Local.
 */
#ifndef ESPALIER_SCHEDULE_MACHINE_H
#define ESPALIER_SCHEDULE_MACHINE_H

#include "espalier/base.h"

enum { ESPL_MACHINE_SPEEDS = 16 };

/* The linears of a rank with so many threads, all threads together. */
typedef struct espl_machine_speed {
    int64_t threads;
    double flops; /* per second */
} espl_machine_speed;

typedef struct espl_machine {
    espl_machine_speed speeds[ESPL_MACHINE_SPEEDS]; /* [n] by threads */
    int64_t n;
    int64_t cores, domains; /* of a node; 0: unknown */
    double latency;         /* seconds of the smallest message between two ranks */
    double bandwidth;       /* bytes per second of a large one */
    double disk;            /* bytes per second of a checkpoint, all ranks together */
} espl_machine;

/* A machine about which nothing is known but guesses: 5 us and 5 GB/s between ranks, 0.5 GB/s to the disk, no speed. */
espl_machine espl_machine_unknown(void);

/* FLOP/s of a rank with so many threads: between measured numbers of threads a power law, beyond the largest the speed
 * per thread that it has; below the smallest likewise. 0 without speeds. */
double espl_machine_flops(const espl_machine *m, int64_t threads);

/* Seconds until `bytes` bytes have arrived. */
double espl_machine_transfer(const espl_machine *m, double bytes);

/* ESPL_IO; ESPL_FORMAT naming file and key: not a file that espl_machine_write made. */
espl_status espl_machine_read(const char *path, espl_machine *out);
espl_status espl_machine_write(const espl_machine *m, const char *path);

#endif
