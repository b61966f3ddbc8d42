#include "espalier/comm.h"

#include <mpi.h>
#include <sched.h>
#include <string.h>
#include <time.h>

/* Open MPI 4.1 counts in int: larger transfers go in pieces of this many bytes. */
enum { PIECE = 1 << 30, REQUESTS = 64, TAG = 7 };

struct espl_comm {
    MPI_Comm world;
    int rank, size;
    MPI_Request requests[REQUESTS]; /* MPI_REQUEST_NULL: free */
};

espl_status espl_comm_create(int *argc, char ***argv, espl_comm **out) {
    int provided;
    *out = NULL;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    espl_comm *c;
    ESPL_TRY(espl_mem_alloc(&c, 1, sizeof *c, "communicator"));
    c->world = MPI_COMM_WORLD;
    MPI_Comm_rank(c->world, &c->rank);
    MPI_Comm_size(c->world, &c->size);
    espl_fault_rank(c->rank);
    for (int i = 0; i < REQUESTS; i++) c->requests[i] = MPI_REQUEST_NULL;
    *out = c;
    return provided >= MPI_THREAD_FUNNELED
               ? ESPL_OK
               : ESPL_FAIL(ESPL_COMM, "this MPI library offers no MPI_THREAD_FUNNELED, which espalier needs");
}

void espl_comm_destroy(espl_comm **c) {
    if (!c || !*c) return;
    espl_mem_free(c);
    MPI_Finalize();
}

int espl_comm_rank(const espl_comm *c) { return c->rank; }

int espl_comm_size(const espl_comm *c) { return c->size; }

void espl_comm_mpi(const espl_comm *c, void *mpi_comm) { memcpy(mpi_comm, &c->world, sizeof c->world); }

const char *espl_comm_library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int len = 0;
    MPI_Get_library_version(text, &len);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* A short spin for prompt answers, then longer and longer naps. */
static void nap(int64_t turn) {
    if (turn < 200) return;
    if (turn < 1000) {
        sched_yield();
        return;
    }
    int64_t us = turn < 1100 ? 20 : turn < 2000 ? 200 : 2000;
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

static void wait_request(MPI_Request *r) {
    int done = 0;
    for (int64_t turn = 0;; turn++) {
        MPI_Test(r, &done, MPI_STATUS_IGNORE);
        if (done) return;
        nap(turn);
    }
}

typedef struct failure {
    int status;
    char place[128];
    char text[ESPL_ERROR_TEXT_MAX];
} failure;

espl_status espl_comm_agree(espl_comm *c, espl_status mine) {
    int first, me = mine == ESPL_OK ? c->size : c->rank;
    MPI_Request r;
    MPI_Iallreduce(&me, &first, 1, MPI_INT, MPI_MIN, c->world, &r);
    wait_request(&r);
    if (first == c->size) return ESPL_OK;
    failure f = {.status = mine};
    snprintf(f.place, sizeof f.place, "%s", espl_base_error_place());
    snprintf(f.text, sizeof f.text, "%s", espl_base_error_text());
    espl_comm_broadcast(c, &f, sizeof f, first);
    if (first == c->rank || c->size == 1) return mine;
    espl_base_error_set(f.place, f.text);
    return (espl_status)f.status;
}

void espl_comm_broadcast(espl_comm *c, void *buf, int64_t bytes, int root) {
    for (int64_t at = 0; at < bytes; at += PIECE) {
        int n = (int)(bytes - at < PIECE ? bytes - at : PIECE);
        MPI_Request r;
        MPI_Ibcast((char *)buf + at, n, MPI_BYTE, root, c->world, &r);
        wait_request(&r);
    }
}

espl_status espl_comm_broadcast_str(espl_comm *c, espl_str *s, int root) {
    int64_t len = s->len;
    espl_comm_broadcast(c, &len, sizeof len, root);
    espl_status st = ESPL_OK;
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
    wait_request(&r);
}

int espl_comm_max(espl_comm *c, int mine) {
    int most;
    MPI_Request r;
    MPI_Iallreduce(&mine, &most, 1, MPI_INT, MPI_MAX, c->world, &r);
    wait_request(&r);
    return most;
}

/* Index of the first of n consecutive free requests, -1 if there are none. */
static int64_t free_run(const espl_comm *c, int64_t n) {
    for (int64_t i = 0, run = 0; i < REQUESTS; i++) {
        run = c->requests[i] == MPI_REQUEST_NULL ? run + 1 : 0;
        if (run == n) return i - n + 1;
    }
    return -1;
}

static espl_status reserve(espl_comm *c, int64_t bytes, espl_transfer *t) {
    int64_t n = bytes / PIECE + 1;
    *t = (espl_transfer){.first = free_run(c, n), .count = n};
    if (t->first >= 0) return ESPL_OK;
    *t = (espl_transfer){0};
    return ESPL_FAIL(ESPL_COMM, "too many transfers under way for another of %lld bytes", (long long)bytes);
}

static int piece_bytes(int64_t bytes, int64_t i) {
    int64_t left = bytes - i * PIECE;
    return (int)(left < PIECE ? left : PIECE);
}

espl_status espl_comm_send(espl_comm *c, const void *buf, int64_t bytes, int peer, espl_transfer *t) {
    ESPL_TRY(reserve(c, bytes, t));
    for (int64_t i = 0; i < t->count; i++)
        MPI_Isend((const char *)buf + i * PIECE, piece_bytes(bytes, i), MPI_BYTE, peer, TAG, c->world,
                  &c->requests[t->first + i]);
    return ESPL_OK;
}

espl_status espl_comm_receive(espl_comm *c, void *buf, int64_t bytes, int peer, espl_transfer *t) {
    ESPL_TRY(reserve(c, bytes, t));
    for (int64_t i = 0; i < t->count; i++)
        MPI_Irecv((char *)buf + i * PIECE, piece_bytes(bytes, i), MPI_BYTE, peer, TAG, c->world,
                  &c->requests[t->first + i]);
    return ESPL_OK;
}

void espl_comm_wait(espl_comm *c, espl_transfer *t) {
    for (int64_t i = 0; i < t->count; i++) wait_request(&c->requests[t->first + i]);
    *t = (espl_transfer){0};
}

/* Rank 0 takes the records of one rank after the other. */
static espl_status collect(espl_comm *c, const void *mine, const double *counts, size_t size, char *all) {
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
    double *counts, sum = 0;
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&counts, c->size, sizeof *counts, "record counts")));
    espl_comm_gather_f64(c, (double)count, counts);
    for (int r = 0; r < c->size; r++) sum += counts[r];
    espl_status st = ESPL_OK;
    if ((int64_t)sum != total)
        st = ESPL_FAIL(ESPL_INTERNAL, "%lld records gathered, not %lld", (long long)sum, (long long)total);
    if (st == ESPL_OK) st = espl_comm_agree(c, collect(c, mine, counts, size, all));
    espl_mem_free(&counts);
    return st;
}

/* ------------------------------------------------------- sums in rank order */

enum { SUM_BYTES = 1 << 20 }; /* of a message: one is received while the one before is added */

typedef struct summing {
    const char *mine;
    int64_t bytes;
    bool wide; /* doubles, not floats */
    double *sum;
    char *pieces[2];
    espl_transfer transfers[2];
} summing;

static int64_t sum_piece(const summing *s, int64_t at) { return s->bytes - at < SUM_BYTES ? s->bytes - at : SUM_BYTES; }

static void add_piece(const summing *s, const char *piece, int64_t at) {
    int64_t n = sum_piece(s, at) / (s->wide ? 8 : 4);
    double *sum = s->sum + at / (s->wide ? 8 : 4);
    const float *narrow = (const float *)(const void *)piece;
    const double *wide = (const double *)(const void *)piece;
    for (int64_t i = 0; i < n; i++) sum[i] += s->wide ? wide[i] : (double)narrow[i];
}

static espl_status send_pieces(espl_comm *c, summing *s, int root) {
    for (int64_t at = 0; at < s->bytes; at += SUM_BYTES) {
        espl_transfer *t = &s->transfers[at / SUM_BYTES % 2];
        espl_comm_wait(c, t);
        ESPL_TRY(espl_comm_send(c, s->mine + at, sum_piece(s, at), root, t));
    }
    for (int i = 0; i < 2; i++) espl_comm_wait(c, &s->transfers[i]);
    return ESPL_OK;
}

static espl_status expect_piece(espl_comm *c, summing *s, int64_t at, int peer) {
    int i = (int)(at / SUM_BYTES % 2);
    if (at >= s->bytes) return ESPL_OK;
    return espl_comm_receive(c, s->pieces[i], sum_piece(s, at), peer, &s->transfers[i]);
}

static espl_status add_rank(espl_comm *c, summing *s, int peer) {
    if (peer == c->rank) {
        for (int64_t at = 0; at < s->bytes; at += SUM_BYTES) add_piece(s, s->mine + at, at);
        return ESPL_OK;
    }
    ESPL_TRY(expect_piece(c, s, 0, peer));
    for (int64_t at = 0; at < s->bytes; at += SUM_BYTES) {
        ESPL_TRY(expect_piece(c, s, at + SUM_BYTES, peer));
        espl_comm_wait(c, &s->transfers[at / SUM_BYTES % 2]);
        add_piece(s, s->pieces[at / SUM_BYTES % 2], at);
    }
    return ESPL_OK;
}

static espl_status prepare_sum(const espl_comm *c, summing *s, int root) {
    if (c->rank != root) return ESPL_OK;
    for (int i = 0; i < 2; i++) ESPL_TRY(espl_mem_alloc(&s->pieces[i], SUM_BYTES, 1, "sums of the ranks"));
    return ESPL_OK;
}

static espl_status add_in_order(espl_comm *c, summing *s, int contributors, int root) {
    espl_status st = espl_comm_agree(c, prepare_sum(c, s, root));
    if (st == ESPL_OK && c->rank == root)
        for (int r = 0; r < contributors && st == ESPL_OK; r++) st = add_rank(c, s, r);
    else if (st == ESPL_OK && c->rank < contributors)
        st = send_pieces(c, s, root);
    for (int i = 0; i < 2; i++) espl_mem_free(&s->pieces[i]);
    return st;
}

espl_status espl_comm_add_f32(espl_comm *c, const float *mine, int64_t n, int contributors, int root, double *sum) {
    summing s = {.mine = (const char *)mine, .bytes = n * 4, .sum = sum};
    return add_in_order(c, &s, contributors, root);
}

espl_status espl_comm_add_f64(espl_comm *c, const double *mine, int64_t n, int contributors, int root, double *sum) {
    summing s = {.mine = (const char *)mine, .bytes = n * 8, .wide = true, .sum = sum};
    return add_in_order(c, &s, contributors, root);
}

void espl_comm_progress(espl_comm *c) {
    int flag;
    if (c->size > 1) MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->world, &flag, MPI_STATUS_IGNORE);
}
