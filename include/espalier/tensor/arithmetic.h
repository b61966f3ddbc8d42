/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arithmetic of matrix products. f32 multiplies f32 by sgemm. bf16 rounds both operands to bf16 (to nearest even)
 * and adds their exact products in f32, by oneDNN, where espalier was built with it and the processor has instructions
 * for it. All functions are Local.
 */
#ifndef ESPALIER_TENSOR_ARITHMETIC_H
#define ESPALIER_TENSOR_ARITHMETIC_H

#include <stdbool.h>

#include "espalier/base/status.h"

/* X(name, name in a configuration) */
#define ESPL_ARITHMETIC_LIST(X)                                                                                        \
    X(F32, "f32")                                                                                                      \
    X(BF16, "bf16")
typedef enum espl_arithmetic {
#define X(name, text) ESPL_ARITHMETIC_##name,
    ESPL_ARITHMETIC_LIST(X)
#undef X
} espl_arithmetic;

const char *espl_arithmetic_name(espl_arithmetic a); /* "bf16"; static storage */
/* False if none has that name; *out is then unchanged. */
bool espl_arithmetic_parse(const char *name, espl_arithmetic *out);
/* ESPL_CONFIG, in a message that begins with `option`, if this program or this processor cannot compute in it. */
espl_status espl_arithmetic_check(espl_arithmetic a, const char *option);
/* "2.6.3", "2.6.3, no bf16 on this processor", or "none": built without. Static storage. */
const char *espl_arithmetic_library(void);

#endif
