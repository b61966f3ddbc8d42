/* SPDX-License-Identifier: Apache-2.0 */
/* eval: all of include/espalier/eval, for callers that do not yet include exactly what they use. */
#ifndef ESPALIER_EVAL_H
#define ESPALIER_EVAL_H

#include "espalier/eval/choices.h"
#include "espalier/eval/corpus.h"
#include "espalier/eval/decode.h"
#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/generate.h"
#include "espalier/eval/mmlu.h"
#include "espalier/eval/perplexity.h"
#include "espalier/eval/prompts.h"
#include "espalier/eval/proportion.h"

#endif
