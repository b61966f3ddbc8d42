/* SPDX-License-Identifier: Apache-2.0 */
/* Identities of models: what differs is named, and what an older version did not store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/base.h"
#include "espalier/run/model_identity.h"

/* Compares two identities and expects these two lists. */
static void expect(const char *now, const char *then, const char *different, const char *missing) {
    espl_str a = {0}, b = {0}, d = {0}, m = {0};
    espl_str_puts(&a, now);
    espl_str_puts(&b, then);
    if (espl_model_identity_compare(&a, &b, "file", &d, &m) != ESPL_OK) fail_msg("%s", espl_base_error_text());
    assert_string_equal(d.data ? d.data : "", different);
    assert_string_equal(m.data ? m.data : "", missing);
    espl_str_free(&a);
    espl_str_free(&b);
    espl_str_free(&d);
    espl_str_free(&m);
}

static void differences_are_named(void **state) {
    (void)state;
    const char *now = "{\"rope_theta\":10000,\"weights\":\"12\",\"norms\":\"34\",\"tied\":true}";
    expect(now, now, "", "");
    expect(now, "{\"rope_theta\":500000,\"weights\":\"12\",\"norms\":\"35\",\"tied\":false,\"more\":1}",
           "rope_theta (500000 there, 10000 now), norms, tied", "");
    expect(now, "{\"rope_theta\":\"x\",\"weights\":\"12\",\"norms\":null,\"tied\":true}", "rope_theta, norms", "");
}

static void an_older_identity_is_compared_where_it_can_be(void **state) {
    (void)state;
    const char *now = "{\"layers\":3,\"weights\":\"12\",\"norms\":\"34\",\"tied\":true}";
    expect(now, "{\"layers\":3,\"weights\":\"12\"}", "", "norms, tied");
    expect(now, "{\"layers\":3,\"weights\":\"13\"}", "weights", "norms, tied");
}

static void what_is_no_identity_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "3", "{}", "{\"weights\":3}", "{\"norms\":\"34\"}"};
    espl_str now = {0}, d = {0}, m = {0};
    espl_str_puts(&now, "{\"weights\":\"12\",\"norms\":\"34\"}");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        espl_str then = {0};
        espl_str_puts(&then, texts[i]);
        assert_int_equal(espl_model_identity_compare(&now, &then, "file", &d, &m), ESPL_FORMAT);
        assert_non_null(strstr(espl_base_error_text(), "file"));
        espl_str_free(&then);
    }
    espl_str_free(&now);
    espl_str_free(&d);
    espl_str_free(&m);
}

static int64_t balance;
static int remember_balance(void **state) {
    (void)state;
    balance = espl_mem_balance();
    return 0;
}
static int no_leaks(void **state) {
    (void)state;
    return espl_mem_balance() == balance ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_are_named),
        cmocka_unit_test(an_older_identity_is_compared_where_it_can_be),
        cmocka_unit_test(what_is_no_identity_is_refused),
    };
    return cmocka_run_group_tests(tests, remember_balance, no_leaks);
}
