/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pruned model is beyond its source: one mask per linear of this rank's slice, and, with a method that updates
 * weights, the weights that replace the source's.
 */
#ifndef ESPALIER_MODEL_MASKS_H
#define ESPALIER_MODEL_MASKS_H

#include "espalier/model/model.h"

/* One mask per linear of this rank's slice, and the masks of the newest step's linears as they were before it. */
typedef struct espl_masks {
    espl_model *m; /* borrowed */
    int64_t first, n;
    uint64_t **bits;    /* [n], in one allocation */
    uint64_t **before;  /* [n], NULL: untouched by the newest step */
    uint64_t *all_bits; /* owned */
    void **updates;     /* [n] weights that replace the source's, in one allocation; NULL: the method has none */
    char *all_updates;  /* owned */
} espl_masks;

/* Local. Dense masks for the model's slice, and room for updated weights if there will be any. */
espl_status espl_masks_create(espl_masks *s, espl_model *m, bool updating);
void espl_masks_free(espl_masks *s);
/* Local. From now on the model is as the masks say, or dense. */
espl_status espl_masks_apply(const espl_masks *s, bool dense);
/* Local. Keeps the mask of a linear for espl_masks_roll_back. */
espl_status espl_masks_keep(espl_masks *s, int64_t index);
/* Local. Undoes, or makes final, what was done since the last of these calls. */
void espl_masks_roll_back(espl_masks *s);
void espl_masks_accept(espl_masks *s);
/* Local. The mask of one linear of the slice. */
uint64_t *espl_masks_of(const espl_masks *s, int64_t index);
/* Local. Bytes of all masks of layers `slice`. */
int64_t espl_masks_bytes(const espl_model_config *c, espl_range slice);

#endif
