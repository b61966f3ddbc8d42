/* SPDX-License-Identifier: Apache-2.0 */
/* Speeds between measured numbers of threads, and the file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "espalier/schedule/machine.h"

static char path[] = "/tmp/espalier-machine-XXXXXX";

static void assert_near(double value, double expected) {
    assert_true(fabs(value - expected) < 1e-6 * (1 + fabs(expected)));
}

static void test_flops(void **state) {
    (void)state;
    espl_machine m = espl_machine_unknown();
    assert_near(espl_machine_flops(&m, 4), 0);
    m.n = 3;
    m.speeds[0] = (espl_machine_speed){2, 10};
    m.speeds[1] = (espl_machine_speed){4, 18};
    m.speeds[2] = (espl_machine_speed){16, 40};
    assert_near(espl_machine_flops(&m, 1), 5);
    assert_near(espl_machine_flops(&m, 2), 10);
    assert_near(espl_machine_flops(&m, 4), 18);
    assert_near(espl_machine_flops(&m, 8), sqrt(18.0 * 40.0)); /* half-way between 4 and 16 in log */
    assert_near(espl_machine_flops(&m, 32), 80);
    assert_near(espl_machine_transfer(&m, 1e9), 5e-6 + 1e9 / 5e9);
}

static void test_file(void **state) {
    (void)state;
    espl_machine m = {.n = 2, .cores = 64, .domains = 8, .latency = 3e-6, .bandwidth = 12.5e9, .disk = 2e9}, back;
    m.speeds[0] = (espl_machine_speed){1, 81.25e9};
    m.speeds[1] = (espl_machine_speed){64, 3000e9};
    assert_int_equal(espl_machine_write(&m, path), ESPL_OK);
    assert_int_equal(espl_machine_read(path, &back), ESPL_OK);
    assert_int_equal(back.n, 2);
    assert_int_equal(back.cores, 64);
    assert_int_equal(back.domains, 8);
    assert_near(back.latency * 1e6, 3);
    assert_near(back.bandwidth, 12.5e9);
    assert_near(back.disk, 2e9);
    assert_near(back.speeds[0].flops, 81.25e9);
    assert_int_equal(back.speeds[1].threads, 64);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } files[] = {
        {"[]", "format"},
        {"{\"format\": \"espalier-machine-2\"}", "espalier-machine-1"},
        {"{\"format\": \"espalier-machine-1\"}", "speeds"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": []}", "speeds"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": [{\"threads\": 0, \"gflops\": 1}]}", "threads"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": [{\"threads\": 1}]}", "gflops"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": [3]}", "speeds[0]"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": [{\"threads\": 2, \"gflops\": 1}, {\"threads\": 2, "
         "\"gflops\": 1}]}",
         "must grow"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": [{\"threads\": 1, \"gflops\": 1}], \"bandwidth_gb_s\": 0}",
         "bandwidth_gb_s"},
        {"{\"format\": \"espalier-machine-1\", \"speeds\": [{\"threads\": 1, \"gflops\": 1}], \"cores\": 64, "
         "\"domains\": 0}",
         "domains"},
    };
    espl_machine m;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(espl_file_replace(path, files[i].text, (int64_t)strlen(files[i].text)), ESPL_OK);
        assert_int_equal(espl_machine_read(path, &m), ESPL_FORMAT);
        assert_non_null(strstr(espl_base_error_text(), path));
        assert_non_null(strstr(espl_base_error_text(), files[i].words));
    }
    assert_int_equal(espl_machine_read("/nowhere/machine.json", &m), ESPL_IO);
}

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flops), cmocka_unit_test(test_file),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
