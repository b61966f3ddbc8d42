/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: checkpoint */
/* libs: hdf5::hdf5 MPI::MPI_C */
/*
 * A checkpoint of two layers with every kind of content, changed. The first byte says where: f, bytes of the file; r,
 * the tables and texts behind their checksums, which a file that was made to harm would have right. Each change is four
 * bytes: where, in 24 bits, and the new value; in tables, the first of them selects the table. What is read must be
 * usable: indexes within the model, texts, iterations in order.
 */
#include "espalier/base.h"
#include "espalier/tensor/mask.h"
#include "records.h"
#include "scratch.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) abort();                                                                                     \
    } while (0)

enum { LAYERS = 2, LINEARS = LAYERS * ESPL_LINEAR_KINDS, HISTORY = 3, WORDS_MAX = 64, FILE_MAX = 1 << 17 };
enum { CHANGE_BYTES = 4, CHANGES_MAX = 64 };

static espl_comm *comm;
static espl_checkpoint_shape shape = {
    .layers = LAYERS, .out = {4, 2, 2, 4, 6, 6, 4}, .in = {4, 4, 4, 4, 4, 4, 70}, .slice = {0, LAYERS}};
static uint64_t words[LINEARS][WORDS_MAX];
static uint16_t weights[LINEARS][6 * 70];
static espl_checkpoint content;
static uint8_t whole[FILE_MAX];
static size_t whole_bytes;

static void make_history(espl_outcome *history) {
    for (int64_t i = 0; i < HISTORY; i++) {
        espl_outcome *o = &history[i];
        *o = (espl_outcome){.iteration = i + 1, .accepted = i != 1, .sparsity_before = 0.1, .sparsity_after = 0.2};
        o->before = (espl_quality){20, 3, 0.1, NAN, NAN, 7, 10, 0, 0, {0}, {0}};
        o->after = o->before;
        REQUIRE(espl_decision_init(&o->decision, 2) == ESPL_OK);
        o->decision.items[0] = (espl_decision_item){i, 0.1, {0}};
        o->decision.items[1] = (espl_decision_item){i + 5, 0.5, espl_pattern_choices[ESPL_PATTERN_CHOICE_2_4]};
        o->decision.n = 2;
        espl_mem_free(&o->decision.reason);
        REQUIRE(espl_str_dup(&o->decision.reason, "because", "reason") == ESPL_OK);
    }
}

/* Writes the checkpoint once; its content stays for the process. */
static void make_checkpoint(void) {
    static espl_profile_row rows[LINEARS];
    static espl_outcome history[HISTORY];
    static uint64_t *masks[LINEARS];
    static const void *updates[LINEARS];
    char path[256];
    /* One process without MPI's daemon and networks. */
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 1);
    setenv("OMPI_MCA_pml", "ob1", 1);
    setenv("OMPI_MCA_btl", "self", 1);
    setenv("OMPI_MCA_sharedfp", "individual", 1);
    setenv("TMPDIR", scratch_dir(), 1);
    REQUIRE(espl_comm_create(NULL, NULL, &comm) == ESPL_OK);
    espl_log_init(ESPL_LOG_QUIET, 0);
    for (int64_t i = 0; i < LINEARS; i++) {
        int kind = espl_linear_kind_of((espl_layout){.layers = LAYERS}, i);
        rows[i] = (espl_profile_row){.weights = shape.out[kind] * shape.in[kind], .pruned = 1, .s = 0.5, .g = 0.25};
        masks[i] = words[i];
        updates[i] = weights[i];
    }
    make_history(history);
    content = (espl_checkpoint){.iteration = HISTORY,
                                .revision = 2,
                                .masks = masks,
                                .updates = updates,
                                .update_dtype = ESPL_DTYPE_BF16,
                                .rows = rows,
                                .history = history,
                                .n_history = HISTORY};
    content.dense = content.last = history[0].before;
    espl_str_puts(&content.agent, "{\"memory\": 1}");
    espl_str_puts(&content.config, "{}");
    espl_str_puts(&content.identity, "{\"layers\": 2}");
    REQUIRE(espl_checkpoint_write(comm, scratch_dir(), &shape, &content, NULL) == ESPL_OK);
    snprintf(path, sizeof path, "%s", scratch_path("iteration-000003.h5"));
    FILE *f = fopen(path, "rb");
    REQUIRE(f);
    whole_bytes = fread(whole, 1, sizeof whole, f);
    fclose(f);
    REQUIRE(whole_bytes > 0 && whole_bytes < sizeof whole);
}

static void check_content(const espl_checkpoint *k) {
    int64_t previous = 0;
    for (int64_t i = 0; i < k->n_history; i++) {
        const espl_decision *d = &k->history[i].decision;
        REQUIRE(k->history[i].iteration > previous && d->reason && d->reflection);
        previous = k->history[i].iteration;
        for (int64_t item = 0; item < d->n; item++) {
            REQUIRE(d->items[item].linear >= 0 && d->items[item].linear < LINEARS);
            REQUIRE(item == 0 || d->items[item].linear > d->items[item - 1].linear);
        }
    }
    REQUIRE(k->n_history == 0 || previous == k->iteration);
}

static void read_file(const uint8_t *changes, size_t n) {
    static uint8_t changed[FILE_MAX];
    static uint64_t read_words[LINEARS][WORDS_MAX];
    static uint16_t read_weights[LINEARS][6 * 70];
    uint64_t *masks[LINEARS];
    void *updates[LINEARS];
    char path[256];
    bool has;
    espl_dtype dtype;
    espl_checkpoint k = {.masks = masks};
    for (int64_t i = 0; i < LINEARS; i++) masks[i] = read_words[i], updates[i] = read_weights[i];
    memcpy(changed, whole, whole_bytes);
    for (size_t i = 0; i < n; i++, changes += CHANGE_BYTES) {
        size_t at = (size_t)changes[0] << 16 | (size_t)changes[1] << 8 | changes[2];
        changed[at % whole_bytes] = changes[3];
    }
    snprintf(path, sizeof path, "%s", scratch_put("changed.h5", changed, whole_bytes));
    if (espl_checkpoint_read(comm, path, &shape, &k) == ESPL_OK) check_content(&k);
    espl_checkpoint_free(&k);
    if (espl_checkpoint_has_updates(comm, path, &has, &dtype) == ESPL_OK && has && dtype == ESPL_DTYPE_BF16)
        (void)espl_checkpoint_read_updates(comm, path, &shape, updates);
}

static void unpack(const uint8_t *changes, size_t n) {
    checkpoint_records r;
    espl_checkpoint k = {.iteration = content.iteration};
    REQUIRE(espl_records_pack(&content, &shape, &r) == ESPL_OK);
    const struct {
        void *bytes;
        size_t n;
    } tables[] = {{r.profile, (size_t)r.n_profile * sizeof *r.profile},
                  {r.history, (size_t)r.n_history * sizeof *r.history},
                  {r.items, (size_t)r.n_items * sizeof *r.items},
                  {r.history_text.data, (size_t)r.history_text.len},
                  {&r.dense, sizeof r.dense},
                  {&r.last, sizeof r.last}};
    int64_t *const counts[] = {&r.n_profile, &r.n_history, &r.n_items, &r.history_text.len};
    for (size_t i = 0; i < n; i++, changes += CHANGE_BYTES) {
        size_t which = changes[0] % 8, at = (size_t)changes[1] << 8 | changes[2];
        if (which < 6)
            ((uint8_t *)tables[which].bytes)[at % tables[which].n] = changes[3];
        else if (changes[3] < *counts[at % 4])
            *counts[at % 4] = changes[3];
    }
    if (espl_records_unpack(&r, &shape, content.iteration, "file", &k) == ESPL_OK) check_content(&k);
    espl_checkpoint_free(&k);
    espl_records_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!comm) make_checkpoint();
    int64_t before = espl_mem_balance();
    size_t n = size > 0 ? (size - 1) / CHANGE_BYTES : 0;
    if (n > CHANGES_MAX) n = CHANGES_MAX;
    if (size > 0 && data[0] == 'f') read_file(data + 1, n);
    if (size > 0 && data[0] == 'r') unpack(data + 1, n);
    REQUIRE(espl_mem_balance() == before);
    return 0;
}
