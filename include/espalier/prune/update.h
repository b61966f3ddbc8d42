/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New weights for one linear whose mask is given, so that it makes from the pruned model's inputs what the dense one
 * makes from its own. All functions are Local; results are the same bits for any number of threads.
 *
 * With W the source's weights [out, in], x the linear's input in the pruned model and x + d that in the dense one, new
 * weights V, 0 where the mask prunes, have the error
 *
 *   sum over the tokens of ||W (x + d) - V x||^2 = sum over the rows of e (e A + 2 w D) + a constant,
 *
 * e and w being rows of W - V and W, A = sum of x x^T and D = sum of d x^T. So A and D are all that is needed of the
 * tokens. Without the mask and with damping * |V - W|^2 added, the minimum is V = W + W D (A + damping I)^-1.
 */
#ifndef ESPALIER_PRUNE_UPDATE_H
#define ESPALIER_PRUNE_UPDATE_H

#include "espalier/tensor/linear.h"

/* Of a linear's inputs. Borrowed. */
typedef struct espl_moments {
    const float *gram;  /* A [in, in], all of it */
    const float *drift; /* D [in, in], row: feature of d; NULL: 0, the dense model's inputs are the pruned one's */
} espl_moments;

/* weight [out, in] = the minimum without the mask, above (the "shift"). l: the source's weights. factor [in, in]: of
 * espl_prune_factor, U^T U = (A + damping I)^-1; its lower triangle is not read. ESPL_NOMEM. */
espl_status espl_update_shift(const espl_linear *l, const espl_moments *of, const float *factor, float *weight);

enum { ESPL_UPDATE_STEPS = 48 }; /* of conjugate gradients at most: the error no longer falls visibly */
/* weight [out, in] = the minimum with the mask and with damping * |V - P|^2 added, P being `prior`'s weights; damping >
 * 0. 0 where l->mask prunes. l: the source's weights. Conjugate gradients on all rows of a tile at once, with the
 * diagonal as preconditioner; a row ends once its residual is at most `residual` (f32 allows about 1e-6) times the
 * first one, or after ESPL_UPDATE_STEPS. ESPL_NOMEM. */
espl_status espl_update_reconstruct(const espl_linear *l, const espl_linear *prior, const espl_moments *of,
                                    double damping, double residual, float *weight);

/* *error = the error above of weight [out, in] under l->mask, without the constant: differences count. rows [out] is
 * scratch. l: the source's weights. ESPL_NOMEM. */
espl_status espl_update_error(const espl_linear *l, const float *weight, const espl_moments *of, double *rows,
                              double *error);

/* Bytes that each of them allocates at most for a linear of `in` inputs, with the current number of threads. */
int64_t espl_update_bytes(int64_t in);
/* FLOPs of espl_update_shift, of so many steps of espl_update_reconstruct, and of espl_update_error. */
double espl_update_shift_flops(int64_t out, int64_t in);
double espl_update_reconstruct_flops(int64_t out, int64_t in, int64_t steps, bool drift);
double espl_update_error_flops(int64_t out, int64_t in, bool drift);

#endif
