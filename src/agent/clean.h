/* SPDX-License-Identifier: Apache-2.0 */
/* Text from outside (language models, servers), made safe to log, to store and to send back. */
#ifndef ESPL_AGENT_CLEAN_H
#define ESPL_AGENT_CLEAN_H

#include "espalier/base/str.h"

/* Appends text as one line of valid UTF-8: control characters become spaces, invalid bytes U+FFFD. Text longer than max
 * bytes is cut, and "..." appended. text may be NULL if len is 0. */
void espl_agent_put_clean(espl_str *s, const char *text, int64_t len, int64_t max);

/* Appends a list with one problem per line as part of a sentence: "one; another". */
void espl_agent_put_joined(espl_str *s, const espl_str *problems);

#endif
