/* The pruned model as a Hugging Face directory: every rank writes the tensors of its slice into the shards' places. */
#include "espalier/export.h"

#include "directory.h"
#include "espalier/loop/loop.h"
#include "espalier/model/model.h"
#include "espalier/weights/writer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 22 }; /* of masked rows at a time */

typedef struct export {
    espl_comm *c;
    const espl_model *m;
    const espl_weights *w;
    export_place place;            /* rank 0 */
    espl_str part;                 /* DIR.part, on every rank */
    espl_weights_writer **writers; /* [shards] */
    int64_t *linear;               /* [tensors] this rank's linear that a tensor is the weight of, -1: another tensor */
}
export;

static bool is_root(const export *x) { return espl_comm_rank(x->c) == 0; }

/* ------------------------------------------------------------------ planning */

static espl_status map_linears(export *x) {
    espl_range slice = espl_model_slice(x->m);
    const espl_tensor_info *tensors = espl_weights_at(x->w, 0), *t;
    int64_t n = espl_weights_count(x->w);
    ESPL_TRY(espl_mem_alloc(&x->linear, n, sizeof *x->linear, "linears of tensors"));
    for (int64_t i = 0; i < n; i++) x->linear[i] = -1;
    for (int64_t l = slice.first; l < slice.last; l++)
        for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s.weight", l, espl_linear_path((espl_linear_kind)k));
            if ((t = espl_weights_find(x->w, name))) x->linear[t - tensors] = espl_linear_index(l, (espl_linear_kind)k);
        }
    return ESPL_OK;
}

static espl_status plan_shard(export *x, int64_t s) {
    espl_str path = {0};
    espl_str_printf(&path, "%s%s", x->part.data, strrchr(espl_weights_shard_path(x->w, s), '/'));
    espl_status st = espl_str_status(&path);
    if (st == ESPL_OK) st = espl_weights_writer_create_like(path.data, x->w, s, &x->writers[s]);
    espl_str_free(&path);
    return st;
}

static espl_status plan(export *x) {
    int64_t n = espl_weights_shards(x->w);
    ESPL_TRY(map_linears(x));
    ESPL_TRY(espl_mem_alloc(&x->writers, n, sizeof *x->writers, "shards to write"));
    for (int64_t s = 0; s < n; s++) ESPL_TRY(plan_shard(x, s));
    return ESPL_OK;
}

/* Rank 0 makes the files at their full size: a full disk shows here, where the file system can promise space. */
static espl_status start(export *x) {
    for (int64_t s = 0; s < espl_weights_shards(x->w); s++) {
        if (espl_fault("export.start"))
            return ESPL_FAIL(ESPL_IO, "%s: cannot be created: fault on demand", x->part.data);
        ESPL_TRY(espl_weights_writer_start(x->writers[s]));
    }
    return ESPL_OK;
}

/* ------------------------------------------------------------------- tensors */

/* Layers go with the slice, the embedding with the first rank, norm, head and what else there is with the last. */
static bool is_mine(const export *x, const char *name) {
    static const char prefix[] = "model.layers.";
    espl_range slice = espl_model_slice(x->m);
    if (strncmp(name, prefix, sizeof prefix - 1) == 0) {
        int64_t i = strtoll(name + sizeof prefix - 1, NULL, 10);
        return i >= slice.first && i < slice.last;
    }
    if (strcmp(name, "model.embed_tokens.weight") == 0) return is_root(x);
    return espl_comm_rank(x->c) == espl_comm_size(x->c) - 1;
}

/* A row of numbers becomes +0 where the mask's bit is clear; whatever the others are, they stay. */
static void clear_row_16(uint16_t *v, const uint64_t *mask, int64_t n) {
    for (int64_t c = 0; c < n; c++) v[c] &= (uint16_t)(0 - espl_mask_row_get(mask, c));
}

static void clear_row_32(uint32_t *v, const uint64_t *mask, int64_t n) {
    for (int64_t c = 0; c < n; c++) v[c] &= (uint32_t)(0 - espl_mask_row_get(mask, c));
}

static void clear_rows(const espl_linear *l, int64_t first, int64_t n, void *rows) {
    int64_t words = espl_mask_words(l->in);
    for (int64_t r = 0; r < n; r++) {
        const uint64_t *mask = l->mask + (first + r) * words;
        if (espl_dtype_size(l->dtype) == 4)
            clear_row_32((uint32_t *)rows + r * l->in, mask, l->in);
        else
            clear_row_16((uint16_t *)rows + r * l->in, mask, l->in);
    }
}

static espl_status put_masked(espl_weights_writer *w, int64_t i, const espl_linear *l) {
    int64_t row = l->in * (int64_t)espl_dtype_size(l->dtype), chunk = CHUNK_BYTES > row ? CHUNK_BYTES / row : 1;
    espl_status st = ESPL_OK;
    char *rows;
    if (chunk > l->out) chunk = l->out;
    ESPL_TRY(espl_mem_alloc(&rows, chunk, (size_t)row, "rows to export"));
    for (int64_t r = 0; st == ESPL_OK && r < l->out; r += chunk) {
        int64_t n = l->out - r < chunk ? l->out - r : chunk;
        memcpy(rows, (const char *)l->weight + r * row, (size_t)(n * row));
        clear_rows(l, r, n, rows);
        st = espl_weights_writer_put(w, i, r * row, rows, n * row);
    }
    espl_mem_free(&rows);
    return st;
}

static espl_status put(const export *x, int64_t i, const espl_tensor_info *t) {
    const espl_linear *l = x->linear[i] >= 0 ? espl_model_linear(x->m, x->linear[i]) : NULL;
    espl_weights_writer *w = x->writers[t->shard];
    if (espl_fault("export.put")) return ESPL_FAIL(ESPL_IO, "%s: cannot be written: fault on demand", x->part.data);
    if (l && l->mask) return put_masked(w, i, l);
    return espl_weights_writer_put(w, i, 0, l ? l->weight : t->data, t->bytes);
}

/* One shard after the other, so that a rank has few files open. */
static espl_status fill(export *x) {
    if (is_root(x)) ESPL_TRY(espl_export_copy(&x->place));
    for (int64_t s = 0; s < espl_weights_shards(x->w); s++) {
        for (int64_t i = 0; i < espl_weights_count(x->w); i++) {
            const espl_tensor_info *t = espl_weights_at(x->w, i);
            if (t->shard == s && is_mine(x, t->name)) ESPL_TRY(put(x, i, t));
        }
        if (espl_fault("export.flush"))
            return ESPL_FAIL(ESPL_IO, "%s: cannot be flushed: fault on demand", x->part.data);
        ESPL_TRY(espl_weights_writer_flush(x->writers[s]));
    }
    return ESPL_OK;
}

static espl_status finish(export *x) {
    for (int64_t s = 0; s < espl_weights_shards(x->w); s++) ESPL_TRY(espl_weights_writer_finish(x->writers[s]));
    return espl_export_publish(&x->place);
}

/* --------------------------------------------------------------------- whole */

static espl_status share_place(export *x) {
    if (is_root(x)) espl_str_puts(&x->part, x->place.part.data);
    ESPL_TRY(espl_comm_agree(x->c, espl_str_status(&x->part)));
    return espl_comm_agree(x->c, espl_comm_broadcast_str(x->c, &x->part, 0));
}

static espl_status phases(export *x, const char *source, const char *dir) {
    espl_comm *c = x->c;
    ESPL_TRY(espl_comm_agree(c, is_root(x) ? espl_export_begin(&x->place, x->w, source, dir) : ESPL_OK));
    ESPL_TRY(share_place(x));
    ESPL_TRY(espl_comm_agree(c, plan(x)));
    ESPL_TRY(espl_comm_agree(c, is_root(x) ? start(x) : ESPL_OK));
    ESPL_TRY(espl_comm_agree(c, fill(x)));
    return espl_comm_agree(c, is_root(x) ? finish(x) : ESPL_OK);
}

espl_status espl_export_check_model(espl_comm *c, const espl_model *m, const char *source, const char *dir) {
    export_place place = {.quiet = true};
    espl_status st = espl_comm_rank(c) == 0 ? espl_export_check(&place, espl_model_weights(m), source, dir) : ESPL_OK;
    espl_export_free(&place);
    return espl_comm_agree(c, st);
}

espl_status espl_export_model(espl_comm *c, const espl_model *m, const char *source, const char *dir) {
    export x = {.c = c, .m = m, .w = espl_model_weights(m)};
    espl_status st = phases(&x, source, dir);
    for (int64_t s = 0; x.writers && s < espl_weights_shards(x.w); s++) espl_weights_writer_destroy(&x.writers[s]);
    if (st != ESPL_OK) {
        st = espl_comm_agree(c, st); /* every rank has closed its files */
        espl_export_abandon(&x.place);
        st = espl_comm_agree(c, st); /* gone on return, for every rank */
    }
    espl_mem_free(&x.writers);
    espl_mem_free(&x.linear);
    espl_str_free(&x.part);
    espl_export_free(&x.place);
    return st;
}
