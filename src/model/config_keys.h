/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: which fields config.json may have. All functions are Local. */
#ifndef ESPL_MODEL_CONFIG_KEYS_H
#define ESPL_MODEL_CONFIG_KEYS_H

#include <cjson/cJSON.h>

#include "espalier/model/config.h"

#define COUNT_OF(list) (sizeof(list) / sizeof *(list))

/* Refuses fields that are unknown or not supported, and those that occur twice; notes what is passed over. */
espl_status espl_config_check_keys(const cJSON *doc, const char *name, espl_model_config *c);
/* Refuses field v of doc if its key occurs before: cJSON would take the first value, Python the last. */
espl_status espl_config_check_once(const cJSON *doc, const cJSON *v, const char *name);
bool espl_config_key_in(const char *key, const char *const *list, size_t n);
/* A value that means the same as a missing field. */
bool espl_config_is_off(const cJSON *v);
/* Adds a line to the notes. */
void espl_config_note(espl_model_config *c, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
