/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/decode: greedy continuations of many prompts at once. generate.h continues a single prompt.
 */
#ifndef ESPALIER_EVAL_DECODE_H
#define ESPALIER_EVAL_DECODE_H

#include "espalier/eval/prompts.h"
#include "espalier/model/config.h"
#include "espalier/model/model.h"

/* What a stop token does: end the continuation without the token, or after it. */
enum { ESPL_STOP_DROP = 1, ESPL_STOP_KEEP = 2 };

typedef struct espl_decoding {
    const int64_t *max_tokens; /* [prompts.n] maximum length of each continuation, >= 1 */
    const uint8_t *stops;      /* [n_stops] by token id: 0 or ESPL_STOP_* */
    int64_t n_stops;
    int64_t width; /* maximum number of sequences per micro-batch; 0: the default of 64 */
} espl_decoding;

/* Collective. Greedy continuations of all prompts, which must form one family. Continuation i is out[at[i] .. at[i] +
 * n_out[i]) on every rank, at[i] being the sum of max_tokens[0 .. i). Finished sequences make room for the next
 * prompts, and several groups of sequences are in flight so that no rank waits for a token to travel around the
 * pipeline. The number of concurrent sequences follows from the options of the model (espl_decode_need).
 *
 * The micro-batches, and with them the rounding, are identical on any grid of ranks. ESPL_FORMAT: the logits are not
 * numbers. ESPL_CONFIG: a prompt and its continuation exceed the context, or the model has too few slots. */
espl_status espl_eval_decode(espl_comm *c, espl_model *m, const espl_prompts *p, const espl_decoding *d, int32_t *out,
                             int64_t *n_out);

/* Local. Raises o->context, o->slots and o->logits_rows so that a model opened with *o can decode these prompts with
 * d->width sequences per micro-batch. The default width is reduced if its KV cache would exceed 4 GiB over all
 * stages. */
void espl_decode_need(const espl_prompts *p, const espl_decoding *d, const espl_model_config *c, espl_model_options *o);

#endif
