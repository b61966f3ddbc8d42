/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of masks and updated weights.
 *
 * Everything is allocated once, so that a step costs no memory but the copies for its rollback, and the model borrows
 * the buffers: pruning a linear changes its mask in place.
 */
#include "espalier/model/masks.h"

#include <string.h>

#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/model/shape.h"
#include "state.h"

static int64_t mask_words(const espl_linear *l) { return l->out * espl_mask_words(l->in); }

/* In the dtype of the source: a checkpoint and an export store updated weights as they are here. */
static int64_t weight_bytes(const espl_linear *l) { return l->out * l->in * (int64_t)espl_dtype_size(l->dtype); }

static int64_t updates_bytes(const espl_masks *s) {
    int64_t bytes = 0;
    for (int64_t i = s->linears.first; i < s->linears.last; i++) bytes += weight_bytes(espl_model_linear(s->m, i));
    return bytes;
}

int64_t espl_masks_bytes(const espl_model_config *c, espl_range slice) {
    int64_t bytes = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in;
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        bytes += espl_layout_kind_linears(espl_model_layout(c), (espl_linear_kind)k) * espl_mask_bytes(out, in);
    }
    return espl_range_count(slice) * bytes;
}

espl_status espl_masks_create(espl_masks *s, espl_model *m, bool updating) {
    espl_status st;
    *s = (espl_masks){.m = m, .linears = espl_model_linears(m)};
    int64_t n = espl_range_count(s->linears), bytes = espl_masks_bytes(&m->config, m->slice);
    ESPL_CHECK(st, failed, espl_mem_alloc(&s->bits, n, sizeof *s->bits, "masks"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&s->before, n, sizeof *s->before, "masks"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&s->all_bits, bytes, 1, "masks"));
    uint64_t *next = s->all_bits;
    for (int64_t i = 0; i < n; i++) {
        s->bits[i] = next;
        next += mask_words(espl_model_linear(m, s->linears.first + i));
    }
    espl_masks_clear(s);
    if (updating) ESPL_CHECK(st, failed, espl_masks_add_updates(s));
    return ESPL_OK;
failed:
    espl_masks_free(s);
    return st;
}

espl_status espl_masks_add_updates(espl_masks *s) {
    int64_t n = espl_range_count(s->linears), bytes = updates_bytes(s);
    ESPL_TRY(espl_mem_alloc(&s->updates, n, sizeof *s->updates, "updated weights"));
    ESPL_TRY(espl_mem_alloc(&s->all_updates, bytes, 1, "updated weights"));
    char *next = s->all_updates;
    for (int64_t i = 0; i < n; i++) {
        s->updates[i] = next;
        next += weight_bytes(espl_model_linear(s->m, s->linears.first + i));
    }
    return ESPL_OK;
}

void espl_masks_free(espl_masks *s) {
    if (s->before) espl_masks_accept(s); /* NULL if creation failed early */
    espl_mem_free(&s->bits);
    espl_mem_free(&s->before);
    espl_mem_free(&s->all_bits);
    espl_mem_free(&s->updates);
    espl_mem_free(&s->all_updates);
    *s = (espl_masks){0};
}

uint64_t *espl_masks_of(const espl_masks *s, int64_t index) { return s->bits[index - s->linears.first]; }

void *espl_masks_update_of(const espl_masks *s, int64_t index) { return s->updates[index - s->linears.first]; }

/* Bits beyond a row's last column stay clear: a checkpoint with stray bits is refused as damaged. */
void espl_masks_clear(espl_masks *s) {
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        const espl_linear *l = espl_model_linear(s->m, i);
        espl_mask_fill(espl_masks_of(s, i), l->out, l->in);
    }
}

espl_status espl_masks_take_zeros(espl_masks *s, int64_t *zeros) {
    float *row = NULL;
    int64_t widest = 0;
    for (int64_t i = s->linears.first; i < s->linears.last; i++)
        widest = espl_max_i64(widest, espl_model_linear(s->m, i)->in);
    ESPL_TRY(espl_mem_alloc(&row, widest, sizeof *row, "a row of weights"));
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        const espl_linear *l = espl_model_linear(s->m, i);
        const char *weight = l->weight;
        for (int64_t r = 0; r < l->out; r++, weight += l->in * (int64_t)espl_dtype_size(l->dtype)) {
            uint64_t *mask = espl_masks_of(s, i) + r * espl_mask_words(l->in);
            espl_tensor_widen(weight, l->dtype, l->in, row);
            for (int64_t c = 0; c < l->in; c++)
                if (row[c] == 0) mask[c / 64] &= ~(UINT64_C(1) << c % 64);
        }
        zeros[i - s->linears.first] = l->out * l->in - espl_mask_count(espl_masks_of(s, i), l->out, l->in);
    }
    espl_mem_free(&row);
    return ESPL_OK;
}

/* ---------------------------------------------------------- in the model */

/* Setting a mask or weight fails only for linears of other ranks: the status needs no check here. */
void espl_masks_apply(const espl_masks *s) {
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        espl_model_set_mask(s->m, i, espl_masks_of(s, i));
        espl_model_set_weight(s->m, i, s->updated ? espl_masks_update_of(s, i) : NULL);
    }
}

void espl_masks_apply_dense(const espl_masks *s) {
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        espl_model_set_mask(s->m, i, NULL);
        espl_model_set_weight(s->m, i, NULL);
    }
}

/* ------------------------------------------------------------ of one step */

/* Copies only the linears that a step touches: they are few, and the whole store is as large as the model / 16. */
espl_status espl_masks_keep(espl_masks *s, int64_t index) {
    uint64_t **before = &s->before[index - s->linears.first];
    int64_t words = mask_words(espl_model_linear(s->m, index));
    if (*before) return ESPL_OK; /* the step changes this linear a second time */
    ESPL_TRY(espl_mem_alloc(before, words, sizeof **before, "mask before the step"));
    memcpy(*before, espl_masks_of(s, index), (size_t)words * sizeof **before);
    return ESPL_OK;
}

/* By all threads: the weights of a slice take seconds, and fresh memory is spread over the NUMA domains of those who
 * will read it. */
static void masks_copy(void *to, const void *from, int64_t bytes) {
    const int64_t PIECE = 1 << 20;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < bytes; at += PIECE)
        memcpy((char *)to + at, (const char *)from + at, (size_t)espl_min_i64(PIECE, bytes - at));
}

espl_status espl_masks_keep_updates(espl_masks *s) {
    int64_t bytes = updates_bytes(s);
    if (s->updates_before) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&s->updates_before, bytes, 1, "weights before the step"));
    masks_copy(s->updates_before, s->all_updates, bytes);
    s->updated_before = s->updated;
    if (s->updated) return ESPL_OK;
    espl_masks_apply_dense(s);
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        const espl_linear *l = espl_model_linear(s->m, i);
        masks_copy(espl_masks_update_of(s, i), l->weight, weight_bytes(l));
    }
    s->updated = true;
    espl_masks_apply(s);
    return ESPL_OK;
}

void espl_masks_restore_updates(espl_masks *s) {
    masks_copy(s->all_updates, s->updates_before, updates_bytes(s));
    s->updated = s->updated_before;
    espl_masks_apply(s);
}

void espl_masks_roll_back(espl_masks *s) {
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        const uint64_t *before = s->before[i - s->linears.first];
        if (!before) continue;
        memcpy(espl_masks_of(s, i), before, (size_t)mask_words(espl_model_linear(s->m, i)) * sizeof *before);
    }
    if (s->updates_before) espl_masks_restore_updates(s);
    espl_masks_accept(s);
}

void espl_masks_accept(espl_masks *s) {
    for (int64_t i = 0; i < espl_range_count(s->linears); i++) espl_mem_free(&s->before[i]);
    espl_mem_free(&s->updates_before);
}

/* ----------------------------------------------------------------- checks */

/* Counted from the bits, not from what a step was asked for: callers compare the two. */
espl_status espl_masks_count_pruned(const espl_masks *s, int64_t *counts, int64_t *total) {
    espl_comm *c = s->m->comm, *pipeline = s->m->grid->pipeline; /* each replica counts its own */
    bool root = s->m->grid->stage == 0;
    int64_t *mine = NULL, *all = NULL, n = espl_range_count(s->linears);
    int64_t linears = espl_model_linears_of(&s->m->config);
    espl_status st = espl_mem_alloc(&mine, n, sizeof *mine, "counts");
    if (st == ESPL_OK && root) st = espl_mem_alloc(&all, linears, sizeof *all, "counts");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    for (int64_t i = 0; i < n; i++) {
        const espl_linear *l = espl_model_linear(s->m, s->linears.first + i);
        mine[i] = l->out * l->in - espl_mask_count(s->bits[i], l->out, l->in);
    }
    st = espl_comm_gather_records(pipeline, mine, n, sizeof *mine, linears, all);
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    *total = 0;
    for (int64_t i = 0; all && i < linears; i++) *total += all[i];
    espl_comm_broadcast(pipeline, total, sizeof *total, 0);
    if (all && counts) memcpy(counts, all, (size_t)linears * sizeof *counts);
done:
    espl_mem_free(&mine);
    espl_mem_free(&all);
    return st;
}

espl_status espl_masks_compare_replicas(const espl_masks *s) {
    const espl_model *m = s->m;
    espl_status st = ESPL_OK;
    if (m->grid->replicas == 1) return ESPL_OK;
    uint64_t mine = espl_hash64(s->all_bits, espl_masks_bytes(&m->config, m->slice), 0), first;
    if (s->updated) mine = espl_hash64(s->all_updates, updates_bytes(s), mine);
    first = mine;
    espl_comm_broadcast(m->grid->peers, &first, sizeof first, 0);
    if (first != mine)
        st = ESPL_FAIL(ESPL_INTERNAL, "rank %d has other masks or weights than rank %d", espl_comm_rank(m->comm),
                       m->grid->stage);
    return espl_comm_agree(m->comm, st);
}

/* The count of a linear can be right while one group lost too many weights and another too few: hardware that runs the
 * pattern would then drop weights that the measured model has. */
espl_status espl_masks_check_patterns(const espl_masks *s, const espl_pattern *patterns, const char *file) {
    char name[ESPL_LINEAR_NAME_MAX], pattern[ESPL_PATTERN_NAME_MAX];
    for (int64_t i = s->linears.first; i < s->linears.last; i++) {
        const espl_linear *l = espl_model_linear(s->m, i);
        espl_pattern p = patterns[i];
        if (espl_pattern_is_n_m(p) && !espl_mask_is_n_m(espl_masks_of(s, i), l->out, l->in, p.n, p.m))
            return ESPL_FAIL(file ? ESPL_FORMAT : ESPL_INTERNAL, "%s%s%s was pruned to %s, but its mask is not %s",
                             file ? file : "", file ? ": " : "",
                             espl_linear_name(espl_model_layout(&s->m->config), i, name), espl_pattern_name(p, pattern),
                             pattern);
    }
    return ESPL_OK;
}
