/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of a model directory say about its tokenizer. */
#ifndef ESPL_TOKENIZER_BESIDE_H
#define ESPL_TOKENIZER_BESIDE_H

#include "tokenizer.h"

/* Logs a note for each thing in tokenizer_config.json and added_tokens.json that tokenizer.json does not have, and that
 * is therefore not heeded. Files that are absent or malformed are no failure: nothing here depends on them. */
void espl_tokenizer_note_beside(const espl_tokenizer *t, const char *dir);

#endif
