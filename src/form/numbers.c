/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers as JSON writes them without exponents: -?(0|[1-9][0-9]*)(\.[0-9]+)?
 *
 * The numbers that begin with a prefix and go on with a given number of digits are an interval, stepped by the power of
 * ten of the last digit. So both questions, whether a prefix can become a number of the range and how soon, are
 * intersections of intervals.
 */
#include "numbers.h"

#include <math.h>

#include "espalier/base/integer.h"

enum { UNITS_MAX_DIGITS = 15 }; /* integers up to 10^15 are exact as doubles, and 10 times as much fits into 64 bits */
static const double UNITS_MAX = 1e15;

static int64_t power_of_ten(int n) {
    int64_t p = 1;
    while (n-- > 0) p *= 10;
    return p;
}

/* Bounds are doubles: 0.07 * 100 is a little more than 7. What is that close to a whole unit is meant to be it. */
espl_status espl_number_range_of(const espl_form *f, espl_number_range *out) {
    if (f->decimals < 0 || f->decimals > ESPL_FORM_DECIMALS || !isfinite(f->lo) || !isfinite(f->hi))
        return ESPL_FAIL(ESPL_INTERNAL,
                         "form: numbers from %g to %g with %d decimals, expected finite bounds and at "
                         "most %d decimals",
                         f->lo, f->hi, f->decimals, ESPL_FORM_DECIMALS);
    double unit = (double)power_of_ten(f->decimals), lo = f->lo * unit, hi = f->hi * unit;
    if (fabs(lo) > UNITS_MAX || fabs(hi) > UNITS_MAX)
        return ESPL_FAIL(ESPL_INTERNAL, "form: numbers from %g to %g with %d decimals are too long", f->lo, f->hi,
                         f->decimals);
    double tolerance = 1e-9 * fmax(1, fmax(fabs(lo), fabs(hi)) * 1e-6);
    *out = (espl_number_range){
        .lo = (int64_t)ceil(lo - tolerance), .hi = (int64_t)floor(hi + tolerance), .decimals = f->decimals};
    if (out->lo > out->hi)
        return ESPL_FAIL(ESPL_INTERNAL, "form: no number with %d decimals is from %.17g to %.17g", f->decimals, f->lo,
                         f->hi);
    return ESPL_OK;
}

/* Is a multiple of `step` in [a, b] and in [lo, hi]? a >= 0. */
static bool interval_has(int64_t a, int64_t b, int64_t lo, int64_t hi, int64_t step) {
    int64_t from = espl_max_i64(a, espl_max_i64(lo, 0)), to = espl_min_i64(b, hi);
    return (from + step - 1) / step * step <= to;
}

/* Behind the digits so far: `whole` more digits before the point and `behind` after it. For the prefix without any
 * digit, the first one may only be 0 if it stays alone. */
static bool number_reaches(const espl_number_range *r, const espl_number_prefix *p, int whole, int behind) {
    int64_t lo = p->negative ? espl_max_i64(0, -r->hi) : r->lo, hi = p->negative ? -r->lo : r->hi;
    int64_t step = power_of_ten(r->decimals - p->behind - behind);
    int64_t scale = power_of_ten(r->decimals - p->behind), a, b;
    for (int i = 0; i < whole; i++) {
        if (scale > (int64_t)UNITS_MAX) return false;
        scale *= 10;
    }
    if (p->whole == 0) { /* numbers of `whole` digits */
        a = whole == 1 ? 0 : scale / 10;
        b = scale - 1;
    } else {
        if (p->digits > (int64_t)UNITS_MAX / scale) return false;
        a = p->digits * scale;
        b = a + scale - 1;
    }
    return interval_has(a, b, lo, hi, step);
}

int64_t espl_number_distance(const espl_number_range *r, const espl_number_prefix *p) {
    bool leading_zero = p->whole == 1 && p->digits == 0 && !p->point;
    int whole_min = p->whole == 0 ? 1 : 0, whole_max = p->point || leading_zero ? 0 : UNITS_MAX_DIGITS + 1 - p->whole;
    int behind_min = p->point && p->behind == 0 ? 1 : 0;
    int64_t best = -1;
    for (int whole = whole_min; whole <= whole_max; whole++) {
        for (int behind = behind_min; behind <= r->decimals - p->behind; behind++) {
            int64_t bytes = whole + behind + (behind > 0 && !p->point ? 1 : 0);
            if (best >= 0 && bytes >= best) break;
            if (number_reaches(r, p, whole, behind)) best = bytes;
        }
    }
    if (p->whole == 0 && !p->negative && r->lo < 0) { /* a sign may come first */
        espl_number_prefix minus = {.negative = true};
        int64_t bytes = espl_number_distance(r, &minus) + 1;
        if (best < 0 || bytes < best) best = bytes;
    }
    return best;
}

bool espl_number_step(const espl_number_range *r, espl_number_prefix *p, char byte) {
    espl_number_prefix next = *p;
    if (byte == '-') {
        if (p->negative || p->whole > 0 || r->lo >= 0) return false;
        next.negative = true;
    } else if (byte == '.') {
        if (p->point || p->whole == 0 || r->decimals == 0) return false;
        next.point = true;
    } else if (byte >= '0' && byte <= '9') {
        bool leading_zero = p->whole == 1 && p->digits == 0 && !p->point;
        if (leading_zero || (p->point && p->behind == r->decimals) || p->digits > (int64_t)UNITS_MAX) return false;
        next.digits = p->digits * 10 + (byte - '0');
        if (p->point)
            next.behind++;
        else
            next.whole++;
    } else {
        return false;
    }
    if (espl_number_distance(r, &next) < 0) return false;
    *p = next;
    return true;
}
