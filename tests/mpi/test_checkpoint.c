/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: written on some number of ranks, read on another.
 *
 * usage: mpirun -n N test_checkpoint write|read|retain|first|fail|again|succeed DIR [independent|collective|aligned]
 * `write` makes three checkpoints in DIR; `read` finds the newest, reads all three and compares every bit with what was
 * to be written, then tries wrong shapes; `retain` deletes. tests/mpi/test_checkpoint.sh compares the files of
 * different N byte for byte. tests/fault/test_checkpoint.sh: `first` writes one checkpoint; `fail` must fail to write
 * the largest; `again` must fail, then `succeed`. `write` also counts MPI-IO's calls. Exit 0: all hold. */
#include <inttypes.h>
#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/checkpoint.h"
#include "espalier/tensor/mask.h"
#include "harness.h"

enum { LAYERS = 5, LINEARS = LAYERS * ESPL_LINEAR_KINDS };
#define LAYOUT ((espl_layout){.layers = LAYERS})
/* Rows of mask words that end inside, at and just behind a word. */
static const int64_t OUT[ESPL_LINEAR_KINDS] = {24, 8, 8, 40, 33, 33, 40},
                     IN[ESPL_LINEAR_KINDS] = {40, 40, 40, 64, 128, 65, 33};

typedef struct run {
    harness *h;
    espl_comm *c;
    const char *dir;
    espl_checkpoint_shape shape;
    uint64_t *masks[LINEARS], *read_masks[LINEARS];
    void *updates[LINEARS], *read_updates[LINEARS];
    espl_profile_row rows[LINEARS];
    espl_outcome history[3];
    espl_checkpoint content[3];
    espl_checkpoint_io io;
} run;

/* ------------------------------------------------------------- content */

static double bits(uint64_t u) {
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

static void fill_masks(run *r) {
    for (int64_t i = 0; i < LINEARS; i++) {
        int k = espl_linear_kind_of(LAYOUT, i);
        int64_t words = espl_mask_words(IN[k]), n = OUT[k] * words;
        espl_rng rng;
        espl_rng_seed(&rng, 4, (uint64_t)i, 0);
        r->masks[i] = calloc((size_t)n, 8);
        r->read_masks[i] = calloc((size_t)n, 8);
        r->updates[i] = calloc((size_t)(OUT[k] * IN[k]), 2);
        r->read_updates[i] = calloc((size_t)(OUT[k] * IN[k]), 2);
        for (int64_t j = 0; j < n; j++) r->masks[i][j] = espl_rng_next(&rng);
        for (int64_t row = 1; row <= OUT[k]; row++) r->masks[i][row * words - 1] &= espl_mask_columns(IN[k], words - 1);
        for (int64_t j = 0; j < OUT[k] * IN[k]; j++) ((uint16_t *)r->updates[i])[j] = (uint16_t)espl_rng_next(&rng);
    }
}

/* NaNs with a payload, minus zero, infinity and the smallest number must survive bit by bit. */
static void fill_rows(run *r) {
    for (int64_t i = 0; i < LINEARS; i++) {
        int k = espl_linear_kind_of(LAYOUT, i);
        r->rows[i] = (espl_profile_row){.weights = OUT[k] * IN[k],
                                        .pruned = i,
                                        .s = 0.1 * (double)i,
                                        .g = bits(0x7FF8000000000123),
                                        .z_s = -1.0 / 3,
                                        .z_g = i ? -0.0 : INFINITY,
                                        .z_k = 0.7 * (double)i};
        /* What a checkpoint leaves out. */
        for (int q = 0; q < ESPL_DAMAGE_LEVELS; q++) r->rows[i].damage[q] = r->rows[i].damage_k[q] = NAN;
        for (int t = 0; t < ESPL_TOPICS; t++) r->rows[i].k[t] = r->rows[i].z_topic[t] = NAN;
    }
    r->rows[3].g = 4.9e-324;
}

static void fill_outcome(espl_outcome *o, int64_t iteration, int64_t n, const char *reason) {
    *o = (espl_outcome){
        .iteration = iteration, .accepted = iteration != 2, .sparsity_before = 0.1, .sparsity_after = 0.3};
    o->before = (espl_quality){20.25, 3.008, bits(0xFFF8000000000001), 1.25, 0.125, 7, 10, 0, 0, {0}, {0}};
    o->after = (espl_quality){INFINITY, INFINITY, NAN, NAN, NAN, 6, 10, 3, 4, {1, 0, 2, 0}, {1, 1, 2, 0}};
    if (espl_decision_init(&o->decision, n) != ESPL_OK) exit(1);
    for (int64_t i = 0; i < n; i++) o->decision.items[i] = (espl_decision_item){2 * i + 1, 0.1 / (double)(i + 1), {0}};
    if (n > 2) o->decision.items[1] = (espl_decision_item){3, 0.5, espl_pattern_choices[ESPL_PATTERN_CHOICE_2_4]};
    if (n > 2) o->decision.items[2] = (espl_decision_item){5, 0.5, espl_pattern_choices[ESPL_PATTERN_CHOICE_4_8]};
    o->decision.n = n;
    o->decision.stop = iteration == 7;
    o->decision.power = iteration == 7 ? 0.5 : NAN;
    o->decision.expected_text = -0.25;
    espl_mem_free(&o->decision.reason);
    if (espl_str_dup(&o->decision.reason, reason, "reason") != ESPL_OK) exit(1);
}

static void fill_content(run *r) {
    fill_masks(r);
    fill_rows(r);
    fill_outcome(&r->history[0], 1, 4,
                 "even \xC3\xBC"
                 "ber all");
    fill_outcome(&r->history[1], 2, 0, "");
    fill_outcome(&r->history[2], 7, LINEARS / 2, "the last \"one\"\n");
    int64_t first = espl_linear_index(LAYOUT, r->shape.slice.first, 0);
    espl_checkpoint k = {.masks = r->masks + first, .dense = {19.5, 2.97, 0.01, 1, 0.5, 8, 10, 2, 4}};
    k.last = k.dense;
    espl_str_puts(&k.config, "{}");
    r->content[0] = k; /* before the first iteration: no profile, no history */
    k.iteration = 7;
    k.revision = 2;
    k.rows = r->rows;
    k.history = r->history;
    k.n_history = 3;
    espl_str_puts(&k.agent, "{\"memory\": [1, 2, 3]}");
    k.identity = k.milestones = k.agent;
    r->content[1] = k;
    k.iteration = 1234567;
    r->history[2].iteration = 7;
    k.n_history = 0;
    k.history = NULL;
    k.updates = (const void *const *)(r->updates + first);
    k.update_dtype = ESPL_DTYPE_BF16;
    r->content[2] = k;
}

static void free_content(run *r) {
    for (int i = 0; i < LINEARS; i++) {
        free(r->masks[i]);
        free(r->read_masks[i]);
        free(r->updates[i]);
        free(r->read_updates[i]);
    }
    for (int i = 0; i < 3; i++) espl_decision_free(&r->history[i].decision);
    espl_str_free(&r->content[2].config); /* the three share their texts */
    espl_str_free(&r->content[2].agent);
}

static void cut_slices(run *r) {
    double cost[LAYERS] = {1, 1, 1, 1, 1};
    espl_range slices[LAYERS];
    r->shape.layers = LAYERS;
    memcpy(r->shape.out, OUT, sizeof OUT);
    memcpy(r->shape.in, IN, sizeof IN);
    check(r, espl_slices_cut(cost, LAYERS, 0, espl_comm_size(r->c), slices) == ESPL_OK, "cut");
    r->shape.slice = slices[espl_comm_rank(r->c)];
}

/* ------------------------------------------------------------- writing */

/* HDF5's calls, which find these functions before those of the MPI library. */
static int independent_writes, collective_writes;

int MPI_File_write_at(MPI_File f, MPI_Offset at, const void *buf, int n, MPI_Datatype type, MPI_Status *status) {
    independent_writes++;
    return PMPI_File_write_at(f, at, buf, n, type, status);
}

int MPI_File_write_at_all(MPI_File f, MPI_Offset at, const void *buf, int n, MPI_Datatype type, MPI_Status *status) {
    collective_writes++;
    return PMPI_File_write_at_all(f, at, buf, n, type, status);
}

static void choose_io(run *r, const char *name) {
    r->io.collective = strcmp(name, "independent") != 0;
    r->io.hints = strcmp(name, "aligned") == 0 ? "cb_nodes=1,striping_factor=2" : NULL;
    r->io.alignment = strcmp(name, "aligned") == 0 ? 512 : 0;
}

/* A rank's writes of one checkpoint: a call for each of its layers, or one for each dataset, whatever its layers. The
 * file's own metadata is one collective write, when it is closed. */
static void counts_writes(run *r, const espl_checkpoint *k) {
    int kinds = k->updates ? 2 * ESPL_LINEAR_KINDS : ESPL_LINEAR_KINDS;
    int layers = (int)espl_range_count(r->shape.slice);
    check(r, collective_writes == 1 + (r->io.collective ? kinds : 0), "collective writes");
    check(r, independent_writes == (r->io.collective ? 0 : kinds * layers), "independent writes");
    collective_writes = independent_writes = 0;
}

static bool missing(const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return !espl_file_exists(path);
}

static void write_all(run *r) {
    espl_str path;
    check(r, espl_checkpoint_newest(r->c, r->dir, &(int64_t){INT64_MAX}, &path) == ESPL_OK && path.len == 0,
          "nothing there yet");
    espl_str_free(&path);
    for (int i = 0; i < 3; i++) {
        check(r, espl_checkpoint_write(r->c, r->dir, &r->shape, &r->content[i], &r->io) == ESPL_OK, "write");
        counts_writes(r, &r->content[i]);
    }
    check(r, espl_checkpoint_write(r->c, r->dir, &r->shape, &r->content[1], &r->io) == ESPL_OK, "write over");
    check(r, missing(r->dir, "iteration-000007.h5.part"), "part file left");
}

/* ------------------------------------------------------------- reading */

/* To the bit: NaNs and signed zeros, too. No padding in what is compared. */
static bool same_bytes(const void *a, const void *b, size_t n) { return n == 0 || (a && b && memcmp(a, b, n) == 0); }

static bool same_text(const espl_str *a, const espl_str *b) {
    return a->len == b->len && same_bytes(a->data, b->data, (size_t)a->len);
}

static bool same_outcome(const espl_outcome *a, const espl_outcome *b) {
    const espl_decision *x = &a->decision, *y = &b->decision;
    return a->iteration == b->iteration && a->accepted == b->accepted && x->n == y->n && x->stop == y->stop &&
           same_bytes(&a->sparsity_before, &b->sparsity_before, 8) &&
           same_bytes(&a->sparsity_after, &b->sparsity_after, 8) &&
           same_bytes(&a->before, &b->before, sizeof a->before) && same_bytes(&a->after, &b->after, sizeof a->after) &&
           same_bytes(x->items, y->items, (size_t)x->n * sizeof *x->items) && strcmp(x->reason, y->reason) == 0 &&
           strcmp(x->reflection, y->reflection) == 0;
}

static void compare_root_only(run *r, const espl_checkpoint *a, const espl_checkpoint *b) {
    if (espl_comm_rank(r->c) != 0) {
        check(r, !a->rows && !a->history && a->agent.len == 0, "rank 0's alone");
        return;
    }
    check(r, a->n_history == b->n_history && (a->rows != NULL) == (b->rows != NULL), "counts");
    check(r, !a->rows || same_bytes(a->rows, b->rows, sizeof r->rows), "profile");
    for (int64_t i = 0; i < a->n_history && i < b->n_history; i++)
        check(r, same_outcome(&a->history[i], &b->history[i]), "history");
    check(r, same_bytes(&a->dense, &b->dense, sizeof a->dense) && same_bytes(&a->last, &b->last, sizeof a->last),
          "probes");
    check(r,
          same_text(&a->agent, &b->agent) && same_text(&a->config, &b->config) &&
              same_text(&a->identity, &b->identity) && same_text(&a->milestones, &b->milestones),
          "texts");
}

static void compare_slabs(run *r, bool updates) {
    for (int64_t layer = r->shape.slice.first; layer < r->shape.slice.last; layer++)
        for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
            int64_t i = espl_linear_index(LAYOUT, layer, (espl_linear_kind)k);
            size_t bytes = (size_t)(OUT[k] * espl_mask_words(IN[k]) * 8);
            check(r, memcmp(r->masks[i], r->read_masks[i], bytes) == 0, "mask");
            memset(r->read_masks[i], 0xFF, bytes);
            if (updates)
                check(r, memcmp(r->updates[i], r->read_updates[i], (size_t)(OUT[k] * IN[k] * 2)) == 0, "update");
        }
}

static void reads_back(run *r, int i) {
    const espl_checkpoint *want = &r->content[i];
    int64_t first = espl_linear_index(LAYOUT, r->shape.slice.first, 0);
    espl_checkpoint got = {.masks = r->read_masks + first};
    bool has = false;
    espl_dtype dtype = ESPL_DTYPE_I64;
    char path[4096];
    snprintf(path, sizeof path, "%s/iteration-%06" PRId64 ".h5", r->dir, want->iteration);
    check(r, espl_checkpoint_read(r->c, path, &r->shape, &got) == ESPL_OK, "read");
    check(r, got.iteration == want->iteration && got.revision == want->revision, "numbers");
    compare_root_only(r, &got, want);
    espl_checkpoint_free(&got);
    check(r, espl_checkpoint_has_updates(r->c, path, &has, &dtype) == ESPL_OK && has == (i == 2), "has updates");
    espl_status st = espl_checkpoint_read_updates(r->c, path, &r->shape, r->read_updates + first);
    check(r, has ? st == ESPL_OK && dtype == ESPL_DTYPE_BF16 : st == ESPL_FORMAT, "updates");
    compare_slabs(r, has);
}

/* Another depth or width is an error of configuration, on every rank, with a message that says what differs. */
static void refuses_other_shapes(run *r) {
    espl_checkpoint got = {.masks = r->read_masks + espl_linear_index(LAYOUT, r->shape.slice.first, 0)};
    char path[4096];
    snprintf(path, sizeof path, "%s/iteration-000007.h5", r->dir);
    espl_checkpoint_shape other = r->shape;
    other.out[ESPL_UP_PROJ]++;
    check(r, espl_checkpoint_read(r->c, path, &other, &got) == ESPL_CONFIG, "other width");
    check(r, strstr(espl_base_error_text(), "of another model") != NULL, "message");
    other = r->shape;
    other.layers++;
    check(r, espl_checkpoint_read(r->c, path, &other, &got) == ESPL_CONFIG, "more layers");
    check(r, strstr(espl_base_error_text(), "of 5 layers, and this one has 6") != NULL, "message");
    snprintf(path, sizeof path, "%s/iteration-000008.h5", r->dir);
    check(r, espl_checkpoint_read(r->c, path, &r->shape, &got) == ESPL_IO, "no file");
}

static void finds_newest(run *r) {
    espl_str path;
    check(r, espl_checkpoint_newest(r->c, r->dir, &(int64_t){INT64_MAX}, &path) == ESPL_OK, "newest");
    const char *name = path.data ? strrchr(path.data, '/') : NULL;
    check(r, name && strcmp(name, "/iteration-1234567.h5") == 0, "newest name");
    espl_str_free(&path);
}

/* ---------------------------------------------------------------- retain */

static void put_junk(const char *dir, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fputs("not HDF5", f) < 0 || fclose(f) != 0) exit(1);
}

/* A damaged newest file is skipped and does not count as kept. Files of other names stay. */
static void retains_usable(run *r) {
    espl_str path;
    if (espl_comm_rank(r->c) == 0) {
        put_junk(r->dir, "iteration-2000000.h5");
        put_junk(r->dir, "iteration-000003.h5.part");
        put_junk(r->dir, "iteration-3.h5");
        put_junk(r->dir, "notes.txt");
    }
    espl_comm_agree(r->c, ESPL_OK); /* nobody looks before it is there, */
    check(r,
          espl_checkpoint_newest(r->c, r->dir, &(int64_t){INT64_MAX}, &path) == ESPL_OK && path.data &&
              strstr(path.data, "1234567"),
          "passed over");
    espl_str_free(&path);
    check(r, espl_checkpoint_retain(r->c, r->dir, 2) == ESPL_OK, "retain");
    check(r, !missing(r->dir, "iteration-1234567.h5") && !missing(r->dir, "iteration-000007.h5"), "kept");
    check(r, missing(r->dir, "iteration-000000.h5") && missing(r->dir, "iteration-000003.h5.part"), "deleted");
    check(r, !missing(r->dir, "notes.txt") && !missing(r->dir, "iteration-3.h5"), "not ours");
    espl_comm_agree(r->c, ESPL_OK); /* or after it is gone */
    check(r, espl_checkpoint_retain(r->c, r->dir, 1) == ESPL_OK && missing(r->dir, "iteration-000007.h5"), "keep 1");
}

/* ---------------------------------------------------------------- failing */

/* The same status on every rank, a message that names the file, and nothing left but what was there. */
static void fails_alike(run *r) {
    espl_str path;
    espl_base_error_clear();
    espl_status st = espl_checkpoint_write(r->c, r->dir, &r->shape, &r->content[2], &r->io);
    check(r, st == ESPL_IO && strstr(espl_base_error_text(), r->dir), "fails alike");
    check(r, missing(r->dir, "iteration-1234567.h5") && missing(r->dir, "iteration-1234567.h5.part"), "nothing left");
    if (espl_comm_rank(r->c) == 0) printf("%s\n", espl_base_error_text());
    st = espl_checkpoint_newest(r->c, r->dir, &(int64_t){INT64_MAX}, &path);
    bool found = st == ESPL_OK && path.len > 0 && strstr(path.data, "iteration-000000.h5");
    check(r, found || missing(r->dir, "iteration-000000.h5"), "the old one stands");
    espl_str_free(&path);
}

static void succeeds_afterwards(run *r) {
    check(r, espl_checkpoint_write(r->c, r->dir, &r->shape, &r->content[2], &r->io) == ESPL_OK,
          "succeeds after a failure");
    reads_back(r, 2);
}

/* An allocation that fails says nothing about a file: the newest one is not passed over, or a run would go on behind it
 * and set it aside. */
static void runs_out_of_memory(run *r) {
    espl_str path;
    espl_status st = espl_checkpoint_newest(r->c, r->dir, &(int64_t){INT64_MAX}, &path);
    check(r, st == ESPL_NOMEM || (st == ESPL_OK && path.data && strstr(path.data, "iteration-1234567.h5")), "newest");
    espl_str_free(&path);
}

int main(int argc, char **argv) {
    static run r;
    harness h;
    if (!harness_begin(&h, &argc, &argv, 2, ESPL_LOG_QUIET)) return 2;
    r.h = &h;
    r.c = h.c;
    r.dir = h.name = argv[2];
    cut_slices(&r);
    fill_content(&r);
    choose_io(&r, argc > 3 ? argv[3] : "independent");
    if (strcmp(argv[1], "write") == 0) write_all(&r);
    if (strcmp(argv[1], "read") == 0) {
        finds_newest(&r);
        for (int i = 0; i < 3; i++) reads_back(&r, i);
        refuses_other_shapes(&r);
    }
    if (strcmp(argv[1], "retain") == 0) retains_usable(&r);
    if (strcmp(argv[1], "memory") == 0) runs_out_of_memory(&r);
    if (strcmp(argv[1], "first") == 0)
        check(&r, espl_checkpoint_write(r.c, r.dir, &r.shape, &r.content[0], &r.io) == ESPL_OK, "first");
    if (strcmp(argv[1], "fail") == 0 || strcmp(argv[1], "again") == 0) fails_alike(&r);
    if (strcmp(argv[1], "again") == 0 || strcmp(argv[1], "succeed") == 0) succeeds_afterwards(&r);
    free_content(&r);
    return harness_end(&h);
}
