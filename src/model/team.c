/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges between the ranks of a team (team.h). Blocks travel in rounds: round k has block k of each rank, and these
 * are neighbours in the window. So what arrives is in place, and sums that are added round after round run over the
 * blocks in their order.
 */
#include "team.h"

#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/region.h"
#include "espalier/tensor/linear.h"

static int64_t team_all_blocks(const window_team *t) { return (t->T + t->block - 1) / t->block; }

static int64_t team_rounds(const window_team *t) { return (team_all_blocks(t) + t->parts - 1) / t->parts; }

/* Tokens of block `index` of the window; 0 beyond the last one. */
static int64_t team_tokens(const window_team *t, int64_t index) {
    return espl_max_i64(espl_min_i64(t->block, t->T - index * t->block), 0);
}

window_team espl_team_of(espl_comm *comm, int part, int parts, int64_t T) {
    window_team t = {.comm = comm, .part = part, .parts = parts, .T = T, .block = espl_tensor_block(T)};
    for (int64_t i = part; i < team_all_blocks(&t); i += parts) {
        t.blocks++;
        t.rows += team_tokens(&t, i);
    }
    return t;
}

int64_t espl_team_block_first(const window_team *t, int64_t k) { return (k * t->parts + t->part) * t->block; }

int64_t espl_team_block_rows(const window_team *t, int64_t k) { return team_tokens(t, k * t->parts + t->part); }

/* One round of a gathering. Rank d receives `columns[d]` columns of this rank's block, which are packed one rank behind
 * the other in rows of their own; without `columns`, all `width`. */
static void team_round(const window_team *t, int64_t k, const float *own, int64_t width, const espl_range *columns,
                       int64_t *counts, float *whole) {
    int64_t *send = counts, *send_at = send + t->parts, *receive = send_at + t->parts, *receive_at = receive + t->parts;
    int64_t mine = columns ? espl_range_count(columns[t->part]) : width, rows = espl_team_block_rows(t, k);
    for (int d = 0; d < t->parts; d++) {
        int64_t block = k * t->parts + d, theirs = columns ? espl_range_count(columns[d]) : width;
        send[d] = rows * theirs;
        send_at[d] = k * t->block * theirs + (columns ? columns[d].first * t->rows : 0);
        receive[d] = team_tokens(t, block) * mine;
        receive_at[d] = espl_min_i64(block * t->block, t->T) * mine;
        if (send[d] == 0) send_at[d] = 0;
    }
    espl_comm_exchange_f32(t->comm, own, send, send_at, whole, receive, receive_at);
}

void espl_team_gather(const window_team *t, const float *own, int64_t width, int64_t *counts, float *whole) {
    ESPL_REGION_SCOPE(ESPL_REGION_TRANSFER);
    for (int64_t k = 0; k < team_rounds(t); k++) team_round(t, k, own, width, NULL, counts, whole);
}

void espl_team_gather_columns(const window_team *t, const float *own, int64_t width, const espl_range *columns,
                              float *pack, int64_t *counts, float *whole) {
    ESPL_REGION_SCOPE(ESPL_REGION_TRANSFER);
    for (int d = 0; d < t->parts; d++) {
        int64_t n = espl_range_count(columns[d]);
        float *to = pack + columns[d].first * t->rows;
        for (int64_t r = 0; r < t->rows; r++)
            memcpy(to + r * n, own + r * width + columns[d].first, (size_t)n * sizeof *to);
    }
    for (int64_t k = 0; k < team_rounds(t); k++) team_round(t, k, pack, width, columns, counts, whole);
}

void espl_team_take(const window_team *t, const float *whole, int64_t width, float *own) {
    for (int64_t k = 0; k < t->blocks; k++)
        memmove(own + k * t->block * width, whole + espl_team_block_first(t, k) * width,
                (size_t)(espl_team_block_rows(t, k) * width) * sizeof *own);
}

void espl_team_add_blocks(const window_team *t, const double *sums, int64_t n, double *scratch, double *total) {
    if (t->parts == 1) {
        for (int64_t k = 0; k < t->blocks; k++)
            for (int64_t i = 0; i < n; i++) total[i] += sums[k * n + i];
        return;
    }
    ESPL_REGION_SCOPE(ESPL_REGION_TRANSFER);
    for (int64_t k = 0; k < team_rounds(t); k++) {
        int contributors = (int)espl_min_i64(team_all_blocks(t) - k * t->parts, t->parts);
        const double *mine = k < t->blocks ? sums + k * n : sums; /* without a block nothing is read */
        espl_comm_add_round_f64(t->comm, mine, n, contributors, scratch, total);
    }
}
