/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors writer: byte-identical to the reference implementation, safe when the disk is not. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "espalier/base.h"
#include "espalier/weights/writer.h"

static char dir[] = "/tmp/espl-writer-XXXXXX";
static char path[128], part[128];

static int make_dir(void **state) {
    (void)state;
    memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    snprintf(part, sizeof part, "%s/model.safetensors.part", dir);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    unlink(path);
    unlink(part);
    return rmdir(dir);
}

static bool text_has(const char *s) { return strstr(espl_base_error_text(), s) != NULL; }

/* The tensors of the reference file, planned in name order. */
static void specs_of(const espl_weights *r, espl_tensor_spec *specs) {
    for (int64_t i = 0; i < espl_weights_count(r); i++) {
        const espl_tensor_info *t = espl_weights_at(r, i);
        specs[i] = (espl_tensor_spec){.name = t->name, .dtype = t->dtype, .n_dims = t->n_dims};
        memcpy(specs[i].dims, t->dims, sizeof t->dims);
    }
}

static void same_bytes(const char *a, const char *b) {
    char *x, *y;
    int64_t n, m;
    assert_int_equal(espl_file_read(a, 1 << 20, &x, &n), ESPL_OK);
    assert_int_equal(espl_file_read(b, 1 << 20, &y, &m), ESPL_OK);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, (size_t)n);
    espl_mem_free(&x);
    espl_mem_free(&y);
}

static void output_equals_the_reference_implementation(void **state) {
    (void)state;
    char golden[4096];
    espl_weights *r;
    espl_weights_writer *w;
    espl_tensor_spec specs[16];
    snprintf(golden, sizeof golden, "%s/unit/weights/golden.safetensors", getenv("ESPL_TEST_ROOT"));
    assert_int_equal(espl_weights_open_file(golden, &r), ESPL_OK);
    specs_of(r, specs);
    assert_int_equal(espl_weights_writer_create(path, specs, espl_weights_count(r), &w), ESPL_OK);
    assert_int_equal(espl_weights_writer_start(w), ESPL_OK);
    for (int64_t i = espl_weights_count(r) - 1; i >= 0; i--) {
        const espl_tensor_info *t = espl_weights_at(r, i);
        assert_int_equal(espl_weights_writer_tensor_bytes(w, i), t->bytes);
        int64_t half = t->bytes / 2;
        assert_int_equal(espl_weights_writer_put(w, i, half, (const char *)t->data + half, t->bytes - half), ESPL_OK);
        assert_int_equal(espl_weights_writer_put(w, i, 0, t->data, half), ESPL_OK);
    }
    assert_false(espl_file_exists(path));
    assert_int_equal(espl_weights_writer_finish(w), ESPL_OK);
    assert_false(espl_file_exists(part));
    espl_weights_writer_destroy(&w);
    espl_weights_close(&r);
    same_bytes(path, golden);
}

static const espl_tensor_spec two[] = {{.name = "a", .dtype = ESPL_DTYPE_U8, .n_dims = 1, .dims = {4}},
                                       {.name = "b", .dtype = ESPL_DTYPE_F32, .n_dims = 2, .dims = {2, 2}}};

static void child_writes(int64_t i, int64_t at, const char *bytes, int64_t n) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        espl_weights_writer *w;
        bool ok = espl_weights_writer_create(path, two, 2, &w) == ESPL_OK &&
                  espl_weights_writer_put(w, i, at, bytes, n) == ESPL_OK && espl_weights_writer_flush(w) == ESPL_OK;
        espl_weights_writer_destroy(&w);
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void processes_fill_one_file(void **state) {
    (void)state;
    espl_weights_writer *w;
    espl_weights *r;
    assert_int_equal(espl_weights_writer_create(path, two, 2, &w), ESPL_OK);
    assert_int_equal(espl_weights_writer_start(w), ESPL_OK);
    child_writes(0, 0, "wxyz", 4);
    child_writes(1, 8, "ijklmnop", 8);
    assert_int_equal(espl_weights_writer_put(w, 1, 0, "abcdefgh", 8), ESPL_OK);
    assert_int_equal(espl_weights_writer_finish(w), ESPL_OK);
    espl_weights_writer_destroy(&w);
    assert_int_equal(espl_weights_open_file(path, &r), ESPL_OK); /* so the file is as long as its header says */
    assert_memory_equal(espl_weights_find(r, "a")->data, "wxyz", 4);
    assert_memory_equal(espl_weights_find(r, "b")->data, "abcdefghijklmnop", 16);
    espl_weights_close(&r);
}

static void plan_refused(const espl_tensor_spec *specs, int64_t n, const char *text) {
    espl_weights_writer *w;
    int64_t before = espl_mem_balance();
    assert_int_equal(espl_weights_writer_create("m.st", specs, n, &w), ESPL_INTERNAL);
    assert_null(w);
    if (!text_has(text)) fail_msg("%s", espl_base_error_text());
    assert_int_equal(espl_mem_balance(), before);
}

static void impossible_plans_are_refused(void **state) {
    (void)state;
    plan_refused((espl_tensor_spec[]){{.name = "a"}, {.name = "a", .dtype = ESPL_DTYPE_U8}}, 2, "\"a\" planned twice");
    plan_refused(&(espl_tensor_spec){.name = ""}, 1, "no usable name");
    plan_refused(&(espl_tensor_spec){.name = "__metadata__"}, 1, "no usable name");
    plan_refused(&(espl_tensor_spec){.name = "\xFF"}, 1, "no usable name");
    plan_refused(&(espl_tensor_spec){.name = "a", .n_dims = 1, .dims = {-1}}, 1, "impossible shape");
    plan_refused(&(espl_tensor_spec){.name = "a", .n_dims = 9}, 1, "impossible shape");
    plan_refused(&(espl_tensor_spec){.name = "a", .n_dims = 2, .dims = {INT64_MAX, 2}}, 1, "impossible shape");
    plan_refused(
        (espl_tensor_spec[]){{.name = "a", .dtype = ESPL_DTYPE_U8, .n_dims = 1, .dims = {INT64_MAX}}, {.name = "b"}}, 2,
        "too large");
}

static void an_empty_plan_is_a_valid_file(void **state) {
    (void)state;
    espl_weights_writer *w;
    espl_weights *r;
    assert_int_equal(espl_weights_writer_create(path, NULL, 0, &w), ESPL_OK);
    assert_int_equal(espl_weights_writer_start(w), ESPL_OK);
    assert_int_equal(espl_weights_writer_finish(w), ESPL_OK);
    espl_weights_writer_destroy(&w);
    assert_int_equal(espl_weights_open(dir, &r), ESPL_OK);
    assert_int_equal(espl_weights_count(r), 0);
    espl_weights_close(&r);
}

static void a_shard_is_laid_out_as_its_source(void **state) {
    (void)state;
    char golden[4096];
    espl_weights *r;
    espl_weights_writer *w;
    snprintf(golden, sizeof golden, "%s/unit/weights/golden_sharded", getenv("ESPL_TEST_ROOT"));
    assert_int_equal(espl_weights_open(golden, &r), ESPL_OK);
    assert_int_equal(espl_weights_shards(r), 2);
    for (int64_t s = 0; s < 2; s++) {
        int64_t elsewhere = 0;
        assert_int_equal(espl_weights_writer_create_like(path, r, s, &w), ESPL_OK);
        assert_int_equal(espl_weights_writer_start(w), ESPL_OK);
        for (int64_t i = 0; i < espl_weights_count(r); i++) {
            const espl_tensor_info *t = espl_weights_at(r, i);
            bool here = strcmp(t->file, espl_weights_shard_path(r, s)) == 0;
            assert_int_equal(espl_weights_writer_tensor_bytes(w, i), here ? t->bytes : 0);
            assert_int_equal(espl_weights_writer_put(w, i, 0, t->data, t->bytes), here ? ESPL_OK : ESPL_INTERNAL);
            elsewhere += !here;
        }
        assert_in_range(elsewhere, 1, espl_weights_count(r) - 1);
        assert_int_equal(espl_weights_writer_finish(w), ESPL_OK);
        same_bytes(path, espl_weights_shard_path(r, s));
        espl_weights_writer_destroy(&w);
    }
    espl_weights_close(&r);
}

static void ranges_outside_a_tensor_are_refused(void **state) {
    (void)state;
    static const int64_t bad[][3] = {{0, 0, 5}, {0, 4, 1},  {0, 5, 0},         {0, -1, 2},       {0, 0, -1},
                                     {2, 0, 0}, {-1, 0, 0}, {1, INT64_MAX, 1}, {1, 1, INT64_MAX}};
    espl_weights_writer *w;
    assert_int_equal(espl_weights_writer_create(path, two, 2, &w), ESPL_OK);
    assert_int_equal(espl_weights_writer_start(w), ESPL_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(espl_weights_writer_put(w, bad[i][0], bad[i][1], "", bad[i][2]), ESPL_INTERNAL);
    espl_weights_writer_destroy(&w);
    assert_false(espl_file_exists(part)); /* an abandoned start leaves nothing behind */
}

static void io_errors_name_the_file(void **state) {
    (void)state;
    espl_weights_writer *w;
    assert_int_equal(espl_weights_writer_create("/nonexistent/x", two, 2, &w), ESPL_OK);
    assert_int_equal(espl_weights_writer_start(w), ESPL_IO);
    assert_true(text_has("/nonexistent/x.part: cannot be created"));
    assert_int_equal(espl_weights_writer_put(w, 0, 0, "x", 1), ESPL_IO);
    assert_true(text_has("/nonexistent/x.part: cannot be opened"));
    assert_int_equal(espl_weights_writer_finish(w), ESPL_IO);
    assert_true(text_has("/nonexistent/x.part: cannot be renamed"));
    espl_weights_writer_destroy(&w);
}

static void a_full_disk_is_an_io_error(void **state) {
    (void)state;
    espl_weights_writer *w;
    assert_int_equal(espl_weights_writer_create(path, two, 2, &w), ESPL_OK);
    assert_int_equal(symlink("/dev/full", part), 0);
    assert_int_equal(espl_weights_writer_put(w, 0, 0, "wxyz", 4), ESPL_IO);
    assert_true(text_has("model.safetensors.part: cannot be written: No space left on device"));
    espl_weights_writer_destroy(&w);
}

static void a_planted_link_is_not_written_through(void **state) {
    (void)state;
    espl_weights_writer *w;
    assert_int_equal(symlink("/dev/full", part), 0); /* whatever is written there fails */
    assert_int_equal(espl_weights_writer_create(path, two, 2, &w), ESPL_OK);
    assert_int_equal(espl_weights_writer_start(w), ESPL_OK);
    espl_weights_writer_destroy(&w);
}

static void a_file_size_limit_is_seen_at_the_start(void **state) {
    (void)state;
    struct rlimit old, low;
    espl_weights_writer *w;
    espl_tensor_spec big = {.name = "a", .dtype = ESPL_DTYPE_U8, .n_dims = 1, .dims = {1 << 20}};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){.rlim_cur = 1 << 16, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_int_equal(espl_weights_writer_create(path, &big, 1, &w), ESPL_OK);
    espl_status st = espl_weights_writer_start(w);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(st, ESPL_IO);
    assert_true(text_has("model.safetensors.part: cannot be given its full size: File too large"));
    espl_weights_writer_destroy(&w);
    assert_false(espl_file_exists(part));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(output_equals_the_reference_implementation, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(processes_fill_one_file, make_dir, remove_dir),
        cmocka_unit_test(impossible_plans_are_refused),
        cmocka_unit_test_setup_teardown(an_empty_plan_is_a_valid_file, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_shard_is_laid_out_as_its_source, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(ranges_outside_a_tensor_are_refused, make_dir, remove_dir),
        cmocka_unit_test(io_errors_name_the_file),
        cmocka_unit_test_setup_teardown(a_full_disk_is_an_io_error, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_planted_link_is_not_written_through, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_file_size_limit_is_seen_at_the_start, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
