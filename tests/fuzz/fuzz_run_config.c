/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: config */
/* A configuration as hostile input: the first byte picks a file (f) or an assignment of --set (s). What is accepted
 * must print as a text that reads back as itself, with and without comments. */
#include <stdlib.h>
#include <string.h>

#include "espalier/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) abort();                                                                                     \
    } while (0)

static espl_status take(const char *data, int64_t len, espl_config *o) {
    if (len > 0 && data[0] == 'f') return espl_config_parse(data + 1, len - 1, "c.json", o);
    if (len == 0 || data[0] != 's') return ESPL_CONFIG;
    espl_str s = {0};
    espl_str_put(&s, data + 1, len - 1);
    espl_status st = espl_config_set(s.data, o);
    espl_str_free(&s);
    return st;
}

static void read_back(const espl_config *o, bool comments) {
    espl_str text = {0}, again = {0};
    espl_config other;
    REQUIRE(espl_config_print(o, comments ? ESPL_CONFIG_COMMENTED : ESPL_CONFIG_PLAIN, &text) == ESPL_OK);
    REQUIRE(espl_config_init(&other) == ESPL_OK);
    REQUIRE(espl_config_parse(text.data, text.len, "again", &other) == ESPL_OK);
    REQUIRE(espl_config_print(&other, comments ? ESPL_CONFIG_COMMENTED : ESPL_CONFIG_PLAIN, &again) == ESPL_OK);
    REQUIRE(strcmp(text.data, again.data) == 0);
    espl_config_free(&other);
    espl_str_free(&text);
    espl_str_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    espl_config o;
    REQUIRE(espl_config_init(&o) == ESPL_OK);
    espl_base_error_clear();
    espl_status st = take((const char *)data, (int64_t)size, &o);
    REQUIRE(st == ESPL_OK || st == ESPL_CONFIG);
    if (st == ESPL_OK) {
        read_back(&o, false);
        read_back(&o, true);
        espl_status checked = espl_config_check(&o);
        REQUIRE(checked == ESPL_OK || checked == ESPL_CONFIG);
    }
    espl_config_free(&o);
    return 0;
}
