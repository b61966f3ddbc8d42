/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bf16 products by oneDNN's matmul.
 *
 * oneDNN compiles a kernel for each shape. Each thread keeps the primitives that it met in a table of its own, so that
 * no lock is needed; behind it oneDNN's own cache shares the compiled code between threads.
 *
 * oneDNN chooses a kernel, and how to cut the work, by the number of threads that OpenMP would use. It is told 1, both
 * when it compiles and when it computes: our tiles carry the parallelism, and the bits must not depend on the threads.
 */
#include "bf16.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/hash.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/tensor/arithmetic.h"

#ifdef ESPL_ONEDNN

#include <dnnl.h>
#include <stdio.h>

#ifdef _OPENMP
#include <omp.h>
#else /* fuzz targets */
static int omp_get_max_threads(void) { return 1; }
static void omp_set_num_threads(int n) { (void)n; }
#endif

/* Descriptors are structures in version 2 and handles in version 3. */
#if DNNL_VERSION_MAJOR < 3
#define MATRIX_VIEW_TYPE const dnnl_memory_desc_t *
#define MATRIX_VIEW(d) (&(d))
#define MATRIX_FREE(d) ((void)(d))
#else
#define MATRIX_VIEW_TYPE const_dnnl_memory_desc_t
#define MATRIX_VIEW(d) (d)
#define MATRIX_FREE(d) dnnl_memory_desc_destroy(d)
#endif
typedef MATRIX_VIEW_TYPE matrix_view;

enum { TABLE_SIZE = 256 };          /* a power of 2; a model has a few dozen shapes */
enum { SCRATCH_USUAL = 384 << 10 }; /* measured with oneDNN 2.6: 337 KiB for tiles of 512 x 512 x 512 */
enum { ARG_A, ARG_B, ARG_C, ARG_SCRATCH, ARGS };

typedef struct product {
    bf16_shape shape;
    dnnl_primitive_t primitive; /* NULL: the place is free */
    dnnl_exec_arg_t args[ARGS];
    size_t scratch_bytes;
} product;

struct bf16_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *scratch;
    size_t scratch_bytes;
    product table[TABLE_SIZE];
};

/* ---------------------------------------------------------------- primitives */

static dnnl_status_t matrix_describe(dnnl_memory_desc_t *d, int64_t rows, int64_t columns, int64_t ld, bool transposed,
                                     dnnl_data_type_t type) {
    dnnl_dims_t dims = {rows, columns}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
#if DNNL_VERSION_MAJOR < 3
    return dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides);
#else
    return dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides);
#endif
}

static dnnl_status_t matmul_describe(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const dnnl_memory_desc_t *d,
                                     dnnl_primitive_attr_t attributes) {
#if DNNL_VERSION_MAJOR < 3
    dnnl_matmul_desc_t operation;
    dnnl_status_t st = dnnl_matmul_desc_init(&operation, &d[ARG_A], &d[ARG_B], NULL, &d[ARG_C]);
    return st == dnnl_success ? dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL) : st;
#else
    return dnnl_matmul_primitive_desc_create(out, engine, d[ARG_A], d[ARG_B], NULL, d[ARG_C], attributes);
#endif
}

/* Scratch is the caller's, so that threads may run a primitive at the same time. */
static dnnl_status_t attributes_create(dnnl_primitive_attr_t *out, bool add) {
    dnnl_post_ops_t after = NULL;
    dnnl_status_t st = dnnl_primitive_attr_create(out);
    if (st == dnnl_success) st = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (st != dnnl_success || !add) return st;
    st = dnnl_post_ops_create(&after);
#if DNNL_VERSION_MAJOR < 3
    if (st == dnnl_success) st = dnnl_post_ops_append_sum(after, 1.0f);
#else
    if (st == dnnl_success) st = dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_data_type_undef);
#endif
    if (st == dnnl_success) st = dnnl_primitive_attr_set_post_ops(*out, after);
    if (after) dnnl_post_ops_destroy(after);
    return st;
}

static dnnl_status_t memory_create(dnnl_exec_arg_t *arg, int name, matrix_view d, dnnl_engine_t engine) {
    arg->arg = name;
    return dnnl_memory_create(&arg->memory, d, engine, DNNL_MEMORY_NONE);
}

static void product_free(product *p) {
    for (int i = 0; i < ARGS; i++)
        if (p->args[i].memory) dnnl_memory_destroy(p->args[i].memory);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    *p = (product){0};
}

static dnnl_status_t product_compile(bf16_engine *e, const bf16_shape *s, product *p) {
    static const int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    dnnl_memory_desc_t d[ARG_SCRATCH];
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t pd = NULL;
    memset(d, 0, sizeof d);
    dnnl_status_t st = matrix_describe(&d[ARG_A], s->m, s->k, s->lda, s->a_transposed, dnnl_bf16);
    if (st == dnnl_success) st = matrix_describe(&d[ARG_B], s->k, s->n, s->ldb, s->b_transposed, dnnl_bf16);
    if (st == dnnl_success) st = matrix_describe(&d[ARG_C], s->m, s->n, s->ldc, false, dnnl_f32);
    if (st == dnnl_success) st = attributes_create(&attributes, s->add);
    if (st == dnnl_success) st = matmul_describe(&pd, e->engine, d, attributes);
    if (st == dnnl_success) st = dnnl_primitive_create(&p->primitive, pd);
    for (int i = 0; st == dnnl_success && i < ARG_SCRATCH; i++)
        st = memory_create(&p->args[i], args[i], MATRIX_VIEW(d[i]), e->engine);
    if (st == dnnl_success) {
        matrix_view scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        p->scratch_bytes = dnnl_memory_desc_get_size(scratch);
        st = memory_create(&p->args[ARG_SCRATCH], DNNL_ARG_SCRATCHPAD, scratch, e->engine);
    }
    p->shape = *s;
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    for (int i = 0; i < ARG_SCRATCH; i++) MATRIX_FREE(d[i]);
    if (st != dnnl_success) product_free(p);
    return st;
}

static bool shape_equal(const bf16_shape *a, const bf16_shape *b) {
    return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->ldb == b->ldb && a->ldc == b->ldc &&
           a->a_transposed == b->a_transposed && a->b_transposed == b->b_transposed && a->add == b->add;
}

/* The primitive of a shape: from the table, or compiled into its place there. */
static dnnl_status_t product_find(bf16_engine *e, const bf16_shape *s, product **out) {
    const int64_t key[] = {s->m, s->n, s->k, s->lda, s->ldb, s->ldc, s->a_transposed, s->b_transposed + 2 * s->add};
    product *p = &e->table[espl_hash64(key, sizeof key, 0) % TABLE_SIZE];
    *out = p;
    if (p->primitive && shape_equal(&p->shape, s)) return dnnl_success;
    product_free(p);
    return product_compile(e, s, p);
}

static dnnl_status_t scratch_grow(bf16_engine *e, size_t bytes) {
    enum { ALIGNMENT = 4096 };
    if (bytes <= e->scratch_bytes) return dnnl_success;
    free(e->scratch);
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    e->scratch = aligned_alloc(ALIGNMENT, bytes);
    e->scratch_bytes = e->scratch ? bytes : 0;
    return e->scratch ? dnnl_success : dnnl_out_of_memory;
}

static dnnl_status_t product_run(bf16_engine *e, const bf16_shape *s, const uint16_t *a, const uint16_t *b, float *c) {
    product *p;
    dnnl_status_t st = product_find(e, s, &p);
    if (st == dnnl_success) st = scratch_grow(e, p->scratch_bytes);
    /* Operands are only read; oneDNN's interface has one kind of handle. */
    void *const handles[ARGS] = {(void *)(uintptr_t)a, (void *)(uintptr_t)b, c, e->scratch};
    for (int i = 0; st == dnnl_success && i < ARGS; i++)
        st = dnnl_memory_set_data_handle(p->args[i].memory, handles[i]);
    if (st == dnnl_success) st = dnnl_primitive_execute(p->primitive, e->stream, ARGS, p->args);
    return st == dnnl_success ? dnnl_stream_wait(e->stream) : st;
}

#endif

/* ------------------------------------------------------------------- engine */

bool espl_bf16_is_available(void) {
#ifdef ESPL_ONEDNN
    unsigned need = dnnl_cpu_isa_avx512_core_bf16;
    return ((unsigned)dnnl_get_effective_cpu_isa() & need) == need;
#else
    return false;
#endif
}

espl_status espl_bf16_engine_create(bf16_engine **out) {
    *out = NULL;
#ifdef ESPL_ONEDNN
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "bf16 products"));
    if (dnnl_engine_create(&(*out)->engine, dnnl_cpu, 0) == dnnl_success &&
        dnnl_stream_create(&(*out)->stream, (*out)->engine, dnnl_stream_default_flags) == dnnl_success)
        return ESPL_OK;
    espl_bf16_engine_destroy(out);
#endif
    return ESPL_FAIL(ESPL_NOMEM, "oneDNN cannot create its engine: out of memory");
}

void espl_bf16_engine_destroy(bf16_engine **out) {
#ifdef ESPL_ONEDNN
    bf16_engine *e = *out;
    if (!e) return;
    for (int i = 0; i < TABLE_SIZE; i++) product_free(&e->table[i]);
    if (e->stream) dnnl_stream_destroy(e->stream);
    if (e->engine) dnnl_engine_destroy(e->engine);
    free(e->scratch);
    espl_mem_free(out);
#endif
    *out = NULL;
}

int64_t espl_bf16_engine_bytes(void) {
#ifdef ESPL_ONEDNN
    if (espl_bf16_is_available()) return SCRATCH_USUAL + (int64_t)sizeof(bf16_engine);
#endif
    return 0;
}

void espl_bf16_product(bf16_engine *e, const bf16_shape *s, const uint16_t *a, const uint16_t *b, float *c) {
#ifdef ESPL_ONEDNN
    int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* of this thread alone, in a parallel region */
    dnnl_status_t st = product_run(e, s, a, b, c);
    omp_set_num_threads(threads);
    if (st == dnnl_success) return;
    ESPL_INFO("error: oneDNN cannot multiply [%" PRId64 ", %" PRId64 "] by [%" PRId64 ", %" PRId64
              "] (status %d): out of memory?",
              s->m, s->k, s->k, s->n, (int)st);
#else
    (void)e, (void)a, (void)b; /* there is no engine to call this with */
#endif
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) c[i * s->ldc + j] = NAN;
}

/* --------------------------------------------------------------- arithmetic */

static const char *const names[] = {
#define X(name, text) text,
    ESPL_ARITHMETIC_LIST(X)
#undef X
};

const char *espl_arithmetic_name(espl_arithmetic a) { return names[a]; }

bool espl_arithmetic_parse(const char *name, espl_arithmetic *out) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0) return *out = (espl_arithmetic)i, true;
    return false;
}

const char *espl_arithmetic_library(void) {
#ifdef ESPL_ONEDNN
    static char text[64];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d%s", v->major, v->minor, v->patch,
             espl_bf16_is_available() ? "" : ", no bf16 on this processor");
    return text;
#else
    return "none";
#endif
}

espl_status espl_arithmetic_check(espl_arithmetic a, const char *option) {
#ifdef ESPL_ONEDNN
    const char *why = "this processor has no bf16 instructions that oneDNN uses (AVX512_BF16): use f32";
#else
    const char *why = "this espalier was built without oneDNN (Debian: libdnnl-dev): use f32, or build with it";
#endif
    if (a == ESPL_ARITHMETIC_F32 || espl_bf16_is_available()) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "%s is \"%s\", but %s", option, espl_arithmetic_name(a), why);
}
