/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast this machine computes the parts of a job: measured on a stand-in of the model, so that attention, norms,
 * statistics and whatever else a pass does are in the numbers. Local.
 */
#ifndef ESPL_RUN_PLAN_SPEED_H
#define ESPL_RUN_PLAN_SPEED_H

#include "espalier/schedule/machine.h"
#include "state.h"

/* Seconds on one rank with its threads. "per FLOP": of espl_model_layer_flops or espl_model_head_flops, once. */
typedef struct espl_plan_speed {
    double flops;         /* FLOP/s of the linears alone: what another machine is compared by */
    double forward;       /* an evaluation, per FLOP of the layers */
    double look;          /* a calibration window without gradients, likewise */
    double backward;      /* the backward pass of a sample, with what it computes again, per FLOP of a forward pass */
    double learn;         /* a window of distillation, both passes, likewise */
    double adam;          /* a step of distillation besides its windows, per weight */
    double head;          /* log-probabilities, per FLOP of the head */
    double head_backward; /* loss and gradient, likewise */
    double head_learn;    /* divergence and gradient, likewise */
    double rows;          /* a row of the profile, per weight */
    double decode;        /* ESPL_PLAN_DECODED sequences by one token, per weight of the linears */
} espl_plan_speed;

enum { ESPL_PLAN_DECODED = 32 };

/* Measures with the threads of this rank. Takes some seconds: windows are shortened for large models. ESPL_NOMEM. */
espl_status espl_plan_measure_speed(const espl_job *j, espl_plan_speed *out);
/* FLOP/s of the linears with the threads that espl_tensor_set_threads gave. */
espl_status espl_plan_measure_flops(const espl_model_config *c, double *out);
/* Collective. The linears at 1, 2, 4, ... threads up to those of this rank; if there are two ranks, messages between
 * the first two; a file of some MiB in `dir`, which is removed. *out is written on rank 0. */
espl_status espl_plan_measure_machine(espl_comm *c, const espl_model_config *config, const char *dir,
                                      espl_machine *out);

#endif
