/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums in rank order. The root adds one rank after the other, in pieces: while it adds a piece it already receives the
 * next one, so that it needs two small buffers however large the arrays are.
 */
#include "espalier/comm.h"

enum {
    SUM_PIECE_BYTES = 1 << 20
}; /* large enough for full bandwidth, small enough to stay in cache while it is added */

typedef struct rank_sum {
    const char *mine; /* floats or doubles of this rank */
    int64_t bytes;    /* of one rank */
    bool is_double;
    double *sum;                /* root */
    char *pieces[2];            /* root: the piece being added and the one being received */
    espl_transfer transfers[2]; /* of pieces of even and odd number */
} rank_sum;

static int64_t sum_piece_bytes(const rank_sum *s, int64_t at) { return espl_min_i64(s->bytes - at, SUM_PIECE_BYTES); }

static void sum_add_piece(const rank_sum *s, const char *piece, int64_t at) {
    int64_t size = s->is_double ? 8 : 4, n = sum_piece_bytes(s, at) / size;
    double *sum = s->sum + at / size;
    const float *floats = (const float *)(const void *)piece;
    const double *doubles = (const double *)(const void *)piece;
    for (int64_t i = 0; i < n; i++) sum[i] += s->is_double ? doubles[i] : (double)floats[i];
}

static espl_status sum_send(espl_comm *c, rank_sum *s, int root) {
    for (int64_t at = 0; at < s->bytes; at += SUM_PIECE_BYTES) {
        espl_transfer *t = &s->transfers[at / SUM_PIECE_BYTES % 2];
        espl_comm_wait(c, t);
        ESPL_TRY(espl_comm_send(c, s->mine + at, sum_piece_bytes(s, at), root, t));
    }
    for (int i = 0; i < 2; i++) espl_comm_wait(c, &s->transfers[i]);
    return ESPL_OK;
}

/* Starts to receive the piece at `at`, if there is one. */
static espl_status sum_receive_piece(espl_comm *c, rank_sum *s, int64_t at, int peer) {
    int i = (int)(at / SUM_PIECE_BYTES % 2);
    if (at >= s->bytes) return ESPL_OK;
    return espl_comm_receive(c, s->pieces[i], sum_piece_bytes(s, at), peer, &s->transfers[i]);
}

static espl_status sum_add_rank(espl_comm *c, rank_sum *s, int peer) {
    if (peer == espl_comm_rank(c)) {
        for (int64_t at = 0; at < s->bytes; at += SUM_PIECE_BYTES) sum_add_piece(s, s->mine + at, at);
        return ESPL_OK;
    }
    ESPL_TRY(sum_receive_piece(c, s, 0, peer));
    for (int64_t at = 0; at < s->bytes; at += SUM_PIECE_BYTES) {
        int i = (int)(at / SUM_PIECE_BYTES % 2);
        ESPL_TRY(sum_receive_piece(c, s, at + SUM_PIECE_BYTES, peer));
        espl_comm_wait(c, &s->transfers[i]);
        sum_add_piece(s, s->pieces[i], at);
    }
    return ESPL_OK;
}

static espl_status sum_in_rank_order(espl_comm *c, rank_sum *s, int contributors, int root) {
    int rank = espl_comm_rank(c);
    espl_status st = ESPL_OK;
    for (int i = 0; i < 2 && rank == root && st == ESPL_OK; i++)
        st = espl_mem_alloc(&s->pieces[i], SUM_PIECE_BYTES, 1, "sums of the ranks");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    if (rank == root)
        for (int r = 0; r < contributors; r++) ESPL_CHECK(st, done, sum_add_rank(c, s, r));
    else if (rank < contributors)
        st = sum_send(c, s, root);
done:
    for (int i = 0; i < 2; i++) espl_mem_free(&s->pieces[i]);
    return st;
}

espl_status espl_comm_add_f32(espl_comm *c, const float *mine, int64_t n, int contributors, int root, double *sum) {
    rank_sum s = {.mine = (const char *)mine, .bytes = n * 4, .sum = sum};
    return sum_in_rank_order(c, &s, contributors, root);
}

espl_status espl_comm_add_f64(espl_comm *c, const double *mine, int64_t n, int contributors, int root, double *sum) {
    rank_sum s = {.mine = (const char *)mine, .bytes = n * 8, .is_double = true, .sum = sum};
    return sum_in_rank_order(c, &s, contributors, root);
}
