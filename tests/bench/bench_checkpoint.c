/* SPDX-License-Identifier: Apache-2.0 */
/* The time to write a checkpoint by independent and by collective calls, compared with the same bytes by plain pwrite
 * and fsync.
 *
 * usage: mpirun -n N bench_checkpoint DIR [--layers 28] [--hidden 1024] [--heads 2048] [--kv 1024] [--ffn 3072]
 *                                     [--rounds 9] [--updates 0] [--alignment 0] [--hints TEXT]
 * The default shape is Qwen3-0.6B's; heads and kv are features. With --updates 1 the checkpoint also holds updated
 * weights in bf16. Files are written to DIR. Each round times a checkpoint (checksums, skeleton, hyperslabs, fsync,
 * verification, rename, fsync) written independently, one written collectively, a plain file of as many bytes (every
 * rank writes its masks and updates at their offsets, then fsync, rename, fsync of the directory), and reading the
 * checkpoint. The order of the three rotates. Prints one JSON line: medians; the medians of the rounds' ratios plain /
 * independent, and independent / collective (above 1: collective is faster) with its lowest and highest; bytes of the
 * file, of masks and updates, and of the linears in bf16. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/checkpoint.h"
#include "espalier/tensor/mask.h"

enum { MAX_ROUNDS = 99 };

typedef struct bench {
    espl_comm *c;
    const char *dir;
    char plain[4096], part[4096], file[4096];
    int64_t layers, hidden, heads, kv, ffn, rounds, updates, alignment;
    const char *hints;
    espl_checkpoint_shape shape;
    espl_checkpoint content;
    uint64_t **masks, **back;
    void **weights;   /* NULL: no updates */
    int64_t n, total; /* linears of this rank; bytes of all masks and updates */
    double independent[MAX_ROUNDS], collective[MAX_ROUNDS], pwrite[MAX_ROUNDS], read[MAX_ROUNDS];
    double ratio[MAX_ROUNDS], gain[MAX_ROUNDS];
} bench;

static int64_t mask_bytes(const bench *b, int k) { return b->shape.out[k] * espl_mask_words(b->shape.in[k]) * 8; }

static int64_t update_bytes(const bench *b, int k) { return b->updates ? b->shape.out[k] * b->shape.in[k] * 2 : 0; }

static espl_status make_shape(bench *b) {
    espl_range slices[1024];
    double cost[1024];
    const int64_t out[] = {b->heads, b->kv, b->kv, b->hidden, b->ffn, b->ffn, b->hidden};
    const int64_t in[] = {b->hidden, b->hidden, b->hidden, b->heads, b->hidden, b->hidden, b->ffn};
    b->shape.layers = b->layers;
    memcpy(b->shape.out, out, sizeof out);
    memcpy(b->shape.in, in, sizeof in);
    for (int i = 0; i < 1024; i++) cost[i] = 1;
    if (b->layers > 1024) return ESPL_FAIL(ESPL_USAGE, "too many layers");
    ESPL_TRY(espl_slices_cut(cost, b->layers, 0, espl_comm_size(b->c), slices));
    b->shape.slice = slices[espl_comm_rank(b->c)];
    b->n = espl_range_count(b->shape.slice) * ESPL_LINEAR_KINDS;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) b->total += b->layers * (mask_bytes(b, k) + update_bytes(b, k));
    return ESPL_OK;
}

static espl_status make_masks(bench *b) {
    espl_rng rng;
    espl_rng_seed(&rng, 1, (uint64_t)b->shape.slice.first, 0);
    ESPL_TRY(espl_mem_alloc(&b->masks, b->n, sizeof *b->masks, "masks"));
    ESPL_TRY(espl_mem_alloc(&b->back, b->n, sizeof *b->back, "masks"));
    for (int64_t i = 0; i < b->n; i++) {
        int k = (int)(i % ESPL_LINEAR_KINDS);
        int64_t words = mask_bytes(b, k) / 8;
        ESPL_TRY(espl_mem_alloc(&b->masks[i], words, 8, "mask"));
        ESPL_TRY(espl_mem_alloc(&b->back[i], words, 8, "mask"));
        for (int64_t j = 0; b->shape.in[k] % 64 == 0 && j < words; j++) b->masks[i][j] = espl_rng_next(&rng);
    }
    if (!b->updates) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&b->weights, b->n, sizeof *b->weights, "updates"));
    for (int64_t i = 0; i < b->n; i++) {
        int64_t bytes = update_bytes(b, (int)(i % ESPL_LINEAR_KINDS));
        ESPL_TRY(espl_mem_alloc(&b->weights[i], bytes, 1, "updates"));
        for (int64_t j = 0; j < bytes / 8; j++) ((uint64_t *)b->weights[i])[j] = espl_rng_next(&rng);
    }
    return ESPL_OK;
}

static espl_status make_content(bench *b) {
    ESPL_TRY(make_shape(b));
    ESPL_TRY(make_masks(b));
    ESPL_TRY(espl_file_make_directory(b->dir));
    b->content = (espl_checkpoint){.masks = b->masks, .iteration = 1, .update_dtype = ESPL_DTYPE_BF16};
    b->content.updates = (const void *const *)b->weights;
    snprintf(b->plain, sizeof b->plain, "%s/plain", b->dir);
    snprintf(b->part, sizeof b->part, "%s/plain.part", b->dir);
    snprintf(b->file, sizeof b->file, "%s/iteration-000001.h5", b->dir);
    espl_str_puts(&b->content.config, "{}");
    return espl_str_status(&b->content.config);
}

/* A new file, as a checkpoint is: neither method reuses the blocks of the previous round. */
static espl_status begin_plain(bench *b) {
    if (espl_comm_rank(b->c) != 0) return ESPL_OK;
    int fd = open(b->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return fd < 0 || close(fd) != 0 ? ESPL_FAIL(ESPL_IO, "%s: cannot be created", b->part) : ESPL_OK;
}

static espl_status write_plain_slice(bench *b) {
    int fd = open(b->part, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0;
    int64_t start = 0; /* of this kind in the file */
    for (int k = 0; ok && k < 2 * ESPL_LINEAR_KINDS; k++) {
        int kind = k % ESPL_LINEAR_KINDS;
        bool masks = k < ESPL_LINEAR_KINDS;
        int64_t bytes = masks ? mask_bytes(b, kind) : update_bytes(b, kind), at = start + b->shape.slice.first * bytes;
        for (int64_t i = kind; ok && bytes > 0 && i < b->n; i += ESPL_LINEAR_KINDS, at += bytes)
            ok = pwrite(fd, masks ? (void *)b->masks[i] : b->weights[i], (size_t)bytes, (off_t)at) == (ssize_t)bytes;
        start += b->layers * bytes;
    }
    ok = ok && fsync(fd) == 0;
    if (fd >= 0) ok = close(fd) == 0 && ok;
    return ok ? ESPL_OK : ESPL_FAIL(ESPL_IO, "%s: cannot be written", b->part);
}

static espl_status end_plain(bench *b) {
    if (espl_comm_rank(b->c) != 0) return ESPL_OK;
    if (rename(b->part, b->plain) != 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be renamed", b->part);
    espl_file_sync_directory(b->plain);
    return ESPL_OK;
}

static espl_status time_plain(bench *b, double *seconds) {
    double start = espl_clock_now();
    ESPL_TRY(espl_comm_agree(b->c, begin_plain(b)));
    ESPL_TRY(espl_comm_agree(b->c, write_plain_slice(b)));
    ESPL_TRY(espl_comm_agree(b->c, end_plain(b)));
    *seconds = espl_clock_now() - start;
    return ESPL_OK;
}

static espl_status time_checkpoint(bench *b, bool collective, double *seconds) {
    const espl_checkpoint_io io = {.collective = collective, .alignment = b->alignment, .hints = b->hints};
    if (espl_comm_rank(b->c) == 0) unlink(b->file);
    ESPL_TRY(espl_comm_agree(b->c, ESPL_OK));
    double start = espl_clock_now();
    ESPL_TRY(espl_checkpoint_write(b->c, b->dir, &b->shape, &b->content, &io));
    *seconds = espl_clock_now() - start;
    return ESPL_OK;
}

static espl_status time_read(bench *b, double *seconds) {
    espl_checkpoint k = {.masks = b->back};
    double start = espl_clock_now();
    ESPL_TRY(espl_checkpoint_read(b->c, b->file, &b->shape, &k));
    *seconds = espl_clock_now() - start;
    espl_checkpoint_free(&k);
    return ESPL_OK;
}

static espl_status remove_files(bench *b) {
    espl_status st = espl_comm_agree(b->c, ESPL_OK); /* no rank reads any more */
    if (espl_comm_rank(b->c) == 0) {
        unlink(b->plain);
        unlink(b->file);
    }
    return st == ESPL_OK ? espl_comm_agree(b->c, ESPL_OK) : st;
}

static espl_status one_round(bench *b, int64_t i) {
    for (int64_t turn = 0; turn < 3; turn++) { /* the order rotates: a later writer may find a busier disk */
        int64_t which = (i + turn) % 3;
        if (which == 0) ESPL_TRY(time_checkpoint(b, false, &b->independent[i]));
        if (which == 1) ESPL_TRY(time_checkpoint(b, true, &b->collective[i]));
        if (which == 2) ESPL_TRY(time_plain(b, &b->pwrite[i]));
    }
    b->ratio[i] = b->pwrite[i] / b->independent[i];
    b->gain[i] = b->independent[i] / b->collective[i];
    return time_read(b, &b->read[i]);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

static int64_t file_bytes(const bench *b) {
    int fd = open(b->file, O_RDONLY | O_CLOEXEC);
    int64_t bytes = fd < 0 ? -1 : (int64_t)lseek(fd, 0, SEEK_END);
    if (fd >= 0) close(fd);
    return bytes;
}

static void report(bench *b, int64_t bytes) {
    double mib = (double)b->total / 1048576, plain = median(b->pwrite, b->rounds);
    double independent = median(b->independent, b->rounds), collective = median(b->collective, b->rounds);
    int64_t weights = 0;
    espl_str text = {0};
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) weights += b->layers * b->shape.out[k] * b->shape.in[k];
    espl_json_writer w = espl_json_writer_on(&text);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_i64(&w, "ranks", espl_comm_size(b->c));
    espl_json_put_i64(&w, "file_bytes", bytes);
    espl_json_put_i64(&w, "planned_bytes", espl_checkpoint_bytes(&b->shape, b->alignment));
    espl_json_put_i64(&w, "data_bytes", b->total);
    espl_json_put_i64(&w, "bf16_bytes", 2 * weights);
    espl_json_put_fixed(&w, "independent_s", independent, 3);
    espl_json_put_fixed(&w, "collective_s", collective, 3);
    espl_json_put_fixed(&w, "plain_s", plain, 3);
    espl_json_put_fixed(&w, "independent_mib_s", mib / independent, 0);
    espl_json_put_fixed(&w, "collective_mib_s", mib / collective, 0);
    espl_json_put_fixed(&w, "plain_mib_s", mib / plain, 0);
    espl_json_put_fixed(&w, "ratio", median(b->ratio, b->rounds), 3);
    espl_json_put_fixed(&w, "gain", median(b->gain, b->rounds), 3);
    espl_json_put_fixed(&w, "gain_lowest", b->gain[0], 3); /* median() has sorted them */
    espl_json_put_fixed(&w, "gain_highest", b->gain[b->rounds - 1], 3);
    espl_json_put_fixed(&w, "read_s", median(b->read, b->rounds), 3);
    espl_json_put_i64(&w, "rounds", b->rounds);
    espl_json_close(&w);
    if (espl_str_status(&text) == ESPL_OK) puts(text.data);
    espl_str_free(&text);
}

static espl_status measure(bench *b) {
    int64_t bytes = 0;
    ESPL_TRY(espl_comm_agree(b->c, make_content(b)));
    ESPL_TRY(one_round(b, 0)); /* warm-up */
    for (int64_t i = 0; i < b->rounds; i++) {
        ESPL_TRY(remove_files(b));
        ESPL_TRY(one_round(b, i));
    }
    bytes = file_bytes(b);
    ESPL_TRY(remove_files(b));
    if (espl_comm_rank(b->c) == 0) report(b, bytes);
    return ESPL_OK;
}

static bool parse(int argc, char **argv, bench *b) {
    const struct {
        const char *name;
        int64_t *value;
    } options[] = {
        {"--layers", &b->layers}, {"--hidden", &b->hidden}, {"--heads", &b->heads},     {"--kv", &b->kv},
        {"--ffn", &b->ffn},       {"--rounds", &b->rounds}, {"--updates", &b->updates}, {"--alignment", &b->alignment}};
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--hints") == 0) b->hints = argv[i + 1];
        for (size_t k = 0; k < sizeof options / sizeof *options; k++)
            if (strcmp(argv[i], options[k].name) == 0) *options[k].value = strtoll(argv[i + 1], NULL, 10);
    }
    for (size_t k = 0; k < 6; k++)
        if (*options[k].value < 1) return false;
    return argc >= 2 && argc % 2 == 0 && b->rounds <= MAX_ROUNDS;
}

int main(int argc, char **argv) {
    static bench b = {.layers = 28, .hidden = 1024, .heads = 2048, .kv = 1024, .ffn = 3072, .rounds = 9};
    if (espl_comm_create(&argc, &argv, &b.c) != ESPL_OK) return 1;
    espl_log_init(ESPL_LOG_INFO, espl_comm_rank(b.c));
    espl_status st = ESPL_USAGE;
    if (parse(argc, argv, &b)) {
        b.dir = argv[1];
        st = measure(&b);
    }
    if (st != ESPL_OK && espl_comm_rank(b.c) == 0) fprintf(stderr, "bench_checkpoint: %s\n", espl_base_error_text());
    espl_comm_destroy(&b.c);
    return espl_status_exit_code(st);
}
