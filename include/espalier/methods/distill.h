/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distillation: the weights that survive learn to give the dense model's predictions back.
 *
 * A local update (SparseGPT) restores the outputs of one linear at a time. Distillation lowers the divergence of the
 * whole model's predictions from those of its source, on the calibration windows, by a few passes of Adam (Kingma and
 * Ba 2015) over the surviving weights of the prunable linears. Masks do not change, and nothing but the source model is
 * learned from: no label of the text is used.
 */
#ifndef ESPALIER_METHODS_DISTILL_H
#define ESPALIER_METHODS_DISTILL_H

#include "espalier/model/calibration.h"
#include "espalier/model/masks.h"

/* Called between steps, and between windows of the source; NULL: not called. */
typedef struct espl_distill_watch {
    espl_model_progress progress;        /* steps or windows done */
    espl_status (*check)(void *context); /* Collective. A failure, such as ESPL_STOPPED, ends the work */
    void *context;
} espl_distill_watch;

typedef struct espl_distill_options {
    int64_t window; /* tokens */
    int64_t steps;  /* of `batch` windows each, in a random order that is drawn anew for each pass over the set */
    int64_t batch;
    double rate; /* first step size, as a fraction of the root mean square of a linear's surviving weights; it falls to
                  * 0 in equal steps */
    uint64_t seed, stream; /* of the order of windows */
    espl_distill_watch watch;
} espl_distill_options;

/* What is learned from: windows of tokens, and the source's final hidden states for them. */
typedef struct espl_distill_set {
    int64_t n;           /* windows */
    const int32_t **ids; /* [n] of [window], borrowed */
    int64_t *lengths;    /* [n] tokens of a window that are not padding */
    float *scales;       /* [n] weight of a window in the mean loss */
    float *states;       /* [n, window, hidden] on the last rank, else NULL */
} espl_distill_set;

/* Collective. A set of `windows` text windows ids [windows, window], and of the windows of probe questions, topics
 * [ESPL_TOPICS] or NULL, with lengths topic_lengths of all their windows in order, which together have `share` of the
 * weight. Runs the source through all of them, window by window; the model is dense afterwards. ids are borrowed.
 * ESPL_NOMEM. Free with espl_distill_set_free. */
espl_status espl_distill_set_create(espl_comm *comm, const espl_masks *masks, int64_t window, const int32_t *ids,
                                    int64_t windows, const espl_topic_samples *topics, const int64_t *topic_lengths,
                                    double share, const espl_distill_watch *watch, espl_distill_set *out);
void espl_distill_set_free(espl_distill_set *s);

/* Collective. Trains the model's surviving weights, from what they are now. masks must have room for updates, which
 * then hold all weights of the slice; masks->updated is set. *loss: mean divergence over the windows of the last pass,
 * in nats per token, each before its step. The same bits on any number of ranks and threads. ESPL_NOMEM; nothing has
 * changed then. */
espl_status espl_distill_run(espl_comm *comm, const espl_distill_options *o, const espl_distill_set *set,
                             espl_masks *masks, double *loss);

/* Local. Bytes that espl_distill_run takes beyond a calibration: four floats for each weight of the slice. */
int64_t espl_distill_bytes(const espl_model_config *c, espl_range slice);

#endif
