/* SPDX-License-Identifier: Apache-2.0 */
/* The pruned model as a Hugging Face directory of the run, with its card and its recipe. */
#ifndef ESPL_RUN_MODEL_EXPORT_H
#define ESPL_RUN_MODEL_EXPORT_H

#include "quality.h"

/* Collective. Exports the model as it is masked, to run.dir/name. pruned: what was measured of it; the dense model is
 * measured for the card, unless it was (dense.h). Errors of espl_export_model and espl_dense_report. */
espl_status espl_model_export(espl_job *j, const char *name, const espl_report_quality *pruned);

#endif
