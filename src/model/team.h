/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the model room: a window that the ranks of a team share by tokens.
 *
 * The window is cut into blocks of espl_tensor_block tokens, a number that depends on its length alone. They are dealt
 * in turn: part p has blocks p, p + parts, ..., and holds them as consecutive rows. So each part has early blocks,
 * whose queries see few keys, and late ones.
 */
#ifndef ESPL_MODEL_TEAM_H
#define ESPL_MODEL_TEAM_H

#include "espalier/comm.h"
#include "espalier/loop/slices.h"

typedef struct window_team {
    espl_comm *comm;      /* rank = part; not used by a team of one */
    int part, parts;      /* of this rank; 0 of 1: the whole window */
    int64_t T;            /* tokens of the window */
    int64_t block;        /* tokens of a block; the last one has what is left */
    int64_t blocks, rows; /* of this rank: blocks, and tokens in them */
} window_team;

/* Local. comm may be NULL if parts is 1. */
window_team espl_team_of(espl_comm *comm, int part, int parts, int64_t T);
/* Local. The first token, and the number of tokens, of this rank's block k. It begins in row k * block. */
int64_t espl_team_block_first(const window_team *t, int64_t k);
int64_t espl_team_block_rows(const window_team *t, int64_t k);

/* Collective. whole [T, width] = the rows of all ranks, own [rows, width], in the order of tokens. counts: scratch
 * [4 * parts]. */
void espl_team_gather(const window_team *t, const float *own, int64_t width, int64_t *counts, float *whole);
/* Collective. Each rank receives some columns of the rows of all ranks: columns [parts], consecutive, their sum is
 * width; whole [T, columns of this rank]. pack: scratch [rows, width]. */
void espl_team_gather_columns(const window_team *t, const float *own, int64_t width, const espl_range *columns,
                              float *pack, int64_t *counts, float *whole);
/* Local. own [rows, width] = this rank's rows of whole [T, width]; own may be whole. */
void espl_team_take(const window_team *t, const float *whole, int64_t width, float *own);
/* Collective. total [n] += the sums of all blocks, sums [blocks, n] of this rank, in the order of blocks. Each rank
 * adds its part of the n features (espl_part_begin) and leaves the others of `total` as they are. scratch [n + parts].
 */
void espl_team_add_blocks(const window_team *t, const double *sums, int64_t n, double *scratch, double *total);

#endif
