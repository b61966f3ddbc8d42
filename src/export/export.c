/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a pruned model. Rank 0 prepares the directory (place.h) and creates the shards at their full size with the
 * source's headers; then every rank writes the tensors of its slice to their places, and rank 0 gives the files and the
 * directory their names. Every step is agreed on before the next one: a disk may fill up for one rank only, and a rank
 * that went on would write into files that another removes.
 */
#include "espalier/export.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/loop/loop.h"
#include "espalier/model/shape.h"
#include "espalier/tensor/mask.h"
#include "espalier/weights/writer.h"
#include "place.h"

enum { CHUNK_BYTES = 1 << 22 }; /* rows masked and written at a time: bounds memory, and fits a large write */

typedef struct exporter {
    const espl_model *m;
    const espl_weights *w; /* the source's tensors */
    const espl_grid *grid;
    bool root;
    const espl_export_about *about; /* rank 0 */
    export_place place;             /* rank 0 */
    espl_str part;                  /* DIR.part, on every rank */
    espl_weights_writer **writers;  /* [shards] */
    int64_t *linears; /* [tensors] index of this rank's linear that a tensor is the weight of, or the first of several;
                         -1: none */
} exporter;

/* Rank 0 only. */
static espl_status exporter_begin(exporter *x, const char *source, const char *dir) {
    ESPL_TRY(espl_export_place_find(&x->place, x->w, source, dir, false));
    ESPL_TRY(espl_export_place_begin(&x->place));
    espl_str_puts(&x->part, x->place.part.data);
    return espl_str_status(&x->part);
}

/* Local. Finds the tensors of this rank's linears, and lays out one writer per shard. Nothing is written yet. */
static espl_status exporter_plan(exporter *x) {
    int64_t tensors = espl_weights_count(x->w), shards = espl_weights_shards(x->w);
    espl_range mine = espl_model_linears(x->m);
    ESPL_TRY(espl_mem_alloc(&x->linears, tensors, sizeof *x->linears, "linears of tensors"));
    for (int64_t i = 0; i < tensors; i++) x->linears[i] = -1;
    for (int64_t l = mine.first; l < mine.last; l++) {
        espl_linear_place place = espl_model_linear_place(espl_model_config_of(x->m), l);
        const espl_tensor_info *t = espl_weights_find(x->w, place.name);
        if (t && place.first == 0) x->linears[t - espl_weights_at(x->w, 0)] = l;
    }
    ESPL_TRY(espl_mem_alloc(&x->writers, shards, sizeof *x->writers, "shards to write"));
    for (int64_t s = 0; s < shards; s++) {
        espl_str path;
        const char *name = espl_export_base_name(espl_weights_shard_path(x->w, s));
        espl_status st = espl_export_join(x->part.data, name, "", &path);
        if (st == ESPL_OK) st = espl_weights_writer_create_like(path.data, x->w, s, &x->writers[s]);
        espl_str_free(&path);
        ESPL_TRY(st);
    }
    return ESPL_OK;
}

/* Rank 0 only. Creates the shards at their full size: a full disk shows here, where the file system can reserve
 * space. */
static espl_status exporter_start(const exporter *x) {
    for (int64_t s = 0; s < espl_weights_shards(x->w); s++) {
        if (espl_fault("export.start"))
            return ESPL_FAIL(ESPL_IO, "%s: cannot be created: fault on demand", x->part.data);
        ESPL_TRY(espl_weights_writer_start(x->writers[s]));
    }
    return ESPL_OK;
}

/* ---------------------------------------------------------------- tensors */

/* Sets the pruned weights of a row to +0 and leaves the bits of all others, NaN and -0 included: a product with 0 or 1
 * would not. Without branches, so that the compiler vectorises it. */
static void row_clear_pruned(const espl_linear *l, const uint64_t *mask, void *row) {
    if (espl_dtype_size(l->dtype) == 4) {
        uint32_t *v = row;
        for (int64_t c = 0; c < l->in; c++) v[c] &= 0 - (uint32_t)espl_mask_row_get(mask, c);
    } else {
        uint16_t *v = row;
        for (int64_t c = 0; c < l->in; c++) v[c] &= (uint16_t)(0 - (uint32_t)espl_mask_row_get(mask, c));
    }
}

/* Writes the rows of tensor i, from row `first` on, that are the weight of linear l. Only masked linears need a copy.
 */
static espl_status exporter_put_linear(const exporter *x, int64_t i, const espl_linear *l, int64_t first) {
    espl_weights_writer *w = x->writers[espl_weights_at(x->w, i)->shard];
    int64_t row_bytes = l->in * (int64_t)espl_dtype_size(l->dtype), words = espl_mask_words(l->in);
    if (!l->mask) return espl_weights_writer_put(w, i, first * row_bytes, l->weight, l->out * row_bytes);
    int64_t chunk = espl_min_i64(espl_max_i64(CHUNK_BYTES / row_bytes, 1), l->out);
    char *rows;
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&rows, chunk, (size_t)row_bytes, "rows to export"));
    for (int64_t r = 0; st == ESPL_OK && r < l->out; r += chunk) {
        int64_t n = espl_min_i64(chunk, l->out - r);
        memcpy(rows, (const char *)l->weight + r * row_bytes, (size_t)(n * row_bytes));
        for (int64_t k = 0; k < n; k++) row_clear_pruned(l, l->mask + (r + k) * words, rows + k * row_bytes);
        st = espl_weights_writer_put(w, i, (first + r) * row_bytes, rows, n * row_bytes);
    }
    espl_mem_free(&rows);
    return st;
}

/* Writes tensor i: from where it is mapped, unless it is the weight of linears. */
static espl_status exporter_put_tensor(const exporter *x, int64_t i) {
    const espl_tensor_info *t = espl_weights_at(x->w, i);
    int64_t index = x->linears[i], written = 0;
    if (espl_fault("export.put")) return ESPL_FAIL(ESPL_IO, "%s: cannot be written: fault on demand", x->part.data);
    if (index < 0) return espl_weights_writer_put(x->writers[t->shard], i, 0, t->data, t->bytes);
    for (; written < t->dims[0]; index++) { /* the linears of a layer that are stored together are neighbours */
        const espl_linear *l = espl_model_linear(x->m, index);
        ESPL_TRY(exporter_put_linear(x, i, l, written));
        written += l->out;
    }
    return ESPL_OK;
}

/* Rank 0 only. Writes the files that are no weights: those of the source, and those about the export. */
static espl_status exporter_put_files(const exporter *x) {
    const struct {
        const char *name;
        const espl_str *text;
    } about[] = {{ESPL_EXPORT_CARD, &x->about->card}, {ESPL_EXPORT_RECIPE, &x->about->recipe}};
    ESPL_TRY(espl_export_files_copy(&x->place.files, x->place.source, x->part.data));
    for (size_t i = 0; i < sizeof about / sizeof *about; i++) {
        espl_str path;
        espl_status st = espl_export_join(x->part.data, about[i].name, "", &path);
        if (st == ESPL_OK) st = espl_file_replace(path.data, about[i].text->data, about[i].text->len);
        espl_str_free(&path);
        ESPL_TRY(st);
    }
    return ESPL_OK;
}

/* Local. Writes this rank's part, one shard after another, so that few files are open at a time. */
static espl_status exporter_fill(const exporter *x) {
    if (x->root) ESPL_TRY(exporter_put_files(x));
    for (int64_t s = 0; s < espl_weights_shards(x->w); s++) {
        for (int64_t i = 0; i < espl_weights_count(x->w); i++) {
            const espl_tensor_info *t = espl_weights_at(x->w, i);
            bool mine = t->shard == s && i % x->grid->replicas == x->grid->replica; /* replicas share the tensors */
            if (mine && espl_model_owns_tensor(x->m, t->name)) ESPL_TRY(exporter_put_tensor(x, i));
        }
        if (espl_fault("export.flush"))
            return ESPL_FAIL(ESPL_IO, "%s: cannot be flushed: fault on demand", x->part.data);
        ESPL_TRY(espl_weights_writer_flush(x->writers[s]));
    }
    return ESPL_OK;
}

/* Rank 0 only. Gives the shards their names, then the directory. */
static espl_status exporter_finish(exporter *x) {
    for (int64_t s = 0; s < espl_weights_shards(x->w); s++) ESPL_TRY(espl_weights_writer_finish(x->writers[s]));
    return espl_export_place_publish(&x->place);
}

/* ----------------------------------------------------------------- export */

espl_status espl_export_check_model(espl_comm *c, const espl_model *m, const char *source, const char *dir) {
    export_place place = {0};
    espl_status st = ESPL_OK;
    if (espl_comm_rank(c) == 0) st = espl_export_place_find(&place, espl_model_weights(m), source, dir, true);
    espl_export_place_free(&place);
    return espl_comm_agree(c, st);
}

espl_status espl_export_model(espl_comm *c, const espl_model *m, const char *source, const char *dir,
                              const espl_export_about *about) {
    bool root = espl_comm_rank(c) == 0;
    exporter x = {.m = m, .w = espl_model_weights(m), .grid = espl_comm_grid(c), .root = root, .about = about};
    espl_status st;
    ESPL_CHECK(st, done, espl_comm_agree(c, root ? exporter_begin(&x, source, dir) : ESPL_OK));
    ESPL_CHECK(st, done, espl_comm_broadcast_str(c, &x.part, 0));
    ESPL_CHECK(st, done, espl_comm_agree(c, exporter_plan(&x)));
    ESPL_CHECK(st, done, espl_comm_agree(c, root ? exporter_start(&x) : ESPL_OK));
    ESPL_CHECK(st, done, espl_comm_agree(c, exporter_fill(&x)));
    st = espl_comm_agree(c, root ? exporter_finish(&x) : ESPL_OK);
done:
    for (int64_t s = 0; x.writers && s < espl_weights_shards(x.w); s++) espl_weights_writer_destroy(&x.writers[s]);
    if (st != ESPL_OK) {
        st = espl_comm_agree(c, st); /* every rank has closed its files, or NFS would keep them */
        espl_export_place_abandon(&x.place);
        st = espl_comm_agree(c, st); /* no rank returns before DIR.part is gone */
    }
    espl_mem_free(&x.writers);
    espl_mem_free(&x.linears);
    espl_str_free(&x.part);
    espl_export_place_free(&x.place);
    return st;
}
