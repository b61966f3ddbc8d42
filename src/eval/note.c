/* SPDX-License-Identifier: Apache-2.0 */
/* Notes on what was read, for texts and for tables of questions. */
#include "note.h"

#include <inttypes.h>

#include "espalier/base/log.h"
#include "espalier/base/str.h"

void espl_eval_note_invalid_bytes(const char *path, const char *text, int64_t len) {
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < len;) {
        int n = espl_utf8_length(text + i, len - i);
        if (n == 0 && bad++ == 0) first = i;
        i += n > 0 ? n : 1;
    }
    if (bad > 0)
        ESPL_INFO("note: %s: %" PRId64 " of %" PRId64 " bytes are not valid UTF-8, the first at byte %" PRId64
                  ": read as U+FFFD",
                  path, bad, len, first);
}
