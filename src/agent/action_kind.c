/* SPDX-License-Identifier: Apache-2.0 */
/* Names of actions, generated from ESPL_ACTION_LIST. */
#include "action_kind.h"

#include <string.h>

static const struct {
    const char *name, *meaning;
} actions[] = {
#define X(name, text, meaning) {text, meaning},
    ESPL_ACTION_LIST(X)
#undef X
};

const char *espl_action_name(espl_action_kind kind) { return actions[kind].name; }
const char *espl_action_meaning(espl_action_kind kind) { return actions[kind].meaning; }

espl_action_kind espl_action_kind_parse(const char *name) {
    int k = 0;
    while (k < ESPL_ACTION_COUNT && strcmp(actions[k].name, name) != 0) k++;
    return (espl_action_kind)k;
}
