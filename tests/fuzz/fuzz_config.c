/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: model */
/* config.json as hostile input: any bytes are parsed or refused. */
#include "espalier/model/config.h"
#include "espalier/model/model.h"
#include "espalier/model/shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    espl_model_config c;
    if (espl_model_config_parse((const char *)data, (int64_t)size, "config.json", &c) != ESPL_OK) return 0;
    espl_range slice = {0, c.layers};
    espl_model_options o = {.context = 16, .batch_tokens = 8, .slots = 1};
    espl_model_memory m = espl_model_memory_of(&c, &o, slice, 1, 2);
    if (m.weights < 0 || espl_model_layer_flops(&c, c.layers - 1, 16) < 0) __builtin_trap();
    espl_model_config_free(&c);
    return 0;
}
