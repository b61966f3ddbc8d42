/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: sweep */
/* SWEEP.json as hostile input: any bytes are expanded or refused; what is expanded has configurations and names that
 * are safe as directories. */
#include "espalier/config/config.h"
#include "espalier/sweep.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_run(const espl_sweep *s, int64_t run) {
    espl_config o;
    const char *name = espl_sweep_name(s, run);
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > 200) __builtin_trap();
    if (espl_config_init(&o) != ESPL_OK) return;
    /* a file that is named is not there, or is no configuration; nothing else may fail */
    espl_status st = espl_sweep_config(s, run, &o);
    if (st != ESPL_OK && st != ESPL_IO && st != ESPL_CONFIG) __builtin_trap();
    espl_config_free(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    espl_sweep *s;
    if (espl_sweep_parse((const char *)data, (int64_t)size, "s.json", &s) != ESPL_OK) return 0;
    for (int64_t run = 0; run < espl_sweep_count(s) && run < 32; run++) check_run(s, run);
    espl_sweep_free(&s);
    return 0;
}
