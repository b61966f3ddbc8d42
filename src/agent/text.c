/* Small writers: numbers that read back exactly, and text that is safe to show and to store. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

void espl_put_number(espl_str *s, double v) {
    static const int digits[] = {6, 12, 17};
    char buf[64] = "null";
    for (int i = 0; i < 3 && isfinite(v); i++) {
        snprintf(buf, sizeof buf, "%.*g", digits[i], v);
        if (strtod(buf, NULL) == v) break;
    }
    espl_str_puts(s, buf);
}

int64_t espl_text_cut(const char *text, int64_t len, int64_t max) {
    if (len <= max) return len;
    int64_t n = max;
    while (n > 0 && n > max - 4 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    return n;
}

void espl_put_clean(espl_str *s, const char *text, int64_t len, int64_t max) {
    int64_t shown = espl_text_cut(text, len, max);
    for (int64_t i = 0; i < shown;) {
        int n = espl_utf8_length(text + i, shown - i);
        unsigned char c = (unsigned char)text[i];
        bool c1 = n == 2 && c == 0xC2 && (unsigned char)text[i + 1] < 0xA0; /* U+0080 .. U+009F */
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

void espl_put_problems(espl_str *s, const espl_str *problems) {
    for (int64_t i = 0; i < problems->len; i++) {
        if (problems->data[i] != '\n')
            espl_str_put(s, problems->data + i, 1);
        else if (i + 1 < problems->len)
            espl_str_puts(s, "; ");
    }
}
