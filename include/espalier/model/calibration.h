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
} espl_calibration_options;

/* What calibration measured of the linears of this rank's slice. */
typedef struct espl_calibration {
    espl_range linears; /* of this rank, by espl_linear_index */
    int64_t window, forward_tokens, samples;
    double *loss;     /* [samples] mean cross entropy of each window (window - 1 predictions), on every rank; owned */
    double *gradient; /* [slice linears]; owned, see espl_calibration_gradient */
    double *squares;  /* [slice layers, stride]; owned, see espl_calibration_squares */
    int64_t stride, at[ESPL_LINEAR_KINDS];
    double *output_squares; /* [slice layers, output_stride]; owned, see espl_calibration_output_squares */
    int64_t output_stride, output_at[ESPL_LINEAR_KINDS];
} espl_calibration;

/* Collective. Runs windows ids [max(forward, backward), window], the same on every rank, through the masked model.
 * Results do not depend on the number of ranks or threads. Takes espl_model_calibration_bytes of memory for the call.
 * ESPL_USAGE, ESPL_UNSUPPORTED, ESPL_NOMEM. Free *out with espl_calibration_free. */
espl_status espl_model_calibrate(espl_model *m, const espl_calibration_options *o, const int32_t *ids,
                                 espl_model_progress progress, void *context, espl_calibration *out);
void espl_calibration_free(espl_calibration *c);

/* Local. Bytes that rank `rank` of `ranks` takes while calibrating. */
int64_t espl_model_calibration_bytes(const espl_model_config *c, const espl_calibration_options *o, espl_range slice,
                                     int rank, int ranks);

/* Local. ||X_j||^2 per input feature [in] of a linear: sum of x_tj^2 over the forward tokens. NULL if the linear is not
 * this rank's. Borrowed. */
const double *espl_calibration_squares(const espl_calibration *c, int64_t index);
/* Local. ||X_j||_2 of the first `in` input features, as float: the square roots of those sums. */
void espl_calibration_norms(const espl_calibration *c, int64_t index, int64_t in, float *norm);
/* Local. (1/M) sum over samples i of the mean over surviving weights of |dL_i/dW| (arXiv 2601.09694, G reduced by its
 * mean: our reading). Pruned weights do not count. NAN: no samples, no weight survives, or the linear is not this
 * rank's. */
double espl_calibration_gradient(const espl_calibration *c, int64_t index);
/* Local. Sum over the samples i and their tokens t of (dL_i/dy_to)^2 per output feature [out] of a linear with output
 * y. NULL if the linear is not this rank's; zeros without samples or with gradient_squares. Borrowed. */
const double *espl_calibration_output_squares(const espl_calibration *c, int64_t index);

/* Local. What makes those sums means over tokens of (dl/dy_o)^2, l the loss of one token: L_i is the mean over the
 * window - 1 predictions of a sample. 0 without samples. */
double espl_calibration_output_unit(const espl_calibration *c);

/* Local. Observes the backward pass, for tests: called, sample after sample, with layer i and dL/d(residual stream
 * after decoder layer i) [T, hidden] for i = this rank's layers minus one, down to -1 for the embeddings on the first
 * rank, and on the last rank also for the last layer. NULL ends it. */
void espl_model_set_gradient_tap(espl_model *m, espl_model_tap tap, void *context);

#endif
