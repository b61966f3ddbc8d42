/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the form room: decimal numbers digit by digit. All arithmetic is on integers in units of the last allowed
 * decimal, so that 0.07 is exactly seven hundredths. All functions are Local.
 */
#ifndef ESPL_FORM_NUMBERS_H
#define ESPL_FORM_NUMBERS_H

#include <stdbool.h>

#include "espalier/form/form.h"

/* The numbers of a form: lo to hi in units of 10^-decimals. */
typedef struct espl_number_range {
    int64_t lo, hi;
    int decimals;
} espl_number_range;

/* ESPL_INTERNAL: bounds that no number meets, or that are too large. */
espl_status espl_number_range_of(const espl_form *f, espl_number_range *out);

/* The beginning of a number. All zero: nothing yet. */
typedef struct espl_number_prefix {
    int64_t digits; /* all digits so far as one integer */
    int8_t whole;   /* digits before the point */
    int8_t behind;  /* digits behind the point */
    bool negative, point;
} espl_number_prefix;

/* Bytes that are missing to the nearest end: 0 if the prefix is a number of the range, -1 if no number of it begins
 * so. */
int64_t espl_number_distance(const espl_number_range *r, const espl_number_prefix *p);
/* Appends a byte to the prefix, if some number of the range begins with the result. False: *p is as before. */
bool espl_number_step(const espl_number_range *r, espl_number_prefix *p, char byte);

#endif
