/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exponent p of score curvature, W^2 E[x^2] E[g^2]^p. The Gauss-Newton estimate has p = 1, but E[g^2] of a few
 * samples has heavy tails, and on some models a smaller p prunes better: it is measured, not believed.
 */
#ifndef ESPALIER_METHODS_CURVATURE_H
#define ESPALIER_METHODS_CURVATURE_H

#include "espalier/methods/options.h"
#include "espalier/model/masks.h"

/* The exponents that a run tries. */
enum { ESPL_CURVATURE_POWERS = 5 };
extern const double espl_curvature_powers[ESPL_CURVATURE_POWERS]; /* 0, 1/4, 1/2, 3/4, 1 */

/* Collective. Prunes the dense model to o->target once with each exponent, with allocation global and without an
 * update, from one calibration of ids [max(samples, gradient_samples), window], and calls o->fitness (stage 0) on it:
 * losses [ESPL_CURVATURE_POWERS]. *power: the exponent with the lowest loss, the higher one among equals (NaN loses).
 * The masks are dense again afterwards, and the model computes without them. ESPL_CONFIG: the target cannot be reached.
 */
espl_status espl_curvature_choose_power(espl_comm *comm, const espl_method_options *o, const int32_t *ids,
                                        espl_masks *masks, double *losses, double *power);

#endif
