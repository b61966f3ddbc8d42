/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: tokenizer */
/*
 * An input that starts with '{' is a tokenizer.json, followed by a text after the first NUL byte. Any other input is a
 * text for one of three fixed tokenizers, chosen by the first byte. Text that encodes must decode, and the byte-level
 * tokenizer must give the same ids for the decoded text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base.h"
#include "espalier/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) abort();                                                                                     \
    } while (0)

enum { FIXED = 3 };

#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define TOKEN(id, content, lstrip, rstrip, normalized)                                                                 \
    "{\"id\":" #id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":" #lstrip ",\"rstrip\":" #rstrip     \
    ",\"normalized\":" #normalized ",\"special\":true}"

/* Every byte is a token, as both spellings have it: the byte alphabet, or <0xNN>. */
static void put_vocab(espl_str *s, bool byte_level) {
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        int c = printable ? b : b <= 0x20 ? 0x100 + b : b == 0xAD ? 0x143 : 0x121 + b - 0x7F;
        if (byte_level)
            espl_str_printf(s, "\"\\u%04x\":%d,", (unsigned)c, b);
        else
            espl_str_printf(s, "\"<0x%02X>\":%d,", (unsigned)b, b);
    }
}

static espl_tokenizer *make(int which) {
    static const char *const heads[FIXED] = {
        "{\"pre_tokenizer\":" BYTE_LEVEL ",\"decoder\":" BYTE_LEVEL,
        "{\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[" TOKEN(259, "<s>", true, false, false) "," TOKEN(
            260, "ab", false, true, true) "],\"pre_tokenizer\":" BYTE_LEVEL ",\"decoder\":" BYTE_LEVEL,
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Lowercase\"},{"
        "\"type\":"
        "\"Replace\",\"pattern\":{\"Regex\":\"\\\\s{2,}\"},\"content\":\" "
        "\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"first\"},{\"type\":"
        "\"Punctuation\"},{\"type\":\"Digits\",\"individual_digits\":false}]},\"decoder\":{\"type\":\"Sequence\","
        "\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\u2581\"},\"content\":\" \"},{\"type\":"
        "\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]}",
    };
    espl_tokenizer *t;
    espl_str s = {0};
    espl_str_puts(&s, heads[which]);
    espl_str_puts(&s, ",\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{");
    put_vocab(&s, which < 2);
    espl_str_puts(
        &s, which < 2 ? "\"in\":256,\"\u0120t\":257,\"\u0120th\":258},\"merges\":[\"i n\",\"\u0120 t\",\"\u0120t h\"]}}"
                      : "\"\u2581\":256,\"a\":257,\"\u2581a\":258},\"merges\":[[\"\u2581\",\"a\"]]}}");
    REQUIRE(espl_tokenizer_parse(s.data, s.len, "fixed", &t) == ESPL_OK);
    espl_str_free(&s);
    return t;
}

static void run(const espl_tokenizer *t, const char *text, int64_t len, bool returns) {
    espl_ids ids = {0}, again = {0};
    espl_str back = {0};
    if (espl_tokenizer_encode(t, text, len, true, &ids) == ESPL_OK) {
        for (int64_t i = 0; i < ids.len; i++) REQUIRE(ids.data[i] >= 0);
        espl_status st = espl_tokenizer_decode(t, ids.data, ids.len, true, &back);
        if (returns) {
            REQUIRE(st == ESPL_OK);
            REQUIRE(espl_tokenizer_encode(t, back.data ? back.data : "", back.len, true, &again) == ESPL_OK);
            REQUIRE(again.len == ids.len &&
                    (ids.len == 0 || !memcmp(ids.data, again.data, (size_t)ids.len * sizeof(int32_t))));
        }
        for (int64_t i = 0; i < ids.len && i < 4; i++) espl_tokenizer_token_bytes(t, ids.data[i], &back);
    }
    espl_ids_free(&ids);
    espl_ids_free(&again);
    espl_str_free(&back);
}

static void run_file(const char *p, int64_t n) {
    const char *end = memchr(p, 0, (size_t)n);
    int64_t json = end ? end - p : n;
    espl_tokenizer *t;
    if (espl_tokenizer_parse(p, json, "fuzz", &t) != ESPL_OK) return;
    run(t, "Hello <s> \xE2\x96\x81w\xC3\xB6rld's 12  \n\xF0\x9F\x98\x80", 28, false);
    if (end) run(t, end + 1, n - json - 1, false);
    int64_t top = espl_tokenizer_vocab_size(t);
    espl_str s = {0};
    for (int32_t id = 0; id < top && id < 300; id++) espl_tokenizer_decode(t, &id, 1, false, &s);
    espl_str_free(&s);
    espl_tokenizer_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static espl_tokenizer *fixed[FIXED]; /* kept for the process: reachable, so no leak */
    if (size == 0) return 0;
    for (int i = 0; i < FIXED; i++)
        if (!fixed[i]) fixed[i] = make(i);
    if (data[0] == '{')
        run_file((const char *)data, (int64_t)size);
    else
        run(fixed[data[0] % FIXED], (const char *)data + 1, (int64_t)size - 1, data[0] % FIXED == 0);
    return 0;
}
