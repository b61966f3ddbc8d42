/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.json: versions, hosts, layout, configuration, identity. It holds no key, and of the environment only Slurm's
 * variables. */
#include "manifest.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "espl_revision.h"

enum { HOST_BYTES = 64 };

/* Where one rank runs. */
typedef struct espl_rank_place {
    char host[HOST_BYTES];
    int64_t pid, threads, replica, first_layer, last_layer;
    espl_model_memory memory;
} espl_rank_place;

static void manifest_put_places(espl_json_writer *w, const espl_rank_place *places, int n) {
    espl_json_open_array(w, "ranks", ESPL_JSON_LINES);
    for (int r = 0; r < n; r++) {
        const espl_rank_place *p = &places[r];
        espl_json_open_object(w, NULL, ESPL_JSON_SPACED);
        espl_json_put_text(w, "host", p->host);
        espl_json_put_i64(w, "pid", p->pid);
        espl_json_put_i64(w, "threads", p->threads);
        espl_json_put_i64(w, "replica", p->replica);
        espl_json_put_i64(w, "first_layer", p->first_layer);
        espl_json_put_i64(w, "last_layer", p->last_layer);
        espl_json_put_i64(w, "weight_bytes", p->memory.weights);
        espl_json_put_i64(w, "activation_bytes", p->memory.activations);
        espl_json_put_i64(w, "kv_cache_bytes", p->memory.kv_cache);
        espl_json_close(w);
    }
    espl_json_close(w);
}

static espl_status manifest_write_file(const espl_job *j, const espl_rank_place *places) {
    static const char *const slurm_names[] = {
        "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID",  "SLURM_ARRAY_TASK_ID", "SLURM_JOB_NODELIST",
        "SLURM_NNODES", "SLURM_NTASKS",   "SLURM_CPUS_PER_TASK", "SLURM_JOB_PARTITION", "SLURM_RESTART_COUNT"};
    espl_str text = {0}, config = {0}, path = {0};
    espl_json_writer w = espl_json_writer_on(&text);
    char started[64];
    time_t now = time(NULL);
    struct tm utc;
    espl_status st;
    gmtime_r(&now, &utc);
    strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    ESPL_CHECK(st, done, espl_config_print(j->o, ESPL_CONFIG_PLAIN, &config));
    ESPL_CHECK(st, done, espl_job_path(j, "manifest.json", &path));

    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "started", started);
    espl_json_put_text(&w, "espalier", ESPL_VERSION);
    espl_json_put_text(&w, "revision", ESPL_REVISION);
    espl_json_put_text(&w, "compiler", __VERSION__);
    espl_json_put_text(&w, "flags", ESPL_COMPILE_FLAGS);
    espl_json_put_text(&w, "mpi", espl_comm_library());
    espl_json_put_text(&w, "hdf5", espl_checkpoint_library());
    espl_json_put_text(&w, "openblas", espl_tensor_blas_init());
    espl_json_put_text(&w, "onednn", espl_arithmetic_library());
    espl_json_open_object(&w, "slurm", ESPL_JSON_SPACED);
    for (size_t i = 0; i < sizeof slurm_names / sizeof *slurm_names; i++) {
        const char *value = getenv(slurm_names[i]);
        if (value) espl_json_put_text(&w, slurm_names[i], value);
    }
    espl_json_close(&w);
    manifest_put_places(&w, places, espl_comm_size(j->comm));
    espl_json_put_i64(&w, "resumed_after", j->iteration);
    espl_json_put_raw(&w, "identity", j->identity.data, j->identity.len);
    espl_json_put_raw(&w, "config", config.data, config.len);
    espl_json_close(&w);
    espl_str_puts(&text, "\n");

    ESPL_CHECK(st, done, espl_str_status(&text));
    st = espl_file_replace(path.data, text.data, text.len);
done:
    espl_str_free(&text);
    espl_str_free(&config);
    espl_str_free(&path);
    return st;
}

espl_status espl_manifest_write(espl_job *j) {
    espl_range slice = espl_model_slice(j->model);
    espl_rank_place mine = {.pid = (int64_t)getpid(),
                            .threads = espl_tensor_threads(),
                            .replica = espl_comm_grid(j->comm)->replica,
                            .first_layer = slice.first,
                            .last_layer = slice.last - 1,
                            .memory = espl_model_memory_used(j->model)};
    espl_rank_place *all = NULL;
    int ranks = espl_comm_size(j->comm);
    if (gethostname(mine.host, sizeof mine.host - 1) != 0) strcpy(mine.host, "?");
    espl_status st = j->root ? espl_mem_alloc(&all, ranks, sizeof *all, "places of ranks") : ESPL_OK;
    st = espl_comm_agree(j->comm, st);
    if (st == ESPL_OK) st = espl_comm_gather_records(j->comm, &mine, 1, sizeof mine, ranks, all);
    if (st == ESPL_OK) st = espl_comm_agree(j->comm, j->root ? manifest_write_file(j, all) : ESPL_OK);
    espl_mem_free(&all);
    return st;
}
