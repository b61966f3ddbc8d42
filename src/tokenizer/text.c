/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8: taking it apart, repairing it, and GPT-2's spelling of bytes as characters. */
#include "text.h"

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"

#include <string.h>
#include <utf8proc.h>

void espl_tok_bytes_free(espl_bytes *b) {
    espl_mem_free(&b->p);
    b->n = 0;
}

int espl_tok_encode_char(int32_t cp, char *dst) { return (int)utf8proc_encode_char(cp, (utf8proc_uint8_t *)dst); }

/* Options like "replacement" are characters in Rust, which refuses longer strings. */
bool espl_tok_is_one_char(const espl_bytes *s) {
    int n;
    if (s->n == 0) return false;
    espl_tok_decode_char(s->p, &n);
    return n == s->n;
}

int64_t espl_tok_last_char(const char *p, int64_t n) {
    int64_t i = n - 1;
    while (i > 0 && ((unsigned char)p[i] & 0xC0) == 0x80) i--;
    return i;
}

/* Every text passes here once. */
int64_t espl_tok_valid_prefix(const char *s, int64_t n) {
    int64_t i = 0;
    while (i < n) {
        if (i + 8 <= n && espl_tok_is_ascii8(s + i)) {
            i += 8;
            continue;
        }
        int len = espl_utf8_length(s + i, n - i);
        if (len == 0) return i;
        i += len;
    }
    return n;
}

void espl_tok_put_repaired(espl_str *out, const char *s, int64_t n) {
    for (int64_t i = 0; i < n;) {
        int64_t good = espl_tok_valid_prefix(s + i, n - i);
        espl_str_put(out, s + i, good);
        i += good;
        if (i == n) break;
        /* The maximal ill-formed subsequence (Unicode 15, section 3.9): as many bytes as could have begun a valid one,
         * at least 1. They could if some continuation makes them valid, and 80 is valid as third and as fourth byte. */
        int64_t bad = espl_min_i64(n - i, 3);
        for (; bad > 1; bad--) {
            char probe[4] = {(char)0x80, (char)0x80, (char)0x80, (char)0x80};
            memcpy(probe, s + i, (size_t)bad);
            if (espl_utf8_length(probe, 4) > bad) break;
        }
        espl_str_puts(out, ESPL_TOK_REPLACEMENT);
        i += bad;
    }
}

/* ------------------------------------------------------------ GPT-2's byte alphabet */

/* The 188 printable bytes of Latin-1 stand for themselves, the 68 others for U+0100 onwards, in order. */
static bool byte_is_printable(int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; }

int32_t espl_tok_byte_to_char(uint8_t byte) {
    if (byte_is_printable(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;             /* 00..20: the first 33 */
    return byte == 0xAD ? 0x143 : 0x121 + byte - 0x7F; /* 7F..A0: the next 34; AD: the last */
}

static int char_to_byte(int32_t cp) {
    if (cp < 0x100) return byte_is_printable(cp) ? cp : -1;
    if (cp <= 0x120) return cp - 0x100;
    if (cp == 0x143) return 0xAD;
    return cp <= 0x142 ? cp - 0x121 + 0x7F : -1;
}

/* Checks before it writes: callers keep what dst holds when this fails. */
int64_t espl_tok_undo_byte_chars(const char *s, int64_t n, char *dst) {
    int len;
    for (int64_t i = 0; i < n; i += len)
        if (char_to_byte(espl_tok_decode_char(s + i, &len)) < 0) return -1;
    int64_t out = 0;
    for (int64_t i = 0; i < n; i += len) dst[out++] = (char)char_to_byte(espl_tok_decode_char(s + i, &len));
    return out;
}
