/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: notes on what was read. Local. */
#ifndef ESPL_EVAL_NOTE_H
#define ESPL_EVAL_NOTE_H

#include <stdint.h>

/* Says that a file is not UTF-8, if so. It is evaluated all the same, but the user probably meant another file. */
void espl_eval_note_invalid_bytes(const char *path, const char *text, int64_t len);

#endif
