/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: sweep */
/*
 * The small files of a run directory. The first byte says which: s summary.json, m manifest.json, w sweep.json, l lock,
 * h model-hashes.json, i the identity that a checkpoint holds. Any bytes are read or refused; only a summary or a cache
 * that says exactly what was written counts.
 */
#include "../../src/run/hash_cache.h"
#include "espalier/base.h"
#include "espalier/run/job.h"
#include "espalier/run/lock.h"
#include "espalier/run/model_identity.h"
#include "espalier/sweep.h"
#include "espalier/weights/reader.h"
#include "scratch.h"

#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) abort();                                                                                     \
    } while (0)

/* A summary with a checksum, which is that of its bytes, or one of an earlier version. */
static void read_summary(const uint8_t *bytes, size_t n) {
    espl_status verdict;
    bool good = espl_run_summary_reads(scratch_put("summary.json", bytes, n), &verdict);
    REQUIRE(!good || memchr(bytes, '{', n));
}

/* A sweep of one run, in whose directory the file stands beside good ones. */
static void look_at_run(const char *name, const uint8_t *bytes, size_t n) {
    static const char manifest[] = "{\"config\": {\"run\": {\"seed\": 1}}}", summary[] = "{\"end\": \"done\"}",
                      mark[] = "{\"state\": \"failed\", \"message\": \"m\"}";
    char text[512];
    espl_sweep *s;
    espl_sweep_state state;
    espl_str note = {0};
    mkdir(scratch_path("seed1"), 0777);
    snprintf(text, sizeof text, "{\"dir\": \"%s\", \"grid\": {\"run.seed\": [1]}}", scratch_dir());
    REQUIRE(espl_sweep_parse(text, (int64_t)strlen(text), "s.json", &s) == ESPL_OK);
    scratch_put("seed1/manifest.json", manifest, sizeof manifest - 1);
    scratch_put("seed1/summary.json", summary, sizeof summary - 1);
    scratch_put("seed1/sweep.json", mark, sizeof mark - 1);
    scratch_put(name, bytes, n);
    REQUIRE(espl_sweep_state_of(s, 0, &state, &note) == ESPL_OK);
    REQUIRE(state == ESPL_SWEEP_FINISHED || (state == ESPL_SWEEP_DIFFERS && note.len > 0));
    unlink(scratch_path("seed1/summary.json")); /* now the mark counts */
    REQUIRE(espl_sweep_state_of(s, 0, &state, &note) == ESPL_OK);
    espl_str_free(&note);
    espl_sweep_free(&s);
}

static void read_lock(const uint8_t *bytes, size_t n) {
    espl_str holder = {0};
    scratch_put("lock", bytes, n);
    if (espl_run_lock_is_held(scratch_dir(), &holder))
        for (int64_t i = 0; i < holder.len; i++) REQUIRE((uint8_t)holder.data[i] >= 0x20 && holder.data[i] != 0x7F);
    espl_str_free(&holder);
    unlink(scratch_path("lock"));
}

/* A cache that is accepted has the check of its hashes: chance does not find it. */
static void read_cache(const uint8_t *bytes, size_t n) {
    static const char file[] = "\x38\0\0\0\0\0\0\0{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}   1";
    espl_weights *w;
    espl_str files = {0};
    uint64_t hash = 0;
    REQUIRE(espl_weights_open_memory(file, sizeof file - 1, "file", &w) == ESPL_OK);
    espl_str_puts(&files, "a file\n");
    (void)espl_hash_cache_read(scratch_put("model-hashes.json", bytes, n), w, &files, &hash);
    espl_str_free(&files);
    espl_weights_close(&w);
}

static void compare_identity(const uint8_t *bytes, size_t n) {
    static const char text[] = "{\"model_type\": \"llama\", \"layers\": 2, \"rope_theta\": 1e4, \"weights\": \"01\"}";
    espl_str now = {0}, then = {0}, different = {0}, missing = {0};
    espl_str_puts(&now, text);
    espl_str_put(&then, bytes, (int64_t)n);
    espl_status st = espl_model_identity_compare(&now, &then, "checkpoint", &different, &missing);
    REQUIRE(st == ESPL_OK || st == ESPL_FORMAT);
    espl_str_free(&now);
    espl_str_free(&then);
    espl_str_free(&different);
    espl_str_free(&missing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t before = espl_mem_balance();
    if (size == 0) return 0;
    espl_log_init(ESPL_LOG_QUIET, 0);
    if (data[0] == 's') read_summary(data + 1, size - 1);
    if (data[0] == 'm') look_at_run("seed1/manifest.json", data + 1, size - 1);
    if (data[0] == 'w') look_at_run("seed1/sweep.json", data + 1, size - 1);
    if (data[0] == 'l') read_lock(data + 1, size - 1);
    if (data[0] == 'h') read_cache(data + 1, size - 1);
    if (data[0] == 'i') compare_identity(data + 1, size - 1);
    REQUIRE(espl_mem_balance() == before);
    return 0;
}
