/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pruned model holds beyond its source: one mask per linear of this rank's slice and, with a method that updates
 * weights, the weights that replace the source's. All ways to prune, roll back, measure and export a model go through
 * this store.
 */
#ifndef ESPALIER_MODEL_MASKS_H
#define ESPALIER_MODEL_MASKS_H

#include "espalier/loop/pattern.h"
#include "espalier/loop/slices.h"
#include "espalier/model/model.h"

/* Arrays have one entry per linear of `linears`: entry i belongs to linear linears.first + i. */
typedef struct espl_masks {
    espl_model *m;        /* borrowed */
    espl_range linears;   /* indices of this rank's linears */
    uint64_t **bits;      /* masks; change them through espl_masks_of after espl_masks_keep */
    void **updates;       /* buffers for updated weights [out, in] of the linear's dtype; NULL: no room for them */
    bool updated;         /* `updates` holds weights, which espl_masks_apply then uses. Set by whoever writes them */
    uint64_t *all_bits;   /* one allocation for all masks */
    char *all_updates;    /* one allocation for all buffers */
    uint64_t **before;    /* masks before the current step; NULL: not changed by it */
    char *updates_before; /* all_updates before the current step; NULL: not changed by it */
    bool updated_before;
} espl_masks;

/* Local. Dense masks for the model's slice, and with `updating` room for updated weights. The model is not changed yet.
 * ESPL_NOMEM; *s is then empty. Free with espl_masks_free, after the model's last pass. */
espl_status espl_masks_create(espl_masks *s, espl_model *m, bool updating);
/* Local. Adds room for updated weights to a store without it. ESPL_NOMEM. */
espl_status espl_masks_add_updates(espl_masks *s);
/* Local. An empty store ({0}) may be freed too. */
void espl_masks_free(espl_masks *s);

/* Local. The mask of a linear of the slice, and its buffer for updated weights (requires room for them). */
uint64_t *espl_masks_of(const espl_masks *s, int64_t index);
void *espl_masks_update_of(const espl_masks *s, int64_t index);
/* Local. Makes all masks dense again. */
void espl_masks_clear(espl_masks *s);
/* Local. Prunes the weights that are 0 in the source: to the model they are the same, and whoever counts sparsity,
 * ranks surviving weights or restores a mask then need not know where a zero came from. zeros [slice linears]: how many
 * each linear has. ESPL_NOMEM. */
espl_status espl_masks_take_zeros(espl_masks *s, int64_t *zeros);

/* Local. The passes that follow see the model pruned (masks, and weights if `updated`), or as its source. Masks are
 * borrowed by the model: changing them later takes effect at once. */
void espl_masks_apply(const espl_masks *s);
void espl_masks_apply_dense(const espl_masks *s);

/* Local. Before a step changes the mask of a linear: saves it for espl_masks_roll_back. ESPL_NOMEM. */
espl_status espl_masks_keep(espl_masks *s, int64_t index);
/* Local. The same for all updated weights of the slice, and for `updated`. Weights that have not been updated yet
 * become those of the source in the buffers, `updated` becomes true. ESPL_NOMEM. */
espl_status espl_masks_keep_updates(espl_masks *s);
/* Local. Takes back the weights of the step after espl_masks_keep_updates; its masks stay, and the step goes on. */
void espl_masks_restore_updates(espl_masks *s);
/* Local. Ends the step: restores the saved masks and weights, or drops them. */
void espl_masks_roll_back(espl_masks *s);
void espl_masks_accept(espl_masks *s);

/* Collective. Counts pruned weights: per linear of the model into counts [linears of the model] on rank 0 (may be
 * NULL; ignored elsewhere), and their sum into *total on every rank. ESPL_NOMEM. */
espl_status espl_masks_count_pruned(const espl_masks *s, int64_t *counts, int64_t *total);
/* Collective. Checks that all replicas have the same masks, and updated weights if there are any: ESPL_INTERNAL naming
 * the rank. */
espl_status espl_masks_compare_replicas(const espl_masks *s);
/* Local. Checks that each linear of the slice with an N:M pattern in patterns [linears of the model] has a mask of that
 * pattern. Otherwise names the linear: ESPL_FORMAT with the file that the masks were read from, ESPL_INTERNAL if `file`
 * is NULL. */
espl_status espl_masks_check_patterns(const espl_masks *s, const espl_pattern *patterns, const char *file);

/* Local. Bytes of the masks of decoder layers `slice`, without updated weights. */
int64_t espl_masks_bytes(const espl_model_config *c, espl_range slice);

#endif
