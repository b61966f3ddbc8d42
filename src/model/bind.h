/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: tensors of the source, by their names in Hugging Face files, as parts of a model. */
#ifndef ESPL_MODEL_BIND_H
#define ESPL_MODEL_BIND_H

#include "espalier/base/memory.h"
#include "espalier/loop/loop.h"
#include "espalier/model/shape.h"
#include "espalier/tensor/linear.h"
#include "espalier/weights/reader.h"

typedef struct model_layer {
    espl_linear *linears; /* [linears of a layer], by their place in it; in the tables */
    const void **source;  /* their weights in the mapped file */
    espl_linear router;   /* [experts, hidden]; never pruned. Only with experts */
    /* Norms as espl_model_layer_norms, with the family's offset added; NULL: no such norm. */
    float *norms[ESPL_LAYER_NORMS];
} model_layer;

/* What is outside the decoder layers. */
typedef struct model_ends {
    const espl_tensor_info *embed; /* first rank */
    espl_linear head;              /* last rank */
    float *final_norm;             /* [hidden], last rank: offset + weight, times the scale of the logits */
} model_ends;

typedef struct binder {
    const espl_model_config *config;
    const espl_weights *weights;
    espl_arena *tables; /* for the linears of layers, and for norms and biases, widened to f32 */
    int64_t bytes;      /* of the file that are in use */
} binder;

/* Local. Gives the tensors the names that the functions below look for, and notes if that was needed. Before them. */
espl_status espl_bind_name_tensors(espl_weights *w, espl_str *notes);
/* Local. Binds decoder layer i; l NULL: only checks names and shapes. ESPL_FORMAT. */
espl_status espl_bind_layer(binder *b, int64_t i, model_layer *l);
/* Local. Checks embeddings, final norm and head, and binds those that this rank needs. ESPL_FORMAT. */
espl_status espl_bind_ends(binder *b, bool first, bool last, model_ends *e);
/* Local. The table of embeddings. ESPL_FORMAT: there is none. */
espl_status espl_bind_embedding(const binder *b, const espl_tensor_info **out);
/* Local. Refuses tensors that a model of this config does not have. ESPL_FORMAT. */
espl_status espl_bind_check_names(const binder *b);
/* Local. Bytes of the tables that binding a layer takes. */
int64_t espl_bind_layer_bytes(const espl_model_config *c);

#endif
