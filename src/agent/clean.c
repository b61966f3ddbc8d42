/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text from outside ends in the log, in dialogue.jsonl and in the next prompt. A reply could hold terminal escapes,
 * line breaks that fake a record, or bytes that are not UTF-8, which JSON cannot carry.
 */
#include "clean.h"

void espl_agent_put_clean(espl_str *s, const char *text, int64_t len, int64_t max) {
    int64_t shown = len;
    if (len > max) {
        shown = max;
        /* Step back to the start of a UTF-8 sequence (at most 4 bytes), so that half a character is not left over. */
        while (shown > 0 && shown > max - 4 && ((unsigned char)text[shown] & 0xC0) == 0x80) shown--;
    }
    for (int64_t i = 0; i < shown;) {
        int n = espl_utf8_length(text + i, shown - i);
        unsigned char c = (unsigned char)text[i];
        /* U+0080 .. U+009F: some terminals take these for escape sequences. */
        bool c1 = n == 2 && c == 0xC2 && (unsigned char)text[i + 1] < 0xA0;
        if (n == 0)
            espl_str_puts(s, "\xEF\xBF\xBD");
        else if (c < 0x20 || c == 0x7F || c1)
            espl_str_puts(s, " ");
        else
            espl_str_put(s, text + i, n);
        i += n ? n : 1;
    }
    if (shown < len) espl_str_puts(s, "...");
}

void espl_agent_put_joined(espl_str *s, const espl_str *problems) {
    for (int64_t i = 0; i < problems->len; i++) {
        if (problems->data[i] != '\n')
            espl_str_put(s, problems->data + i, 1);
        else if (i + 1 < problems->len) /* the last line break ends the list */
            espl_str_puts(s, "; ");
    }
}
