/*
 * comm: the only home of MPI. Ranks, agreement on errors, broadcast, gathering, and the hand-off between pipeline
 * stages. Waiting never burns a core for long: every wait polls, yields, then sleeps.
 *
 * A fault of MPI itself ends the job (MPI_ERRORS_ARE_FATAL): Open MPI cannot recover a lost rank.
 */
#ifndef ESPALIER_COMM_H
#define ESPALIER_COMM_H

#include "espalier/base.h"

typedef struct espl_comm espl_comm;

/* Collective. Starts MPI (funneled threads). Owned by the caller. */
espl_status espl_comm_create(int *argc, char ***argv, espl_comm **out);
/* Collective. Ends MPI. */
void espl_comm_destroy(espl_comm **c);

int espl_comm_rank(const espl_comm *c); /* Local */
int espl_comm_size(const espl_comm *c); /* Local */
/* Local. "Open MPI v4.1.4, ...", first line only. Borrowed. Works before espl_comm_create. */
const char *espl_comm_library(void);

/* Local. Copies the MPI communicator to *mpi_comm, an MPI_Comm: for a library that talks MPI itself (HDF5). */
void espl_comm_mpi(const espl_comm *c, void *mpi_comm);

/* Collective. The status of the lowest rank that failed, with its error text and place, on every rank; ESPL_OK if none
 * did. Call once per phase of Local work, before the next collective. */
espl_status espl_comm_agree(espl_comm *c, espl_status mine);

/* Collective. `bytes` bytes at buf from rank `root` to all. bytes must be equal everywhere; any size. */
void espl_comm_broadcast(espl_comm *c, void *buf, int64_t bytes, int root);
/* Collective. A byte string of rank root: elsewhere *s is replaced. */
espl_status espl_comm_broadcast_str(espl_comm *c, espl_str *s, int root);
/* Collective. One double of every rank into all [size] on every rank, in rank order. */
void espl_comm_gather_f64(espl_comm *c, double mine, double *all);
/* Collective. The largest of all ranks' values. */
int espl_comm_max(espl_comm *c, int mine);
/* Collective. `count` records of `size` bytes of every rank into `all` on rank 0, in rank order (elsewhere `all` may be
 * NULL). total: how many there are in all; ESPL_INTERNAL on every rank if there are not. */
espl_status espl_comm_gather_records(espl_comm *c, const void *mine, int64_t count, size_t size, int64_t total,
                                     void *all);

/* Collective. At rank root: sum[i] += mine[i] of rank 0, then of rank 1, ... up to rank contributors - 1, in that order
 * and in double, so that a sum over work that is dealt out in rounds does not depend on how many ranks there are. mine
 * [n] of float or double; sum [n] is read at the root only. */
espl_status espl_comm_add_f32(espl_comm *c, const float *mine, int64_t n, int contributors, int root, double *sum);
espl_status espl_comm_add_f64(espl_comm *c, const double *mine, int64_t n, int contributors, int root, double *sum);

/* A transfer under way. Plain data; zero-initialised means none. */
typedef struct espl_transfer {
    int64_t first, count; /* its requests, in the communicator's table */
} espl_transfer;

/* Local. Starts sending / receiving `bytes` bytes to / from rank `peer`; transfers between a pair of ranks match in the
 * order they were started. buf must stay untouched until espl_comm_wait. */
espl_status espl_comm_send(espl_comm *c, const void *buf, int64_t bytes, int peer, espl_transfer *t);
espl_status espl_comm_receive(espl_comm *c, void *buf, int64_t bytes, int peer, espl_transfer *t);
/* Local. Waits for the transfer, quietly; *t becomes none. NULL-like on none. */
void espl_comm_wait(espl_comm *c, espl_transfer *t);
/* Local. Lets transfers advance; call it now and then during long computations. */
void espl_comm_progress(espl_comm *c);

#endif
