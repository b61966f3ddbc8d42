/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm: the only home of MPI. Ranks, agreement on errors, broadcast, gathering, and the hand-off between pipeline
 * stages. Every wait polls, yields, then sleeps, so that a waiting rank leaves its core to the ranks that compute.
 *
 * MPI itself reports no errors: the communicator keeps MPI_ERRORS_ARE_FATAL, because Open MPI cannot recover from a
 * lost rank. The functions that return a status fail for reasons of their own, such as memory.
 */
#ifndef ESPALIER_COMM_H
#define ESPALIER_COMM_H

#include "espalier/base.h"

typedef struct espl_comm espl_comm;

/* Collective. Starts MPI (MPI_THREAD_FUNNELED: only the main thread may call this room). ESPL_COMM if the library does
 * not offer that. Owned by the caller. */
espl_status espl_comm_create(int *argc, char ***argv, espl_comm **out);
/* Collective. Ends MPI. */
void espl_comm_destroy(espl_comm **c);

/* Local. A communicator of this rank alone, for work that it does without the others. Owned by the caller:
 * espl_comm_destroy_alone. */
espl_status espl_comm_create_alone(espl_comm **out);
void espl_comm_destroy_alone(espl_comm **c);

int espl_comm_rank(const espl_comm *c); /* Local */
int espl_comm_size(const espl_comm *c); /* Local */
/* Local. "Open MPI v4.1.4, ...", the first line only. Static storage. Works before espl_comm_create. */
const char *espl_comm_library(void);

/* Local. Copies the MPI communicator to *mpi_comm, an MPI_Comm, for a library that calls MPI itself (HDF5). */
void espl_comm_mpi(const espl_comm *c, void *mpi_comm);

/* Local. Hints for MPI-IO, "name=value,name=value": which of them count, and what they mean, is up to the MPI library.
 * `check` needs no MPI. `create` makes *mpi_info, an MPI_Info: free it with espl_comm_hints_free. ESPL_CONFIG for text
 * of another form. */
espl_status espl_comm_hints_check(const char *hints);
espl_status espl_comm_hints_create(const char *hints, void *mpi_info);
void espl_comm_hints_free(void *mpi_info);

/* Collective. Returns on every rank the status of the lowest rank that failed, and makes its error text and place the
 * current error; ESPL_OK if no rank failed. Call it after every phase of Local work that may fail, before the next
 * collective: otherwise the failed rank leaves and the others wait for it forever. */
espl_status espl_comm_agree(espl_comm *c, espl_status mine);

/* Collective. Copies `bytes` bytes at buf from rank `root` to all. `bytes` must be equal on all ranks; any size. */
void espl_comm_broadcast(espl_comm *c, void *buf, int64_t bytes, int root);
/* Collective. Replaces *s on all ranks by the byte string of rank `root`. ESPL_NOMEM, on every rank. */
espl_status espl_comm_broadcast_str(espl_comm *c, espl_str *s, int root);
/* Collective. Gathers one double per rank into all [size], in rank order, on every rank. */
void espl_comm_gather_f64(espl_comm *c, double mine, double *all);
/* Collective. The maximum over the ranks. */
int espl_comm_max(espl_comm *c, int mine);
/* Collective. Gathers `count` records of `size` bytes per rank into all [total] on rank 0, in rank order (`all` may be
 * NULL elsewhere). ESPL_INTERNAL on every rank if the counts do not add up to `total`; ESPL_NOMEM. */
espl_status espl_comm_gather_records(espl_comm *c, const void *mine, int64_t count, size_t size, int64_t total,
                                     void *all);

/* Collective. On rank `root`: sum[i] += mine[i] of rank 0, then of rank 1, ... up to rank contributors - 1, strictly in
 * that order and in double. MPI_Reduce leaves the order open; with this one, a sum over work that is dealt out in
 * rounds has the same bits on any number of ranks. mine [n] of float or double; sum [n], used on the root only.
 * ESPL_NOMEM. */
espl_status espl_comm_add_f32(espl_comm *c, const float *mine, int64_t n, int contributors, int root, double *sum);
espl_status espl_comm_add_f64(espl_comm *c, const double *mine, int64_t n, int contributors, int root, double *sum);

/* A pending transfer. Plain data; all zero: no transfer. */
typedef struct espl_transfer {
    int64_t first, count; /* its requests in the communicator's table */
} espl_transfer;

/* Local. Starts to send or receive `bytes` bytes to or from rank `peer`. Transfers between two ranks match in the order
 * in which they were started. buf must stay untouched until espl_comm_wait. ESPL_COMM if too many are pending. */
espl_status espl_comm_send(espl_comm *c, const void *buf, int64_t bytes, int peer, espl_transfer *t);
espl_status espl_comm_receive(espl_comm *c, void *buf, int64_t bytes, int peer, espl_transfer *t);
/* Local. Waits for the transfer and resets *t; returns at once if *t is empty. */
void espl_comm_wait(espl_comm *c, espl_transfer *t);
/* Local. Lets pending transfers advance; call it regularly during long computations. */
void espl_comm_progress(espl_comm *c);

#endif
