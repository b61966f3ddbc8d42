/* Growing a mask by an exact number of weights, rows kept level. */
#include "internal.h"

/* Fills rows up to `level` pruned weights; the first `extra` of those that are not above it get one more. */
typedef struct fill {
    int64_t level, extra;
} fill;

static int64_t needed(const int64_t *pruned, int64_t rows, int64_t level) {
    int64_t sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += pruned[r] < level ? level - pruned[r] : 0;
    return sum;
}

/* The highest level that `count` weights reach, and what is left over. count <= survivors. */
static fill find_fill(const int64_t *pruned, int64_t rows, int64_t in, int64_t count) {
    int64_t lo = 0, hi = in;
    while (lo < hi) {
        int64_t middle = lo + (hi - lo + 1) / 2;
        if (needed(pruned, rows, middle) <= count)
            lo = middle;
        else
            hi = middle - 1;
    }
    return (fill){.level = lo, .extra = count - needed(pruned, rows, lo)};
}

/* pruned [rows] becomes how many more each row loses. */
static void shares(int64_t *pruned, int64_t rows, fill f) {
    for (int64_t r = 0; r < rows; r++) {
        bool extra = pruned[r] <= f.level && f.extra > 0;
        f.extra -= extra;
        pruned[r] = pruned[r] <= f.level ? f.level - pruned[r] + extra : 0;
    }
}

static espl_status row_shares(const espl_linear *l, int64_t count, const uint64_t *mask, int64_t *more) {
    int64_t words = espl_mask_words(l->in), survivors = 0;
    for (int64_t r = 0; r < l->out; r++) {
        int64_t n = espl_mask_row_count(mask + r * words, l->in);
        survivors += n;
        more[r] = l->in - n;
    }
    if (count < 0 || count > survivors)
        return ESPL_FAIL(ESPL_USAGE, "%lld weights to prune of %lld that survive", (long long)count,
                         (long long)survivors);
    shares(more, l->out, find_fill(more, l->out, l->in, count));
    return ESPL_OK;
}

static void prune_each_row(const scorer *s, const int64_t *more, uint64_t *mask, espl_workspace *ws) {
    int64_t words = espl_mask_words(s->l->in);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s->l->out; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        if (more[r] == 0) continue;
        espl_scorer_keys(s, r, keys);
        espl_select_smallest(keys, s->l->in, more[r], mask + r * words);
    }
}

espl_status espl_prune_rows(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws) {
    int64_t *more;
    ESPL_TRY(espl_mem_alloc(&more, s->l->out, sizeof *more, "row counts"));
    espl_status st = row_shares(s->l, count, mask, more);
    if (st == ESPL_OK) prune_each_row(s, more, mask, ws);
    espl_mem_free(&more);
    return st;
}

espl_status espl_prune_more(const espl_linear *l, espl_score score, const float *norm, int64_t count, uint64_t *mask,
                            espl_workspace *ws) {
    espl_scoring s = {.score = score, .norm = norm};
    espl_pattern rows = {.group = ESPL_GROUP_ROW};
    return espl_prune_linear(l, &s, &rows, count, mask, ws);
}
