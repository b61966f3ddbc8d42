/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass. A micro-batch of tokens flows from rank to rank; a rank computes one while the next arrives. A
 * micro-batch is a list of segments: new tokens of a sequence, with their position and their slot in the KV cache, so
 * that one pass serves perplexity, scoring and generation.
 */
#ifndef ESPALIER_MODEL_FORWARD_H
#define ESPALIER_MODEL_FORWARD_H

#include "espalier/model/model.h"

/* New tokens of one sequence. ids [n] are the same on every rank; results are written on the last rank only. */
typedef struct espl_segment {
    int64_t slot; /* its place in the KV cache, 0 .. slots - 1 */
    int64_t pos;  /* position of ids[0]: tokens 0 .. pos - 1 of this slot came in earlier micro-batches */
    int64_t n;
    const int32_t *ids;
    const int32_t *targets; /* [n] token to score at each position, -1: none; or NULL */
    double *logprob;        /* [n] natural log, written if targets */
    const int32_t *choices; /* [n_choices <= ESPL_CHOICES_MAX] targets compete among these ids alone, or NULL: among
                             * the whole vocabulary */
    int64_t n_choices;
    float *logits; /* [vocab] of the last token, written if not NULL */
    /* Cache rows. Position prefix_n + i of the sequence lives in row `row` + i of its slot, so that several short
     * sequences can share a slot; positions 0 .. prefix_n - 1 are those in rows prefix_row .. of prefix_slot, which any
     * number of sequences may read. They came in earlier micro-batches or come in this one. All 0: the sequence has
     * the slot for itself. */
    int64_t row, prefix_slot, prefix_row, prefix_n;
    const int32_t *selected; /* [n_selected] ids whose logits after the last token are wanted, or NULL */
    int64_t n_selected;
    float *selected_logits; /* [n_selected], written if selected */
    int32_t *greedy; /* the most likely id after the last token, the lowest among equals, -1 if logits are NaN; written
                        if not NULL */
} espl_segment;

typedef struct espl_batch {
    const espl_segment *segments;
    int64_t n;
} espl_batch;

/* Collective. Runs n micro-batches, in order, through the pipeline. Results do not depend on the number of ranks or
 * threads. ESPL_USAGE: a segment outside the context, slots, batch or vocabulary. */
espl_status espl_model_run(espl_model *m, const espl_batch *batches, int64_t n, espl_model_progress progress,
                           void *context);

/* Micro-batches that are made as they are needed, for instance from the results of earlier ones. */
typedef struct espl_stream {
    /* Sets *batch to micro-batch i, or to no segments (n = 0) for a turn in which nothing is computed, or *end. Called
     * with i = 0, 1, ... on every rank, which must all decide alike; on ranks but the first, one turn ahead: next(i +
     * 1) comes before done(i). *batch is borrowed until done(i). */
    espl_status (*next)(void *context, int64_t i, espl_batch *batch, bool *end);
    /* This rank has computed micro-batch i; on the last rank its results have been written. */
    espl_status (*done)(void *context, int64_t i);
    void *context;
} espl_stream;

/* Collective. Runs the stream through the pipeline, as espl_model_run does. */
espl_status espl_model_stream(espl_model *m, const espl_stream *stream);

/* Local. Observes the residual stream: called with layer -1 for the embeddings, layer i after decoder layer i of this
 * rank's slice, and `layers` for the final norm's output; x [T, hidden], borrowed. NULL ends it. */
typedef void (*espl_model_tap)(void *context, int64_t layer, const float *x, int64_t T);
void espl_model_set_tap(espl_model *m, espl_model_tap tap, void *context);

#endif
