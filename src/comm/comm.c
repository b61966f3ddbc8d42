/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MPI. Only non-blocking calls are used, collectives included, and all are completed by comm_wait_request, but for the
 * few that make communicators, which all ranks enter at the same time. Blocking calls of Open MPI spin on a core, which
 * starves the ranks that compute when ranks share cores (tests, laptops) and takes the core from the OpenMP threads of
 * the same rank.
 */
#include "espalier/comm.h"

#include <inttypes.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 1 << 30, /* Open MPI 4.1 counts in int: larger buffers travel in pieces of this size */
    REQUESTS = 64,         /* pending at once; the pipeline needs a few per neighbour */
    TRANSFER_TAG = 7,      /* any; matching is by order alone */
    NUDGE_TAG = 8
};

struct espl_comm {
    MPI_Comm world; /* its ranks; not always those of MPI_COMM_WORLD */
    int rank, size;
    espl_grid grid;
    int *counts;                    /* [4 * size] scratch of comm_receive_parts and espl_comm_exchange_f32 */
    bool nudged;                    /* rank 0: by another rank; elsewhere: rank 0 has been told */
    MPI_Request requests[REQUESTS]; /* MPI_REQUEST_NULL: free */
};

static pid_t comm_launcher;

/* Set by espl_comm_watch. */
static void (*comm_idle)(void *context);
static void *comm_idle_context;

/* The signal also comes when only the thread of mpirun that started this process has ended. */
static void comm_end_without_launcher(int number) {
    (void)number;
    if (getppid() != comm_launcher) raise(SIGKILL);
}

/* Open MPI 4.1 waits for ever in MPI_Init for an mpirun that is killed meanwhile; later it notices. While this is on,
 * the rank ends with its mpirun. A process that was started by anything else may outlive what started it. */
static void comm_watch_launcher(bool on) {
    if (!getenv("OMPI_COMM_WORLD_RANK")) return;
    comm_launcher = getppid();
    if (on) signal(SIGUSR2, comm_end_without_launcher);
    prctl(PR_SET_PDEATHSIG, on ? SIGUSR2 : 0);
    if (!on) signal(SIGUSR2, SIG_DFL);
}

/* Local. Takes over `world`, also after a failure. With `pipeline`, a pipeline of all ranks, whose peers and team are
 * this rank alone; else its own pipeline, peers and team. */
static espl_status comm_wrap(MPI_Comm world, bool pipeline, espl_comm **out) {
    espl_comm *c;
    espl_status st = espl_mem_alloc(out, 1, sizeof **out, "communicator");
    if (st != ESPL_OK) {
        if (world != MPI_COMM_WORLD && world != MPI_COMM_SELF) MPI_Comm_free(&world);
        return st;
    }
    c = *out;
    c->world = world;
    MPI_Comm_rank(c->world, &c->rank);
    MPI_Comm_size(c->world, &c->size);
    for (int i = 0; i < REQUESTS; i++) c->requests[i] = MPI_REQUEST_NULL;
    c->grid = (espl_grid){.replicas = 1, .stages = c->size, .members = 1, .stage = c->rank};
    c->grid.pipeline = c->grid.peers = c->grid.team = c;
    ESPL_TRY(espl_mem_alloc(&c->counts, (int64_t)4 * c->size, sizeof *c->counts, "communicator"));
    if (!pipeline) return ESPL_OK;
    ESPL_TRY(comm_wrap(MPI_COMM_SELF, false, &c->grid.peers));
    c->grid.team = c->grid.peers;
    return ESPL_OK;
}

espl_status espl_comm_create(int *argc, char ***argv, espl_comm **out) {
    int provided;
    *out = NULL;
    comm_watch_launcher(true);
    (void)espl_fault("comm.begin");
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    comm_watch_launcher(false);
    ESPL_TRY(comm_wrap(MPI_COMM_WORLD, true, out));
    espl_fault_rank((*out)->rank); /* fault injection names ranks */
    if (provided >= MPI_THREAD_FUNNELED) return ESPL_OK;
    return ESPL_FAIL(ESPL_COMM, "this MPI library does not offer MPI_THREAD_FUNNELED, which espalier needs");
}

void espl_comm_destroy(espl_comm **c) {
    if (!c || !*c) return;
    espl_comm_release(c);
    MPI_Finalize();
}

/* ----------------------------------------------------------------- grid */

const espl_grid *espl_comm_grid(espl_comm *c) { return &c->grid; }

void espl_comm_release(espl_comm **cp) {
    if (!cp || !*cp) return;
    espl_comm *c = *cp;
    if (c->grid.pipeline != c) espl_comm_release(&c->grid.pipeline);
    if (c->grid.team != c && c->grid.team != c->grid.peers) espl_comm_release(&c->grid.team);
    if (c->grid.peers != c) espl_comm_release(&c->grid.peers);
    if (c->rank == 0) espl_comm_nudged(c); /* no message may be left over at the end of MPI */
    if (c->world != MPI_COMM_WORLD && c->world != MPI_COMM_SELF) MPI_Comm_free(&c->world);
    espl_mem_free(&c->counts);
    espl_mem_free(cp);
}

/* The ranks of `c` of one colour, in their order; nothing on ranks without one. Splitting is a blocking call, which all
 * ranks enter at the same time (espl_comm_agree). */
static espl_status comm_split(espl_comm *c, int colour, bool pipeline, espl_comm **out) {
    MPI_Comm part;
    espl_status st = ESPL_OK;
    *out = NULL;
    MPI_Comm_split(c->world, colour < 0 ? MPI_UNDEFINED : colour, c->rank, &part);
    if (colour >= 0) st = comm_wrap(part, pipeline, out);
    return espl_comm_agree(c, st);
}

espl_status espl_comm_arrange(espl_comm *c, int replicas, int stages, int members, espl_comm **out) {
    espl_comm *all = NULL;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_comm_agree(c, ESPL_OK));
    ESPL_CHECK(st, failed, comm_split(c, c->rank < replicas * stages ? 0 : -1, false, &all));
    if (!all) return ESPL_OK;
    all->grid = (espl_grid){.replicas = replicas, .stages = stages, .members = members};
    all->grid.replica = all->rank / stages;
    all->grid.stage = all->rank % stages;
    ESPL_CHECK(st, failed, comm_split(all, all->grid.replica, true, &all->grid.pipeline));
    ESPL_CHECK(st, failed, comm_split(all, all->grid.stage, false, &all->grid.peers));
    ESPL_CHECK(st, failed,
               comm_split(all, all->grid.replica / members * stages + all->grid.stage, false, &all->grid.team));
    *out = all;
    return ESPL_OK;
failed:
    espl_comm_release(&all);
    return st;
}

espl_status espl_comm_create_node(espl_comm *c, espl_comm **out) {
    MPI_Comm node;
    *out = NULL;
    ESPL_TRY(espl_comm_agree(c, ESPL_OK));
    MPI_Comm_split_type(c->world, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node);
    return espl_comm_agree(c, comm_wrap(node, false, out));
}

espl_status espl_comm_create_alone(espl_comm **out) { return comm_wrap(MPI_COMM_SELF, true, out); }

int espl_comm_rank(const espl_comm *c) { return c->rank; }

int espl_comm_size(const espl_comm *c) { return c->size; }

int espl_comm_ranks_on_node(espl_comm *c) {
    MPI_Comm node;
    int n;
    MPI_Comm_split_type(c->world, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &n);
    MPI_Comm_free(&node);
    return n;
}

void espl_comm_mpi(const espl_comm *c, void *mpi_comm) { memcpy(mpi_comm, &c->world, sizeof c->world); }

const char *espl_comm_library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int len = 0;
    MPI_Get_library_version(text, &len);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* Waits in growing steps: a prompt answer arrives while this spins; a rank that waits for another one's layers, or for
 * the agent's reply, sleeps. The longest nap bounds what a wait can add to the time of a phase. */
static void comm_wait_request(MPI_Request *r) {
    enum { SPINS = 200, YIELDS = 1000, SHORT_NAPS = 1100, MEDIUM_NAPS = 2000 };
    int done = 0;
    for (int64_t turn = 0;; turn++) {
        MPI_Test(r, &done, MPI_STATUS_IGNORE);
        if (done) return;
        if (turn < SPINS) continue;
        if (turn < YIELDS) {
            sched_yield();
            continue;
        }
        if (comm_idle) comm_idle(comm_idle_context);
        int64_t microseconds = turn < SHORT_NAPS ? 20 : turn < MEDIUM_NAPS ? 200 : 2000;
        nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
    }
}

/* -------------------------------------------------------------- nudges */

void espl_comm_watch(void (*idle)(void *context), void *context) {
    comm_idle = idle;
    comm_idle_context = context;
}

void espl_comm_nudge(espl_comm *c) {
    MPI_Request r;
    if (c->nudged || c->rank == 0) return;
    c->nudged = true;
    MPI_Isend(NULL, 0, MPI_BYTE, 0, NUDGE_TAG, c->world, &r);
    MPI_Request_free(&r); /* nothing is sent but the envelope: there is no buffer to wait for */
}

bool espl_comm_nudged(espl_comm *c) {
    int there = c->size > 1;
    while (there) {
        MPI_Iprobe(MPI_ANY_SOURCE, NUDGE_TAG, c->world, &there, MPI_STATUS_IGNORE);
        if (!there) break;
        MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, NUDGE_TAG, c->world, MPI_STATUS_IGNORE);
        c->nudged = true;
    }
    return c->nudged;
}

/* --------------------------------------------------------- collectives */

/* Ranks that succeeded contribute `size`, the others their own number: the minimum is the lowest rank that failed. One
 * small reduction in the good case; the text travels only after a failure. */
espl_status espl_comm_agree(espl_comm *c, espl_status mine) {
    struct {
        int status;
        char place[128];
        char text[ESPL_ERROR_TEXT_MAX];
    } failure = {.status = mine};
    int first, me = mine == ESPL_OK ? c->size : c->rank;
    MPI_Request r;
    MPI_Iallreduce(&me, &first, 1, MPI_INT, MPI_MIN, c->world, &r);
    comm_wait_request(&r);
    if (first == c->size) return ESPL_OK;
    snprintf(failure.place, sizeof failure.place, "%s", espl_base_error_place());
    snprintf(failure.text, sizeof failure.text, "%s", espl_base_error_text());
    espl_comm_broadcast(c, &failure, sizeof failure, first);
    if (first == c->rank || c->size == 1) return mine;
    espl_base_error_set(failure.place, failure.text);
    return (espl_status)failure.status;
}

void espl_comm_broadcast(espl_comm *c, void *buf, int64_t bytes, int root) {
    for (int64_t at = 0; at < bytes; at += PIECE_BYTES) {
        MPI_Request r;
        MPI_Ibcast((char *)buf + at, (int)espl_min_i64(bytes - at, PIECE_BYTES), MPI_BYTE, root, c->world, &r);
        comm_wait_request(&r);
    }
}

espl_status espl_comm_broadcast_str(espl_comm *c, espl_str *s, int root) {
    int64_t len = s->len;
    espl_status st = ESPL_OK;
    espl_comm_broadcast(c, &len, sizeof len, root);
    if (c->rank != root) {
        st = espl_mem_resize(&s->data, len + 1, 1, "broadcast text");
        if (st == ESPL_OK) {
            s->len = len;
            s->cap = len + 1;
            s->data[len] = '\0';
        }
    }
    ESPL_TRY(espl_comm_agree(c, st));
    espl_comm_broadcast(c, s->data, len, root);
    return ESPL_OK;
}

void espl_comm_gather_f64(espl_comm *c, double mine, double *all) {
    MPI_Request r;
    MPI_Iallgather(&mine, 1, MPI_DOUBLE, all, 1, MPI_DOUBLE, c->world, &r);
    comm_wait_request(&r);
}

int espl_comm_max(espl_comm *c, int mine) {
    int max;
    MPI_Request r;
    MPI_Iallreduce(&mine, &max, 1, MPI_INT, MPI_MAX, c->world, &r);
    comm_wait_request(&r);
    return max;
}

/* ----------------------------------------------------------- transfers */

/* Reserves consecutive free requests, one per piece: a transfer is then described by two numbers. */
static espl_status comm_reserve_requests(const espl_comm *c, int64_t bytes, espl_transfer *t) {
    int64_t n = bytes / PIECE_BYTES + 1;
    *t = (espl_transfer){0};
    for (int64_t i = 0, run = 0; i < REQUESTS; i++) {
        run = c->requests[i] == MPI_REQUEST_NULL ? run + 1 : 0;
        if (run < n) continue;
        *t = (espl_transfer){.first = i - n + 1, .count = n};
        return ESPL_OK;
    }
    return ESPL_FAIL(ESPL_COMM, "too many pending transfers to start another one of %" PRId64 " bytes", bytes);
}

espl_status espl_comm_send(espl_comm *c, const void *buf, int64_t bytes, int peer, espl_transfer *t) {
    ESPL_TRY(comm_reserve_requests(c, bytes, t));
    for (int64_t i = 0, at = 0; i < t->count; i++, at += PIECE_BYTES)
        MPI_Isend((const char *)buf + at, (int)espl_min_i64(bytes - at, PIECE_BYTES), MPI_BYTE, peer, TRANSFER_TAG,
                  c->world, &c->requests[t->first + i]);
    return ESPL_OK;
}

espl_status espl_comm_receive(espl_comm *c, void *buf, int64_t bytes, int peer, espl_transfer *t) {
    ESPL_TRY(comm_reserve_requests(c, bytes, t));
    for (int64_t i = 0, at = 0; i < t->count; i++, at += PIECE_BYTES)
        MPI_Irecv((char *)buf + at, (int)espl_min_i64(bytes - at, PIECE_BYTES), MPI_BYTE, peer, TRANSFER_TAG, c->world,
                  &c->requests[t->first + i]);
    return ESPL_OK;
}

void espl_comm_wait(espl_comm *c, espl_transfer *t) {
    for (int64_t i = 0; i < t->count; i++) comm_wait_request(&c->requests[t->first + i]);
    *t = (espl_transfer){0};
}

/* Open MPI advances transfers only inside of MPI calls; the probe is one that changes nothing. */
void espl_comm_progress(espl_comm *c) {
    int flag;
    if (c->size > 1) MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->world, &flag, MPI_STATUS_IGNORE);
}

/* --------------------------------------------------------------- parts */

void espl_comm_share_parts(espl_comm *c, void *array, const int64_t *begin, int64_t n, size_t size) {
    for (int r = 0; r < c->size && c->size > 1; r++) {
        int64_t first = begin ? begin[r] : espl_part_begin(n, c->size, r);
        int64_t last = begin ? begin[r + 1] : espl_part_begin(n, c->size, r + 1);
        espl_comm_broadcast(c, (char *)array + first * (int64_t)size, (last - first) * (int64_t)size, r);
    }
}

/* Each rank receives its part of all arrays at once. Returns those of the contributors, one behind the other; *begin,
 * *part: the place of the part and its length. */
static const void *comm_receive_parts(espl_comm *c, const void *mine, int64_t n, bool is_double, int contributors,
                                      void *scratch, int64_t *begin, int64_t *part) {
    int *send = c->counts, *send_at = send + c->size, *receive = send_at + c->size, *receive_at = receive + c->size;
    MPI_Datatype type = is_double ? MPI_DOUBLE : MPI_FLOAT;
    MPI_Request r;
    *begin = espl_part_begin(n, c->size, c->rank);
    *part = espl_part_begin(n, c->size, c->rank + 1) - *begin;
    if (c->size == 1) return mine;
    for (int i = 0; i < c->size; i++) {
        int64_t first = espl_part_begin(n, c->size, i), last = espl_part_begin(n, c->size, i + 1);
        send_at[i] = (int)first;
        send[i] = c->rank < contributors ? (int)(last - first) : 0;
        receive_at[i] = (int)(i * *part);
        receive[i] = i < contributors ? (int)*part : 0;
    }
    MPI_Ialltoallv(mine, send, send_at, type, scratch, receive, receive_at, type, c->world, &r);
    comm_wait_request(&r);
    return scratch;
}

void espl_comm_add_round_f64(espl_comm *c, const double *mine, int64_t n, int contributors, double *scratch,
                             double *total) {
    int64_t begin, part;
    const double *from = comm_receive_parts(c, mine, n, true, contributors, scratch, &begin, &part);
    for (int k = 0; k < contributors; k++, from += part)
        for (int64_t i = 0; i < part; i++) total[begin + i] += from[i];
}

void espl_comm_add_round_f32(espl_comm *c, const float *mine, int64_t n, int contributors, float *scratch,
                             float *total) {
    int64_t begin, part;
    const float *from = comm_receive_parts(c, mine, n, false, contributors, scratch, &begin, &part);
    for (int k = 0; k < contributors; k++, from += part)
        for (int64_t i = 0; i < part; i++) total[begin + i] += from[i];
}

void espl_comm_exchange_f32(espl_comm *c, const float *send, const int64_t *count, const int64_t *at, float *receive,
                            const int64_t *received, const int64_t *received_at) {
    int *out = c->counts, *out_at = out + c->size, *in = out_at + c->size, *in_at = in + c->size;
    MPI_Request r;
    for (int i = 0; i < c->size; i++) {
        out[i] = (int)count[i];
        out_at[i] = (int)at[i];
        in[i] = (int)received[i];
        in_at[i] = (int)received_at[i];
    }
    MPI_Ialltoallv(send, out, out_at, MPI_FLOAT, receive, in, in_at, MPI_FLOAT, c->world, &r);
    comm_wait_request(&r);
}

void espl_comm_merge(espl_comm *c, void *array, int64_t bytes) {
    for (int64_t at = 0; at < bytes && c->size > 1; at += PIECE_BYTES) {
        MPI_Request r;
        MPI_Iallreduce(MPI_IN_PLACE, (char *)array + at, (int)espl_min_i64(bytes - at, PIECE_BYTES), MPI_BYTE, MPI_BOR,
                       c->world, &r);
        comm_wait_request(&r);
    }
}

/* Rank 0 receives from one rank after the other, straight into place. MPI_Gatherv would need int offsets. */
static espl_status comm_move_records(espl_comm *c, const void *mine, const double *counts, size_t size, char *all) {
    espl_transfer t;
    if (c->rank != 0) {
        ESPL_TRY(espl_comm_send(c, mine, (int64_t)counts[c->rank] * (int64_t)size, 0, &t));
        espl_comm_wait(c, &t);
        return ESPL_OK;
    }
    memcpy(all, mine, (size_t)counts[0] * size);
    for (int r = 1; r < c->size; r++) {
        all += (size_t)counts[r - 1] * size;
        ESPL_TRY(espl_comm_receive(c, all, (int64_t)counts[r] * (int64_t)size, r, &t));
        espl_comm_wait(c, &t);
    }
    return ESPL_OK;
}

espl_status espl_comm_gather_records(espl_comm *c, const void *mine, int64_t count, size_t size, int64_t total,
                                     void *all) {
    double *counts, sum = 0; /* exact up to 2^53 */
    espl_status st;
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_mem_alloc(&counts, c->size, sizeof *counts, "record counts")));
    espl_comm_gather_f64(c, (double)count, counts);
    for (int r = 0; r < c->size; r++) sum += counts[r];
    if ((int64_t)sum != total) { /* all ranks see the same counts: all leave here, or none */
        st = ESPL_FAIL(ESPL_INTERNAL, "%" PRId64 " records gathered, expected %" PRId64, (int64_t)sum, total);
        goto done;
    }
    st = espl_comm_agree(c, comm_move_records(c, mine, counts, size, all));
done:
    espl_mem_free(&counts);
    return st;
}
