/* The masks of this rank's linears. */
#include "espalier/model/masks.h"
#include "espalier/model/shape.h"

#include <string.h>

static int64_t mask_words(const espl_linear *l) { return l->out * espl_mask_words(l->in); }

static int64_t weight_bytes(const espl_linear *l) { return l->out * l->in * (int64_t)espl_dtype_size(l->dtype); }

int64_t espl_masks_bytes(const espl_model_config *c, espl_range slice) {
    int64_t words = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in;
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        words += out * espl_mask_words(in);
    }
    return espl_range_count(slice) * words * (int64_t)sizeof(uint64_t);
}

/* In the dtype of each linear's source. */
static espl_status make_updates(espl_masks *s) {
    int64_t bytes = 0, at = 0;
    for (int64_t i = 0; i < s->n; i++) bytes += weight_bytes(espl_model_linear(s->m, s->first + i));
    ESPL_TRY(espl_mem_alloc(&s->updates, s->n, sizeof *s->updates, "updated weights"));
    ESPL_TRY(espl_mem_alloc(&s->all_updates, bytes, 1, "updated weights"));
    for (int64_t i = 0; i < s->n; i++) {
        s->updates[i] = s->all_updates + at;
        at += weight_bytes(espl_model_linear(s->m, s->first + i));
    }
    return ESPL_OK;
}

espl_status espl_masks_create(espl_masks *s, espl_model *m, bool updating) {
    espl_range slice = espl_model_slice(m);
    int64_t bytes = espl_masks_bytes(espl_model_config_of(m), slice), at = 0;
    *s = (espl_masks){.m = m, .first = espl_linear_index(slice.first, ESPL_Q_PROJ)};
    s->n = espl_range_count(slice) * ESPL_LINEAR_KINDS;
    ESPL_TRY(espl_mem_alloc(&s->bits, s->n, sizeof *s->bits, "masks"));
    ESPL_TRY(espl_mem_alloc(&s->before, s->n, sizeof *s->before, "masks"));
    ESPL_TRY(espl_mem_alloc(&s->all_bits, bytes, 1, "masks"));
    for (int64_t i = 0; i < s->n; i++) {
        const espl_linear *l = espl_model_linear(m, s->first + i);
        s->bits[i] = s->all_bits + at;
        espl_mask_fill(s->bits[i], l->out, l->in);
        at += mask_words(l);
    }
    return updating ? make_updates(s) : ESPL_OK;
}

void espl_masks_free(espl_masks *s) {
    espl_masks_accept(s);
    espl_mem_free(&s->bits);
    espl_mem_free(&s->before);
    espl_mem_free(&s->all_bits);
    espl_mem_free(&s->updates);
    espl_mem_free(&s->all_updates);
}

espl_status espl_masks_apply(const espl_masks *s, bool dense) {
    for (int64_t i = 0; i < s->n; i++) {
        ESPL_TRY(espl_model_set_mask(s->m, s->first + i, dense ? NULL : s->bits[i]));
        ESPL_TRY(espl_model_set_weight(s->m, s->first + i, dense || !s->updates ? NULL : s->updates[i]));
    }
    return ESPL_OK;
}

uint64_t *espl_masks_of(const espl_masks *s, int64_t index) { return s->bits[index - s->first]; }

espl_status espl_masks_keep(espl_masks *s, int64_t index) {
    int64_t i = index - s->first, words = mask_words(espl_model_linear(s->m, index));
    if (s->before[i]) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&s->before[i], words, sizeof **s->before, "mask before the step"));
    memcpy(s->before[i], s->bits[i], (size_t)words * sizeof **s->before);
    return ESPL_OK;
}

void espl_masks_roll_back(espl_masks *s) {
    for (int64_t i = 0; i < s->n; i++)
        if (s->before[i]) {
            size_t words = (size_t)mask_words(espl_model_linear(s->m, s->first + i));
            memcpy(s->bits[i], s->before[i], words * sizeof **s->before);
        }
    espl_masks_accept(s);
}

void espl_masks_accept(espl_masks *s) {
    for (int64_t i = 0; s->before && i < s->n; i++) espl_mem_free(&s->before[i]);
}
