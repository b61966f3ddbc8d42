/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm: the only home of MPI. Ranks and their grid, agreement on errors, broadcast, gathering, sums in a fixed order,
 * and the hand-off between pipeline stages. Every wait polls, yields, then sleeps, so that a waiting rank leaves its
 * core to the ranks that compute.
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

/* Ranks as replicas x stages: rank r is stage r % stages of replica r / stages. The stages of a replica form a pipeline
 * and hold the whole model between them; replicas hold the same model and share what is done with it, such as windows
 * of text. Every rank belongs to one pipeline, and to the peers of its stage, one of each replica.
 *
 * `members` neighbouring replicas are a team, which can share one window: each takes some of its tokens. Apart from
 * such windows the members of a team are replicas like all others. */
typedef struct espl_grid {
    int replicas, stages, members; /* of a team: divides replicas */
    int replica, stage;            /* of this rank */
    espl_comm *pipeline;           /* rank = stage; a grid of one replica */
    espl_comm *peers;              /* rank = replica; a grid of one stage */
    espl_comm *team;               /* rank = replica % members; a grid of one stage and one team */
} espl_grid;

/* Local. The grid of c: 1 x size, unless espl_comm_arrange made c. Valid as long as c. */
const espl_grid *espl_comm_grid(espl_comm *c);
/* Collective. Makes a communicator of the first replicas * stages ranks of c, with that grid; *out is NULL on the ranks
 * that are left over, which must not take part until espl_comm_agree on c at the end. Both >= 1, their product at most
 * the size of c; members >= 1 divides replicas. ESPL_NOMEM. End it with espl_comm_release, collective over its ranks,
 * before c. */
espl_status espl_comm_arrange(espl_comm *c, int replicas, int stages, int members, espl_comm **out);
void espl_comm_release(espl_comm **c);
/* Local. Where part `part` of `parts` nearly equal parts of n things begins; part = parts: n. */
static inline int64_t espl_part_begin(int64_t n, int parts, int part) { return n * part / parts; }
/* Collective. A communicator of the ranks of c on this rank's node, in their order. ESPL_NOMEM. End it with
 * espl_comm_release, also after a failure. */
espl_status espl_comm_create_node(espl_comm *c, espl_comm **out);
/* Local. A communicator of this rank alone, for work that it does without the others. End it with espl_comm_release. */
espl_status espl_comm_create_alone(espl_comm **out);

int espl_comm_rank(const espl_comm *c); /* Local */
int espl_comm_size(const espl_comm *c); /* Local */
/* Collective. Ranks of c on this rank's node. */
int espl_comm_ranks_on_node(espl_comm *c);
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

/* Local. Tells rank 0 of c, which need not expect it, that this rank wants its attention; more than once is the same as
 * once. For what cannot wait for the next collective, such as a signal while rank 0 waits for an agent. */
void espl_comm_nudge(espl_comm *c);
/* Rank 0 only, and Local. Has another rank nudged it since c was made? */
bool espl_comm_nudged(espl_comm *c);
/* Local. idle(context) is called every few milliseconds while this rank waits for others, whatever it waits for; it may
 * only call espl_comm_nudge. NULL: nothing is called any more. */
void espl_comm_watch(void (*idle)(void *context), void *context);

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

/* Collective. One round of a sum over work that is dealt out in rounds, with an array of n totals that is spread over
 * the ranks: total[i] += mine[i] of rank 0, then of rank 1, ... up to rank contributors - 1, strictly in that order,
 * for the part of the array (espl_part_begin) that is this rank's. After the last round espl_comm_share_parts completes
 * total everywhere. mine, total [n], scratch [n + size]; n < 2^31. */
void espl_comm_add_round_f64(espl_comm *c, const double *mine, int64_t n, int contributors, double *scratch,
                             double *total);
void espl_comm_add_round_f32(espl_comm *c, const float *mine, int64_t n, int contributors, float *scratch,
                             float *total);
/* Collective. Rank r has elements begin[r] .. begin[r + 1] - 1 of `size` bytes of an array; afterwards every rank has
 * all. begin [size of c + 1] is the same on every rank; NULL: parts of n elements (espl_part_begin). */
void espl_comm_share_parts(espl_comm *c, void *array, const int64_t *begin, int64_t n, size_t size);
/* Collective. Rank r receives count[r] floats from send + at[r]; this rank receives received[q] floats of rank q at
 * receive + received_at[q]. All arrays [size of c]; pieces that are sent may overlap. Numbers < 2^31. */
void espl_comm_exchange_f32(espl_comm *c, const float *send, const int64_t *count, const int64_t *at, float *receive,
                            const int64_t *received, const int64_t *received_at);
/* Collective. Merges arrays of which each byte is 0 on all ranks but one: afterwards every rank has all. */
void espl_comm_merge(espl_comm *c, void *array, int64_t bytes);

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
