/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: growing token id arrays. */
#ifndef ESPL_EVAL_IDS_H
#define ESPL_EVAL_IDS_H

#include "espalier/tokenizer.h"

/* Local. Appends ids[0..n). to->data is not NULL afterwards, even if nothing was appended. ESPL_NOMEM. */
espl_status espl_eval_ids_append(espl_ids *to, const int32_t *ids, int64_t n);

#endif
