/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of texts: what a file is taken for, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka needs the four above */
#include <cmocka.h>
#include <string.h>
#include <zlib.h>

#include "espalier/base/memory.h"
#include "espalier/eval/documents.h"

/* Reads the bytes as file `name`, and compares the joined text; expected NULL: refused with a message that holds
 * `words`. */
static void reads_as(const char *bytes, int64_t len, const char *name, const char *expected, int64_t n,
                     const char *words) {
    espl_documents d = {0};
    int64_t before = espl_mem_balance();
    espl_status st = espl_documents_parse(bytes, len, name, &d);
    if (expected) {
        assert_int_equal(st, ESPL_OK);
        assert_int_equal(d.n, n);
        assert_int_equal(d.text.len, (int64_t)strlen(expected));
        if (d.text.len > 0) assert_memory_equal(d.text.data, expected, d.text.len);
    } else {
        assert_int_equal(st, ESPL_FORMAT);
        if (!strstr(espl_base_error_text(), words)) fail_msg("\"%s\" lacks \"%s\"", espl_base_error_text(), words);
        assert_non_null(strstr(espl_base_error_text(), name));
    }
    espl_documents_free(&d);
    assert_int_equal(espl_mem_balance(), before);
}
static void reads(const char *text, const char *name, const char *expected, int64_t n) {
    reads_as(text, (int64_t)strlen(text), name, expected, n, NULL);
}
static void refuses(const char *bytes, int64_t len, const char *name, const char *words) {
    reads_as(bytes, len, name, NULL, 0, words);
}
#define REFUSES(literal, name, words) refuses(literal, (int64_t)sizeof(literal) - 1, name, words)

static void content_decides(void **state) {
    static const char lines[] = "{\"text\": \"one\", \"url\": \"x\"}\n{\"text\": \"two\"}\r\n\n{\"text\": \"\\u00e9\"}";
    (void)state;
    reads(lines, "c4.jsonl", "one\n\ntwo\n\n\xC3\xA9", 3);
    reads(lines, "c4-validation.json", "one\n\ntwo\n\n\xC3\xA9", 3);
    reads(lines, "c4.txt", "one\n\ntwo\n\n\xC3\xA9", 3);
    reads("\xEF\xBB\xBF{\"text\": \"one\"}", "bom.jsonl", "one", 1);
    reads("{\n  \"text\": \"one\"\n}\n{\n  \"text\": \"two\"\n}\n", "pretty.json", "one\n\ntwo", 2);
    reads("[{\"text\": \"one\"}, {\"text\": \"two\"}]", "list.json", "one\n\ntwo", 2);
    reads("[\"one\", \"two\"]", "strings.json", "one\n\ntwo", 2);
    /* Texts, whatever they begin with. */
    reads("one\n\n two\n", "a.txt", "one\n\n two\n", 1);
    reads("{{Infobox}} text", "wiki", "{{Infobox}} text", 1);
    reads("[Verse 1]\nla", "song.raw", "[Verse 1]\nla", 1);
    reads("GGUF is a format", "a.txt", "GGUF is a format", 1);
    reads("\xEF\xBB\xBFone", "bom.txt", "\xEF\xBB\xBFone", 1);
    reads("", "empty.txt", "", 0);
    reads("\n", "empty.jsonl", "\n", 1);
}

static void refused_by_name(void **state) {
    (void)state;
    REFUSES("{\"text\": \"a\"}\n{\"txet\": \"b\", \"url\": 1}\n", "a.jsonl", "a.jsonl: line 2: no \"text\"");
    REFUSES("{\"content\": \"b\"}\n", "a.jsonl", "found \"content\"");
    REFUSES("{\"text\": 5}\n", "a.jsonl", "line 1: \"text\" is something else");
    REFUSES("{\"text\": \"a\"}\n{\"text\": \"b\n", "a.json", "line 2: not valid JSON");
    REFUSES("{\"text\": \"a\"}\n5\n", "a.json", "line 2: a value that is no document");
    REFUSES("[\"a\", [\"b\"]]", "a.json", "a list in a list");
    REFUSES("{\"text\": \"a\\u0000b\"}", "a.json", "\\u0000");
    REFUSES("text\": \"a\"}\n", "a.jsonl", "line 1: not JSON");
    REFUSES("PAR1\x15\x04\0\0", "a.parquet", "Parquet");
    REFUSES("\x28\xB5\x2F\xFD\x04", "a.json.zst", "zstd -d");
    REFUSES("\xFF\xFEo\0n\0", "a.txt", "UTF-16");
    REFUSES("abc\0def", "a.bin", "a NUL at byte 3");
    REFUSES("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a.txt", "git lfs pull");
    /* An escaped backslash before u0000 is no NUL. */
    reads("{\"text\": \"a\\\\u0000b\"}", "a.json", "a\\u0000b", 1);
}

/* Packs text as gzip does. Returns the bytes. */
static int64_t pack(const char *text, int64_t len, char *out, int64_t room) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)text;
    z.avail_in = (uInt)len;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

static void packed(void **state) {
    enum { ROOM = 4096, LONG = 1 << 20 };
    static const char lines[] = "{\"text\": \"one\"}\n";
    char bytes[ROOM], *text, *expected;
    (void)state;
    int64_t n = pack(lines, (int64_t)sizeof lines - 1, bytes, ROOM);
    reads_as(bytes, n, "c4.json.gz", "one", 1, NULL);
    int64_t both = n + pack("{\"text\": \"two\"}", 15, bytes + n, ROOM - n); /* cat a.gz b.gz */
    reads_as(bytes, both, "c4.json.gz", "one\n\ntwo", 2, NULL);
    refuses(bytes, both - 6, "c4.json.gz", "ends early");
    refuses(bytes, 3, "c4.json.gz", "ends early");
    memcpy(bytes + n, "garbage and no member", 21);
    refuses(bytes, n + 21, "c4.json.gz", "damaged at byte");
    /* More than one block of output. */
    assert_int_equal(espl_mem_alloc(&text, LONG + 1, 1, "text"), ESPL_OK);
    memset(text, 'a', LONG);
    n = pack(text, LONG, bytes, ROOM);
    expected = text;
    reads_as(bytes, n, "long.gz", expected, 1, NULL);
    espl_mem_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(content_decides), cmocka_unit_test(refused_by_name),
                                       cmocka_unit_test(packed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
