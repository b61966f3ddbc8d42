/* SPDX-License-Identifier: Apache-2.0 */
/* Widening and narrowing against the definition of the formats, over every 16-bit value and every tie. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/tensor/dtype.h"

enum { ALL = 65536 };

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* The value of a 16-bit float with `e` exponent bits, from the definition of the format. */
static double value_of(uint16_t h, int e) {
    int m = 15 - e, bias = (1 << (e - 1)) - 1, exponent = h >> m & ((1 << e) - 1);
    double fraction = h & ((1 << m) - 1), sign = h >> 15 ? -1 : 1;
    if (exponent == (1 << e) - 1) return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - m);
    return sign * ldexp(fraction + (1 << m), exponent - bias - m);
}

static void widen_all(espl_dtype d, int e) {
    static uint16_t src[ALL];
    static float dst[ALL];
    for (int i = 0; i < ALL; i++) src[i] = (uint16_t)i;
    espl_tensor_widen(src, d, ALL, dst);
    for (int i = 0; i < ALL; i++) {
        double want = value_of((uint16_t)i, e);
        if (isnan(want) ? !isnan(dst[i]) : (double)dst[i] != want || !signbit(dst[i]) != !signbit(want))
            fail_msg("%s 0x%04X widened to %a, want %a", espl_dtype_name(d), (unsigned)i, (double)dst[i], want);
        if (!signbit(dst[i]) != !(i >> 15)) fail_msg("%s 0x%04X lost its sign", espl_dtype_name(d), (unsigned)i);
    }
}

static void every_16_bit_value_widens_exactly(void **state) {
    (void)state;
    widen_all(ESPL_DTYPE_BF16, 8);
    widen_all(ESPL_DTYPE_F16, 5);
}

static uint16_t narrow_one(float f, espl_dtype d) {
    uint16_t h;
    espl_tensor_narrow(&f, 1, d, &h);
    return h;
}

static void check_narrow(uint32_t bits, espl_dtype d, uint16_t want) {
    uint16_t got = narrow_one(float_of(bits), d), negative = narrow_one(float_of(bits | 0x80000000), d);
    if (got != want || negative != (want | 0x8000))
        fail_msg("%a narrowed to %s 0x%04X and 0x%04X, want 0x%04X", (double)float_of(bits), espl_dtype_name(d),
                 (unsigned)got, (unsigned)negative, (unsigned)want);
}

/* Between each two neighbours: the exact value, the tie (to even), and what lies just beside the tie. */
static void narrow_around_all(espl_dtype d, int e) {
    uint16_t infinity = (uint16_t)(((1 << e) - 1) << (15 - e));
    for (uint16_t h = 0; h < infinity; h++) {
        double low = value_of(h, e), high = value_of((uint16_t)(h + 1), e);
        if (h + 1 == infinity) high = 2 * low - value_of((uint16_t)(h - 1), e); /* as if the exponent went on */
        uint32_t tie = bits_of((float)((low + high) / 2)), exact = bits_of((float)low);
        assert_true((double)float_of(tie) == (low + high) / 2);
        check_narrow(exact, d, h);
        check_narrow(exact + 1, d, h);
        check_narrow(tie - 1, d, h);
        check_narrow(tie, d, (uint16_t)(h + (h & 1)));
        check_narrow(tie + 1, d, (uint16_t)(h + 1));
    }
}

static void narrowing_rounds_to_nearest_even_at_every_tie(void **state) {
    (void)state;
    narrow_around_all(ESPL_DTYPE_BF16, 8);
    narrow_around_all(ESPL_DTYPE_F16, 5);
}

static void narrowing_keeps_infinities_and_nans(void **state) {
    (void)state;
    static const uint32_t nans[] = {0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0x7F80FFFF, 0x7FBFFFFF};
    check_narrow(0x7F800000, ESPL_DTYPE_BF16, 0x7F80);
    check_narrow(0x7F800000, ESPL_DTYPE_F16, 0x7C00);
    check_narrow(bits_of(65519.0f), ESPL_DTYPE_F16, 0x7BFF);
    check_narrow(bits_of(65520.0f), ESPL_DTYPE_F16, 0x7C00);
    check_narrow(0x7F7FFFFF, ESPL_DTYPE_F16, 0x7C00);
    check_narrow(0x7F7FFFFF, ESPL_DTYPE_BF16, 0x7F80);
    check_narrow(1, ESPL_DTYPE_F16, 0);
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++)
        for (int s = 0; s < 2; s++) {
            float f = float_of(nans[i] | (uint32_t)s << 31);
            assert_true((narrow_one(f, ESPL_DTYPE_BF16) & 0x7FFF) > 0x7F80);
            assert_true((narrow_one(f, ESPL_DTYPE_F16) & 0x7FFF) > 0x7C00);
            assert_int_equal(narrow_one(f, ESPL_DTYPE_BF16) >> 15, s);
        }
}

/* A second opinion over the whole range of bit patterns. */
static void f16_agrees_with_the_compiler(void **state) {
    (void)state;
#ifdef __FLT16_MAX__
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += 4093) {
        float f = float_of((uint32_t)u);
        _Float16 g = (_Float16)f;
        uint16_t want;
        memcpy(&want, &g, 2);
        if (!isnan(f)) assert_int_equal(narrow_one(f, ESPL_DTYPE_F16), want);
    }
    for (uint32_t i = 0; i < ALL; i++) {
        uint16_t h = (uint16_t)i;
        _Float16 g;
        float f;
        memcpy(&g, &h, 2);
        espl_tensor_widen(&h, ESPL_DTYPE_F16, 1, &f);
        assert_true(isnan(f) ? isnan((float)g) : bits_of(f) == bits_of((float)g));
    }
#else
    skip();
#endif
}

static void every_length_and_alignment_works(void **state) {
    (void)state;
    static const espl_dtype dtypes[] = {ESPL_DTYPE_F32, ESPL_DTYPE_F16, ESPL_DTYPE_BF16};
    float want[40], got[40];
    for (int i = 0; i < 40; i++) want[i] = (float)(i - 20) / 8;
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++)
        for (int64_t n = 0; n < 40; n++)
            for (int shift = 0; shift < 5; shift++) {
                size_t bytes = (size_t)n * espl_dtype_size(dtypes[k]);
                unsigned char *buf = malloc(bytes + (size_t)shift + 1);
                assert_non_null(buf);
                buf[bytes + (size_t)shift] = 0xA5;
                memset(got, 0xFF, sizeof got);
                espl_tensor_narrow(want, n, dtypes[k], buf + shift);
                espl_tensor_widen(buf + shift, dtypes[k], n, got);
                for (int64_t i = 0; i < n; i++) assert_true(got[i] == want[i]);
                for (int64_t i = n; i < 40; i++) assert_true(bits_of(got[i]) == 0xFFFFFFFF);
                assert_int_equal(buf[bytes + (size_t)shift], 0xA5);
                free(buf);
            }
}

static void names_and_sizes_match_the_format(void **state) {
    (void)state;
    espl_dtype d;
    for (int i = 0; i < ESPL_DTYPE_COUNT; i++) {
        assert_true(espl_dtype_parse(espl_dtype_name((espl_dtype)i), &d));
        assert_int_equal(d, i);
    }
    assert_false(espl_dtype_parse("bf16", &d));
    assert_false(espl_dtype_parse("", &d));
    assert_int_equal(espl_dtype_size(ESPL_DTYPE_BF16), 2);
    assert_int_equal(espl_dtype_size(ESPL_DTYPE_I64), 8);
    assert_true(espl_dtype_is_float(ESPL_DTYPE_F16) && !espl_dtype_is_float(ESPL_DTYPE_U8));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_16_bit_value_widens_exactly),
        cmocka_unit_test(narrowing_rounds_to_nearest_even_at_every_tie),
        cmocka_unit_test(narrowing_keeps_infinities_and_nans),
        cmocka_unit_test(f16_agrees_with_the_compiler),
        cmocka_unit_test(every_length_and_alignment_works),
        cmocka_unit_test(names_and_sizes_match_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
