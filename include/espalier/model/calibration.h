/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calibration pass: activation statistics from a forward pass, gradients of the loss from a backward pass, both
 * through the pipeline of ranks and of the model as it is masked now.
 */
#ifndef ESPALIER_MODEL_CALIBRATION_H
#define ESPALIER_MODEL_CALIBRATION_H

#include "espalier/loop/loop.h"
#include "espalier/model/forward.h"

typedef struct espl_calibration_options {
    int64_t window;   /* tokens of a window, 2 .. context */
    int64_t forward;  /* windows 0 .. forward - 1 give activation statistics */
    int64_t backward; /* windows 0 .. backward - 1 are the samples L_i whose gradients are taken */
    /* [slice linears] of [out, in], or NULL: += sum over the samples of (dL_i/dW)^2, for scores that need each weight's
     * gradient. espl_calibration_gradient is then not measured (0). */
    float *const *gradient_squares;
    /* [slice linears] of [out, in], or NULL: += sum over the samples of dL_i/dW, pruned weights included.
     * espl_calibration_gradient and espl_calibration_output_squares are then not measured (0). */
    float *const *gradient_sums;
    /* Distillation: [backward] final hidden states [window, hidden] of the model to learn from, as `final_states` wrote
     * them; or NULL. Given on every rank, read on the last one. L_i is then the mean over the first lengths[i] tokens
     * of the divergence KL(teacher || model) of predictions, times scales[i]. */
    const float *const *teacher;
    const int64_t *lengths; /* [backward] */
    const float *scales;    /* [backward] */
    float *final_states;    /* [forward, window, hidden] or NULL: on the last stages, the final norm's outputs */
    /* What a sample's loss is otherwise. NULL: the mean cross entropy of its window - 1 next tokens. Else [backward,
     * window]: the token to predict at each position, below 0: none; L_i is then the sum over the sample's targets,
     * divided by the mean number of targets of a sample. With `choices`, targets compete among these ids alone. */
    const int32_t *targets;
    const int32_t *choices; /* [n_choices], or NULL: the whole vocabulary */
    int64_t n_choices;
} espl_calibration_options;

/* What calibration measured of the linears of this rank's slice. */
typedef struct espl_calibration {
    espl_layout layout; /* of the model */
    espl_range linears; /* of this rank, by espl_linear_index */
    int64_t window, forward_tokens, samples;
    double predictions; /* scored tokens of a sample: window - 1, or the mean number of targets */
    double tokens;      /* tokens of a sample over which E[g^2] is a mean: window, or the mean number of targets */
    double *loss;       /* [samples] L_i, on every rank; owned */
    double *gradient;   /* [slice linears]; owned, see espl_calibration_gradient */
    double *squares;    /* [slice layers, stride]; owned, see espl_calibration_squares */
    int64_t stride, at[ESPL_LINEAR_KINDS], expert_stride; /* at: of expert 0; expert_stride: to the next one's */
    double *output_squares; /* [slice layers, output_stride]; owned, see espl_calibration_output_squares */
    int64_t output_stride, output_at[ESPL_LINEAR_KINDS], output_expert_stride;
    int64_t *reached;          /* [slice linears] tokens of the forward windows; owned, see espl_calibration_reached */
    int64_t *reached_backward; /* [slice linears] tokens of the backward windows; owned */

    /* Of espl_model_calibrate_knowledge; NULL and 0 before. */
    double *knowledge; /* [slice layers, output_stride] mean squares as of output_squares, per answer token; owned */
    double *topic_gradients; /* [ESPL_TOPICS, slice linears] NAN where the topic has no questions; owned */
    double knowledge_share;  /* lambda */
    double knowledge_scale;  /* mean(G) / mean(G_k) over all outputs of the model */
} espl_calibration;

/* Questions of one topic as samples. Borrowed; the same on every rank. */
typedef struct espl_topic_samples {
    int64_t windows;        /* 0: the topic has no questions */
    const int32_t *ids;     /* [windows, window] */
    const int32_t *targets; /* [windows, window] answer tokens, as in espl_calibration_options */
    const int32_t *choices;
    int64_t n_choices;
} espl_topic_samples;

/* Collective. Runs windows ids [max(forward, backward), window], the same on every rank, through the masked model.
 * Replicas share the windows, and a team of replicas (espl_grid) the tokens of one window, unless options ask for
 * gradient_squares, gradient_sums, teacher or final_states, or the model has experts. Results, those in arrays of the
 * options included, do not depend on the grid of ranks or the number of threads. Takes espl_model_calibration_bytes of
 * memory for the call. ESPL_USAGE, ESPL_UNSUPPORTED, ESPL_NOMEM. Free *out with espl_calibration_free. */
espl_status espl_model_calibrate(espl_model *m, const espl_calibration_options *o, const int32_t *ids,
                                 espl_model_progress progress, void *context, espl_calibration *out);
void espl_calibration_free(espl_calibration *c);

/* Collective. Adds to a calibration what the loss of answers to probe questions says of the same model: a backward pass
 * of the windows of each topic, the topics weighted by espl_topic_weights. topics [ESPL_TOPICS]. `share`, lambda of
 * espl_calibration_importance. Without any windows nothing happens. Errors as espl_model_calibrate. */
espl_status espl_model_calibrate_knowledge(espl_model *m, const espl_topic_samples *topics, int64_t window,
                                           double share, espl_calibration *c);

/* Local. Bytes that a rank takes while calibrating: of g its numbers count, not its communicators. */
int64_t espl_model_calibration_bytes(const espl_model_config *c, const espl_calibration_options *o, espl_range slice,
                                     const espl_grid *g);

/* Local. How a team shares the gradients of the weights of n linears with one input: by inputs, or by outputs. It
 * gathers the side that is not cut, which should be the narrower one. */
static inline bool espl_calibration_cuts_inputs(const espl_linear *l, int n) { return n == 1 && l->in > l->out; }
/* Local. ||X_j||^2 per input feature [in] of a linear: sum of x_tj^2 over the forward tokens. NULL if the linear is not
 * this rank's. Borrowed. */
const double *espl_calibration_squares(const espl_calibration *c, int64_t index);
/* Local. How many of the forward tokens came to a linear: all, or those that were routed to its expert. 0 if the linear
 * is not this rank's. An expert that no token of the passes reached has the statistics of one token, with features of 1
 * and the mean gradient of its layer's experts: its weights differ by their size, and it is cheap but not free. */
int64_t espl_calibration_reached(const espl_calibration *c, int64_t index);
/* Local. ||X_j||_2 of the first `in` input features, as float: the square roots of those sums. */
void espl_calibration_norms(const espl_calibration *c, int64_t index, int64_t in, float *norm);
/* Local. (1/M) sum over samples i of the mean over surviving weights of |dL_i/dW| (arXiv 2601.09694, G reduced by its
 * mean: our reading). Pruned weights do not count. NAN: no samples, no weight survives, or the linear is not this
 * rank's. */
double espl_calibration_gradient(const espl_calibration *c, int64_t index);
/* Local. Sum over the samples i and their tokens t of (dL_i/dy_to)^2 per output feature [out] of a linear with output
 * y. NULL if the linear is not this rank's; zeros without samples or with gradient_squares. Borrowed. */
const double *espl_calibration_output_squares(const espl_calibration *c, int64_t index);

/* Local. What makes those sums means per token of (dl/dy_o)^2, l the loss of one token; with targets, sums over all
 * positions per scored token. 0 without samples. */
double espl_calibration_output_unit(const espl_calibration *c);

/* Local. How much the loss depends on each output feature of a linear of this rank: importance [out] = (1 - lambda) G +
 * lambda G_k mean(G) / mean(G_k), where G is the mean square gradient of espl_calibration_output_squares and G_k the
 * same of the answers. Without knowledge G. A mean over the tokens that reach the linear: of an expert, those that are
 * routed to it. */
void espl_calibration_importance(const espl_calibration *c, int64_t index, int64_t out, double *importance);
/* Local. G_k per output feature [out] of a linear of this rank; NULL without knowledge. Borrowed. */
const double *espl_calibration_knowledge(const espl_calibration *c, int64_t index);
/* Local. As espl_calibration_gradient, of the answers of one topic. */
double espl_calibration_topic_gradient(const espl_calibration *c, int64_t index, espl_topic topic);

/* Local. Observes the backward pass, for tests: called, sample after sample, with layer i and dL/d(residual stream
 * after decoder layer i) [T, hidden] for i = this rank's layers minus one, down to -1 for the embeddings on the first
 * rank, and on the last rank also for the last layer. In a team of several ranks: with this rank's rows. NULL ends it.
 */
void espl_model_set_gradient_tap(espl_model *m, espl_model_tap tap, void *context);

#endif
