/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of the kernels and their scratch memory. All functions are Local.
 *
 * Determinism: every kernel cuts its work into tiles by shape alone, never by the number of threads; one thread
 * computes a tile, and every sum runs in a fixed order inside it. The same call gives the same bits on any number of
 * threads.
 */
#ifndef ESPALIER_TENSOR_WORKSPACE_H
#define ESPALIER_TENSOR_WORKSPACE_H

#include <stdint.h>

#include "espalier/base/status.h"
#include "espalier/tensor/arithmetic.h"

/* Scratch memory of the kernels, one piece per OpenMP thread. Two kernels must not use one workspace at the same time.
 */
typedef struct espl_workspace espl_workspace;
/* Scratch for as many threads as OpenMP will use now. ESPL_NOMEM. Owned by the caller. */
espl_status espl_workspace_create(espl_workspace **out);
void espl_workspace_destroy(espl_workspace **w);
/* Bytes that espl_workspace_create takes for this many threads. */
int64_t espl_workspace_bytes(int threads);

/* The arithmetic of the linears, the head and attention that use this workspace from now on; f32 at first. Returns the
 * one before. bf16 only where espl_arithmetic_check allows it. Products of few tokens (at most 6: decoding),
 * element-wise kernels, softmax, statistics and all sums over tokens stay f32 or f64. */
espl_arithmetic espl_workspace_use(espl_workspace *ws, espl_arithmetic a);

enum { ESPL_WORKSPACE_SCRATCH = 1 << 20 }; /* bytes */
/* The calling thread's scratch for work outside the kernels: ESPL_WORKSPACE_SCRATCH bytes, 64-byte aligned, contents
 * undefined. Kernels called with the same workspace overwrite it. Borrowed. */
void *espl_workspace_scratch(espl_workspace *ws);

int espl_tensor_threads(void); /* OpenMP threads a kernel will use */
/* Sets that number, for measurements; workspaces that exist serve at most the threads they were created for. */
void espl_tensor_set_threads(int threads);
int espl_tensor_thread(void); /* the calling thread among them, from 0 */
/* Call once at start. Makes a pthread flavour of OpenBLAS single-threaded, since our own tiles carry the parallelism.
 * Returns the OpenBLAS core and flavour in use: "Cooperlake, OpenMP". Static storage. */
const char *espl_tensor_blas_init(void);

#endif
