/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors reader: files built from strings, one defect each, and files of the reference implementation. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "espalier/base.h"
#include "espalier/weights/reader.h"

enum { BUFFER = 1 << 16 };

/* One safetensors file: size, header, `data_bytes` bytes counting up. Returns its length. */
static int64_t build(uint8_t *buf, const char *header, int64_t data_bytes) {
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) buf[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(buf + 8, header, n);
    for (int64_t i = 0; i < data_bytes; i++) buf[8 + (int64_t)n + i] = (uint8_t)i;
    return 8 + (int64_t)n + data_bytes;
}

/* An exact-size copy, so that the sanitizer sees a read past the end. */
static espl_status open_bytes(const uint8_t *bytes, int64_t len, espl_weights **w, uint8_t **copy) {
    *copy = malloc(len ? (size_t)len : 1);
    assert_non_null(*copy);
    if (len) memcpy(*copy, bytes, (size_t)len);
    return espl_weights_open_memory(*copy, len, "m.st", w);
}

static void refused_bytes(const uint8_t *bytes, int64_t len, espl_status want, const char *text) {
    espl_weights *w = (espl_weights *)1;
    uint8_t *copy;
    int64_t before = espl_mem_balance();
    espl_status st = open_bytes(bytes, len, &w, &copy);
    free(copy);
    if (st != want || !strstr(espl_base_error_text(), text) || strncmp(espl_base_error_text(), "m.st: ", 6) != 0)
        fail_msg("got %s \"%s\", want %s \"%s\"", espl_status_name(st), espl_base_error_text(), espl_status_name(want),
                 text);
    assert_null(w);
    assert_int_equal(espl_mem_balance(), before);
}

static void refused(const char *header, int64_t data_bytes, const char *text) {
    static uint8_t buf[BUFFER];
    refused_bytes(buf, build(buf, header, data_bytes), ESPL_FORMAT, text);
}

static void accepted(const char *header, int64_t data_bytes, int64_t count) {
    static uint8_t buf[BUFFER];
    espl_weights *w;
    uint8_t *copy;
    if (open_bytes(buf, build(buf, header, data_bytes), &w, &copy) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    assert_int_equal(espl_weights_count(w), count);
    espl_weights_close(&w);
    espl_weights_close(&w);
    free(copy);
}

#define T(name, dtype, shape, offsets)                                                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void wellformed_headers_are_accepted(void **state) {
    (void)state;
    accepted("{}", 0, 0);
    accepted("{\"__metadata__\":{\"format\":\"pt\"}}   ", 0, 0);
    accepted("{" T("a", "F32", "[2,3]", "[0,24]") "}", 24, 1);
    accepted("{" T("a", "F32", "[]", "[0,4]") "}", 4, 1);
    accepted("{" T("a", "F32", "[0,7]", "[0,0]") "," T("b", "U8", "[3]", "[0,3]") "}", 3, 2);
    accepted("{" T("a", "U8", "[3]", "[0,3]") "," T("b", "F16", "[0]", "[3,3]") "}", 3, 2);
    accepted("{" T("z", "BF16", "[2]", "[4,8]") "," T("y", "I32", "[1]", "[0,4]") "}", 8, 2);
    accepted("{" T("a", "U8", "[1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, 1);
}

static void file_and_header_sizes_are_checked(void **state) {
    (void)state;
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    uint8_t buf[64] = {0};
    for (int64_t n = 0; n < 8; n++) refused_bytes(buf, n, ESPL_FORMAT, "too few for a safetensors file");
    refused_bytes(buf, 8, ESPL_FORMAT, "not a JSON object");
    buf[0] = 3;
    refused_bytes(buf, 10, ESPL_FORMAT, "header of 3 bytes in a file of 10");
    memset(buf, 0xFF, 8);
    refused_bytes(buf, 64, ESPL_FORMAT, "header of 18446744073709551615 bytes, at most 100000000");
    memcpy(buf, "\x01\xE1\xF5\x05\0\0\0\0", 8); /* 100000001 */
    refused_bytes(buf, 64, ESPL_FORMAT, "at most 100000000");
    refused_bytes((const uint8_t *)lfs, sizeof lfs - 1, ESPL_FORMAT, "Git LFS pointer");
}

static void header_must_be_a_json_object(void **state) {
    (void)state;
    refused("[]", 0, "not a JSON object");
    refused(" {}", 0, "not a JSON object");
    refused("{\"a\":", 0, "header: not valid JSON");
    refused("{}x", 0, "unexpected text after the JSON value");
    refused("{\"\xFF\":1}", 0, "not UTF-8 text at byte 2");
    refused("{\"a\":1}", 0, "\"a\": its entry is not an object");
    refused("{\"__metadata__\":1}", 0, "__metadata__ is not an object");
    refused("{" T("", "U8", "[1]", "[0,1]") "}", 1, "empty tensor name");
    refused("{" T("a\\u001b[2J", "U8", "[1]", "[0,1]") "}", 1, "control characters");
    refused("{" T("a\\u0000b", "U8", "[1]", "[0,1]") "}", 1, "escaped NUL");
    uint8_t buf[32];
    int64_t n = build(buf, "{\"x\": 1}", 0);
    buf[10] = '\0';
    refused_bytes(buf, n, ESPL_FORMAT, "not UTF-8 text at byte 2");
}

static void header_nesting_is_bounded(void **state) {
    (void)state;
    static char deep[20000];
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "{\"a\":", 5);
    refused(deep, 0, "not valid JSON");
}

static void entries_need_three_known_members(void **state) {
    (void)state;
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no \"dtype\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no \"shape\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "no \"data_offsets\"");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, "unexpected key");
    refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "\"dtype\" twice");
    refused("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no dtype string");
    refused("{" T("a", "F31", "[1]", "[0,4]") "}", 4, "\"a\": unknown dtype \"F31\"");
    refused("{" T("a", "u8", "[1]", "[0,1]") "}", 1, "unknown dtype \"u8\"");
}

/* They stand in no one's way until a model needs the tensor. */
static void known_but_unused_dtypes_are_named(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int bits;
    } types[] = {{"F64", 64}, {"I8", 8},      {"I16", 16},    {"U16", 16}, {"U32", 32}, {"U64", 64},
                 {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"C64", 64}, {"F4", 4}};
    uint8_t buf[256];
    char header[128], text[64];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        int bytes = 2 * types[i].bits / 8;
        int64_t dims[1] = {2};
        espl_weights *w;
        const espl_tensor_info *t;
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,%d]}}",
                 types[i].name, bytes);
        int64_t n = build(buf, header, bytes);
        assert_int_equal(espl_weights_open_memory(buf, n, "w", &w), ESPL_OK);
        assert_string_equal(espl_weights_at(w, 0)->foreign, types[i].name);
        assert_int_equal(espl_weights_require(w, "a", 1, dims, &t), ESPL_UNSUPPORTED);
        snprintf(text, sizeof text, "\"a\": unsupported dtype %s", types[i].name);
        assert_non_null(strstr(espl_base_error_text(), text));
        espl_weights_close(&w);
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,%d]}}",
                 types[i].name, bytes + 1);
        refused_bytes(buf, build(buf, header, bytes + 1), ESPL_FORMAT, "its shape and dtype need");
    }
    refused("{" T("a", "F4", "[3]", "[0,2]") "}", 2, "ends within a byte");
}

static void names_get_a_prefix(void **state) {
    (void)state;
    uint8_t buf[256];
    espl_weights *w;
    int64_t n = build(buf, "{" T("b", "U8", "[1]", "[0,1]") "," T("head", "U8", "[1]", "[1,2]") "}", 2);
    assert_int_equal(espl_weights_open_memory(buf, n, "w", &w), ESPL_OK);
    assert_int_equal(espl_weights_add_prefix(w, "model.", "head"), ESPL_OK);
    assert_string_equal(espl_weights_at(w, 0)->name, "head"); /* sorted by the new names */
    assert_string_equal(espl_weights_at(w, 1)->name, "model.b");
    assert_int_equal(espl_weights_find(w, "model.b")->offset, n - 2);
    assert_int_equal(espl_weights_find(w, "head")->offset, n - 1);
    assert_null(espl_weights_find(w, "b"));
    espl_weights_close(&w);
}

static void shapes_are_checked(void **state) {
    (void)state;
    uint8_t buf[256];
    refused("{" T("a", "U8", "3", "[0,3]") "}", 3, "no shape array");
    refused("{" T("a", "U8", "[-1]", "[0,1]") "}", 1, "dimension 0 is not a whole number");
    refused("{" T("a", "U8", "[1,1.5]", "[0,1]") "}", 1, "dimension 1 is not a whole number");
    refused("{" T("a", "U8", "[\"1\"]", "[0,1]") "}", 1, "dimension 0");
    refused("{" T("a", "U8", "[1e300]", "[0,1]") "}", 1, "dimension 0");
    refused("{" T("a", "U8", "[1e999]", "[0,1]") "}", 1, "dimension 0");
    refused("{" T("a", "U8", "[9007199254740994]", "[0,1]") "}", 1, "dimension 0");
    refused("{" T("a", "U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "shape overflows");
    refused("{" T("a", "F32", "[4503599627370496,512]", "[0,0]") "}", 0, "shape overflows");
    int64_t n = build(buf, "{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1);
    refused_bytes(buf, n, ESPL_UNSUPPORTED, "more than 8 dimensions");
}

static void offsets_are_checked(void **state) {
    (void)state;
    refused("{" T("a", "U8", "[3]", "3") "}", 3, "data_offsets are not two whole numbers");
    refused("{" T("a", "U8", "[3]", "[0]") "}", 3, "data_offsets are not two whole numbers");
    refused("{" T("a", "U8", "[3]", "[0,3,4]") "}", 3, "data_offsets are not two whole numbers");
    refused("{" T("a", "U8", "[3]", "[-1,2]") "}", 3, "data_offsets are not two whole numbers");
    refused("{" T("a", "U8", "[3]", "[0.5,3.5]") "}", 3, "data_offsets are not two whole numbers");
    refused("{" T("a", "U8", "[3]", "[3,0]") "}", 3, "[3, 0] are reversed");
    refused("{" T("a", "U8", "[4]", "[0,4]") "}", 3, "[0, 4] lie outside the 3 data bytes of the file (cut off?)");
    refused("{" T("a", "U8", "[1]", "[9007199254740991,9007199254740992]") "}", 3, "lie outside");
    refused("{" T("a", "F32", "[2]", "[0,4]") "}", 4, "4 data bytes, its shape and dtype need 8");
}

static void data_is_covered_exactly_once(void **state) {
    (void)state;
    refused("{" T("a", "U8", "[2]", "[1,3]") "}", 3, "gap of 1 bytes before tensor \"a\"");
    refused("{" T("a", "U8", "[1]", "[0,1]") "," T("b", "U8", "[1]", "[2,3]") "}", 3,
            "gap of 1 bytes before tensor \"b\"");
    refused("{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3, "\"a\" and \"b\" overlap");
    refused("{" T("a", "U8", "[3]", "[0,3]") "," T("b", "U8", "[0]", "[1,1]") "}", 3, "overlap");
    refused("{" T("a", "U8", "[3]", "[0,3]") "," T("b", "U8", "[3]", "[0,3]") "}", 3, "overlap");
    refused("{" T("a", "U8", "[2]", "[0,2]") "}", 3, "the last 1 bytes belong to no tensor");
    refused("{}", 1, "the last 1 bytes");
    refused("{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[1,2]") "}", 2, "tensor \"a\" twice");
}

static const char *path_of(const char *name) {
    static char path[4096];
    const char *root = getenv("ESPL_TEST_ROOT");
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/unit/weights/%s", root, name);
    return path;
}

static void the_reference_file_is_read(void **state) {
    (void)state;
    espl_weights *w;
    const espl_tensor_info *t;
    float f[6];
    if (espl_weights_open_file(path_of("golden.safetensors"), &w) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    assert_int_equal(espl_weights_count(w), 9);
    assert_int_equal(espl_weights_bytes(w), 24 + 8 + 6 + 16 + 12 + 3 + 4 + 0 + 2);
    for (int64_t i = 1; i < 9; i++)
        assert_true(strcmp(espl_weights_at(w, i - 1)->name, espl_weights_at(w, i)->name) < 0);
    assert_non_null(t = espl_weights_find(w, "b.f32"));
    assert_true(t->dtype == ESPL_DTYPE_F32 && t->n_dims == 2 && t->dims[0] == 2 && t->dims[1] == 3 && t->count == 6);
    espl_tensor_widen(t->data, t->dtype, t->count, f);
    assert_true(f[0] == 1.0f && f[1] == -2.5f && f[5] == -1e6f);
    assert_non_null(t = espl_weights_find(w, "a.bf16"));
    espl_tensor_widen(t->data, t->dtype, t->count, f);
    assert_true(f[0] == 1.0f && f[1] == -2.0f && f[2] == 0.5f && f[3] == 3.140625f);
    assert_non_null(t = espl_weights_find(w, "c.f16"));
    espl_tensor_widen(t->data, t->dtype, t->count, f);
    assert_true(f[0] == 0.5f && f[1] == 65504.0f);
    assert_non_null(t = espl_weights_find(w, "g.scalar"));
    assert_true(t->n_dims == 0 && t->count == 1 && t->bytes == 4);
    assert_non_null(t = espl_weights_find(w, "h.empty"));
    assert_true(t->count == 0 && t->bytes == 0);
    assert_non_null(espl_weights_find(w, "i \"quoted\" \xC3\xA9"));
    assert_null(espl_weights_find(w, "b.f3"));
    assert_null(espl_weights_find(w, ""));
    espl_weights_close(&w);
}

static void require_says_what_it_found(void **state) {
    (void)state;
    espl_weights *w;
    const espl_tensor_info *t;
    assert_int_equal(espl_weights_open_file(path_of("golden.safetensors"), &w), ESPL_OK);
    assert_int_equal(espl_weights_require(w, "b.f32", 2, (int64_t[]){2, 3}, &t), ESPL_OK);
    assert_ptr_equal(t, espl_weights_find(w, "b.f32"));
    assert_int_equal(espl_weights_require(w, "b.f32", 2, (int64_t[]){3, 2}, &t), ESPL_FORMAT);
    assert_null(t);
    assert_non_null(strstr(espl_base_error_text(), "tensor \"b.f32\" has shape [2, 3], expected [3, 2]"));
    assert_int_equal(espl_weights_require(w, "b.f32", 1, (int64_t[]){6}, &t), ESPL_FORMAT);
    assert_non_null(strstr(espl_base_error_text(), "expected [6]"));
    assert_int_equal(espl_weights_require(w, "d.i64", 1, (int64_t[]){2}, &t), ESPL_FORMAT);
    assert_non_null(strstr(espl_base_error_text(), "has dtype I64, expected F32, F16 or BF16"));
    assert_int_equal(espl_weights_require(w, "nope", 1, (int64_t[]){2}, &t), ESPL_FORMAT);
    assert_non_null(strstr(espl_base_error_text(), "golden.safetensors: there is no tensor \"nope\""));
    assert_int_equal(espl_weights_require(w, "g.scalar", 0, NULL, &t), ESPL_OK);
    espl_weights_close(&w);
}

static void every_cut_of_the_reference_file_is_noticed(void **state) {
    (void)state;
    char *bytes;
    int64_t len;
    espl_weights *w;
    uint8_t *copy;
    assert_int_equal(espl_file_read(path_of("golden.safetensors"), 1 << 20, &bytes, &len), ESPL_OK);
    for (int64_t n = 0; n < len; n++) {
        assert_int_equal(open_bytes((const uint8_t *)bytes, n, &w, &copy), ESPL_FORMAT);
        free(copy);
    }
    espl_mem_free(&bytes);
}

/* ------------------------------------------------------------- directories */

static char dir[] = "/tmp/espl-weights-XXXXXX";

static int make_dir(void **state) {
    (void)state;
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    return mkdtemp(dir) ? 0 : -1;
}

static const char *in_dir(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int remove_dir(void **state) {
    (void)state;
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "1.st", "2.st", "big"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_dir(names[i]));
    return rmdir(dir);
}

static void put_file(const char *name, const void *bytes, int64_t len) {
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, (size_t)len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void put_shard(const char *name, const char *header, int64_t data_bytes) {
    static uint8_t buf[BUFFER];
    put_file(name, buf, build(buf, header, data_bytes));
}

static void put_index(const char *text) { put_file("model.safetensors.index.json", text, (int64_t)strlen(text)); }

static void dir_refused(espl_status want, const char *text) {
    espl_weights *w;
    int64_t before = espl_mem_balance();
    espl_status st = espl_weights_open(dir, &w);
    if (st != want || !strstr(espl_base_error_text(), text))
        fail_msg("got %s \"%s\", want %s \"%s\"", espl_status_name(st), espl_base_error_text(), espl_status_name(want),
                 text);
    assert_null(w);
    assert_int_equal(espl_mem_balance(), before);
}

static void missing_files_are_io_errors(void **state) {
    (void)state;
    espl_weights *w;
    dir_refused(ESPL_IO, "holds neither model.safetensors nor model.safetensors.index.json");
    assert_int_equal(espl_weights_open("/nonexistent/model", &w), ESPL_IO);
    assert_non_null(strstr(espl_base_error_text(), "/nonexistent/model"));
    assert_int_equal(espl_weights_open_file("/nonexistent/model", &w), ESPL_IO);
    assert_null(w);
    put_file("model.safetensors", "", 0);
    dir_refused(ESPL_FORMAT, "model.safetensors: 0 bytes are too few");
}

static void a_single_file_is_preferred_to_an_index(void **state) {
    (void)state;
    espl_weights *w;
    put_index("not JSON");
    put_shard("model.safetensors", "{" T("a", "U8", "[1]", "[0,1]") "}", 1);
    assert_int_equal(espl_weights_open(dir, &w), ESPL_OK);
    assert_int_equal(espl_weights_count(w), 1);
    espl_weights_close(&w);
}

static void a_sharded_model_is_one_set(void **state) {
    (void)state;
    espl_weights *w;
    const espl_tensor_info *t;
    if (espl_weights_open(path_of("golden_sharded"), &w) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    assert_int_equal(espl_weights_count(w), 3);
    assert_int_equal(espl_weights_bytes(w), 16 + 24 + 6);
    assert_string_equal(espl_weights_at(w, 1)->name, "y");
    assert_non_null(strstr(espl_weights_at(w, 1)->file, "model-00002-of-00002.safetensors"));
    assert_int_equal(espl_weights_require(w, "z", 2, (int64_t[]){2, 3}, &t), ESPL_OK);
    assert_non_null(strstr(t->file, "model-00001-of-00002.safetensors"));
    assert_int_equal(espl_weights_require(w, "q", 1, (int64_t[]){1}, &t), ESPL_FORMAT);
    espl_weights_close(&w);
}

static void index_and_shards_must_agree(void **state) {
    (void)state;
    espl_weights *w;
    put_shard("1.st", "{" T("a", "U8", "[1]", "[0,1]") "}", 1);
    put_shard("2.st", "{" T("b", "U8", "[1]", "[0,1]") "}", 1);
    put_index("{\"weight_map\":{\"a\":\"1.st\",\"b\":\"2.st\"}}");
    assert_int_equal(espl_weights_open(dir, &w), ESPL_OK);
    espl_weights_close(&w);
    put_index("{\"weight_map\":{\"a\":\"1.st\",\"b\":\"2.st\",\"c\":\"2.st\"}}");
    dir_refused(ESPL_FORMAT, "tensor \"c\" is not in shard 2.st");
    put_index("{\"weight_map\":{\"a\":\"2.st\",\"b\":\"1.st\"}}");
    dir_refused(ESPL_FORMAT, "tensor \"a\" is listed in shard 2.st but lies in 1.st");
    put_index("{\"weight_map\":{\"a\":\"1.st\",\"b\":\"3.st\"}}");
    dir_refused(ESPL_IO, "3.st: cannot be opened");
    put_index("{\"weight_map\":{\"a\":\"1.st\",\"a\":\"2.st\",\"b\":\"2.st\"}}");
    dir_refused(ESPL_FORMAT, "tensor \"a\" is listed twice");
    put_shard("2.st", "{" T("b", "U8", "[1]", "[0,1]") "," T("x", "U8", "[1]", "[1,2]") "}", 2);
    put_index("{\"weight_map\":{\"a\":\"1.st\",\"b\":\"2.st\"}}");
    dir_refused(ESPL_FORMAT, "tensor \"x\" of shard 2.st is not listed");
    put_shard("2.st", "{" T("b", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[1,2]") "}", 2);
    dir_refused(ESPL_FORMAT, "tensor \"a\" is both in");
    put_shard("2.st", "{" T("b", "U8", "[2]", "[0,2]") "}", 1);
    dir_refused(ESPL_FORMAT, "2.st: tensor \"b\": data_offsets [0, 2] lie outside");
}

static void a_malformed_index_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"../x.st", "/etc/x.st", "a/b.st", "", ".", "..", "x\\\\y", "x\\ny"};
    char text[128];
    put_index("{");
    dir_refused(ESPL_FORMAT, "index.json: not valid JSON");
    put_index("[1]");
    dir_refused(ESPL_FORMAT, "no \"weight_map\" object");
    put_index("{\"weight_map\":[]}");
    dir_refused(ESPL_FORMAT, "no \"weight_map\" object");
    put_index("{\"weight_map\":{}}");
    dir_refused(ESPL_FORMAT, "\"weight_map\" is empty");
    put_index("{\"weight_map\":{\"a\":1}}");
    dir_refused(ESPL_FORMAT, "shard of tensor \"a\" is not a plain file name");
    put_index("{\"weight_map\":{\"a\\u0007\":\"1.st\"}}");
    dir_refused(ESPL_FORMAT, "control characters");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", bad[i]);
        put_index(text);
        dir_refused(ESPL_FORMAT, "is not a plain file name");
    }
}

/* Whether a line of smaps begins the mapping that holds p: "lo-hi perms ...". */
static bool begins_mapping_of(const char *line, const void *p, bool inside) {
    char *end;
    uintptr_t lo = (uintptr_t)strtoull(line, &end, 16), hi;
    if (end == line || *end != '-') return inside;
    hi = (uintptr_t)strtoull(end + 1, &end, 16);
    return lo <= (uintptr_t)p && (uintptr_t)p < hi;
}

/* Resident bytes of the mapping that holds p, -1 if unknown. */
static int64_t resident_bytes(const void *p) {
    char line[512];
    bool inside = false;
    int64_t kb = -1;
    FILE *f = fopen("/proc/self/smaps", "r");
    if (!f) return -1;
    while (kb < 0 && fgets(line, sizeof line, f)) {
        inside = begins_mapping_of(line, p, inside);
        if (inside && strncmp(line, "Rss:", 4) == 0) kb = strtoll(line + 4, NULL, 10);
    }
    fclose(f);
    return kb < 0 ? -1 : kb * 1024;
}

static void opening_does_not_touch_the_data(void **state) {
    (void)state;
    enum { DATA = 64 << 20 };
    espl_weights *w;
    put_shard("big", "{" T("a", "U8", "[67108864]", "[0,67108864]") "}", 0);
    struct stat sb;
    assert_int_equal(stat(in_dir("big"), &sb), 0);
    assert_int_equal(truncate(in_dir("big"), sb.st_size + DATA), 0);
    assert_int_equal(espl_weights_open_file(in_dir("big"), &w), ESPL_OK);
    assert_in_range(resident_bytes(espl_weights_find(w, "a")->data), 0, 1 << 20);
    espl_weights_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wellformed_headers_are_accepted),
        cmocka_unit_test(file_and_header_sizes_are_checked),
        cmocka_unit_test(header_must_be_a_json_object),
        cmocka_unit_test(header_nesting_is_bounded),
        cmocka_unit_test(entries_need_three_known_members),
        cmocka_unit_test(known_but_unused_dtypes_are_named),
        cmocka_unit_test(names_get_a_prefix),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(offsets_are_checked),
        cmocka_unit_test(data_is_covered_exactly_once),
        cmocka_unit_test(the_reference_file_is_read),
        cmocka_unit_test(require_says_what_it_found),
        cmocka_unit_test(every_cut_of_the_reference_file_is_noticed),
        cmocka_unit_test_setup_teardown(missing_files_are_io_errors, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_single_file_is_preferred_to_an_index, make_dir, remove_dir),
        cmocka_unit_test(a_sharded_model_is_one_set),
        cmocka_unit_test_setup_teardown(index_and_shards_must_agree, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_malformed_index_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(opening_does_not_touch_the_data, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
