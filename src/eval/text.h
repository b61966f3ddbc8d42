/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: comparing answers as the Python code of the benchmarks does. All functions are Local. */
#ifndef ESPL_EVAL_TEXT_H
#define ESPL_EVAL_TEXT_H

#include "espalier/base/str.h"

/* Narrows *text, *len to the text without white space at its ends, like Python's str.strip(). */
void espl_text_strip(const char **text, int64_t *len);
/* Length in bytes of text without white space at its end. */
int64_t espl_text_rstrip(const char *text, int64_t len);
/* Number of code points, like Python's len(); a byte that is not UTF-8 counts as one. */
int64_t espl_text_characters(const char *text, int64_t len);

/* Appends the text in lower case, stripped and without spaces (U+0020): the comparison of llm-kick. *out is then
 * NUL-terminated even if nothing was appended. */
void espl_text_squeeze(const char *text, int64_t len, espl_str *out);
/* Appends the text normalised as the SQuAD v1.1 evaluation script does (Rajpurkar et al. 2016, arXiv 1606.05250): lower
 * case, no ASCII punctuation, no articles, single spaces. *out is then NUL-terminated even if nothing was appended.
 * Lower case covers ASCII, Latin, Greek, Cyrillic and Armenian letters. */
void espl_text_normalise(const char *text, int64_t len, espl_str *out);
/* True if normalised text a contains normalised text b as whole words. False if b is empty. */
bool espl_text_has_words(const char *a, const char *b);

#endif
