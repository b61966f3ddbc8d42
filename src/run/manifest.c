/* manifest.json: everything needed to know where a number came from. No key, no environment beyond Slurm's. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "espl_revision.h"

enum { HOST_MAX = 64 };

/* One rank's place. */
typedef struct place {
    char host[HOST_MAX];
    int64_t pid, threads, first, last;
    espl_model_memory memory;
} place;

static void put_text(espl_str *s, const char *key, const char *text) {
    espl_str_printf(s, "\"%s\": ", key);
    espl_str_put_json(s, text, (int64_t)strlen(text));
}

static void put_slurm(espl_str *s) {
    static const char *const names[] = {
        "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID",  "SLURM_ARRAY_TASK_ID", "SLURM_JOB_NODELIST",
        "SLURM_NNODES", "SLURM_NTASKS",   "SLURM_CPUS_PER_TASK", "SLURM_JOB_PARTITION", "SLURM_RESTART_COUNT"};
    int n = 0;
    espl_str_puts(s, "  \"slurm\": {");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (!value) continue;
        espl_str_puts(s, n++ ? ", " : "");
        put_text(s, names[i], value);
    }
    espl_str_puts(s, "},\n");
}

static void put_time(espl_str *s) {
    char text[64];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    espl_str_puts(s, "  ");
    put_text(s, "started", text);
    espl_str_puts(s, ",\n");
}

static void put_versions(espl_str *s) {
    const struct {
        const char *key, *text;
    } lines[] = {
        {"espalier", ESPL_VERSION},           {"revision", ESPL_REVISION},  {"compiler", __VERSION__},
        {"flags", ESPL_COMPILE_FLAGS},        {"mpi", espl_comm_library()}, {"hdf5", espl_checkpoint_library()},
        {"openblas", espl_tensor_blas_init()}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        espl_str_puts(s, "  ");
        put_text(s, lines[i].key, lines[i].text);
        espl_str_puts(s, ",\n");
    }
}

static void put_places(espl_str *s, const place *places, int n) {
    espl_str_puts(s, "  \"ranks\": [\n");
    for (int r = 0; r < n; r++) {
        const place *p = &places[r];
        espl_str_puts(s, "    {");
        put_text(s, "host", p->host);
        espl_str_printf(s,
                        ", \"pid\": %lld, \"threads\": %lld, \"first_layer\": %lld, \"last_layer\": %lld, "
                        "\"weight_bytes\": %lld, \"activation_bytes\": %lld, \"kv_cache_bytes\": %lld}%s\n",
                        (long long)p->pid, (long long)p->threads, (long long)p->first, (long long)p->last - 1,
                        (long long)p->memory.weights, (long long)p->memory.activations, (long long)p->memory.kv_cache,
                        r + 1 < n ? "," : "");
    }
    espl_str_puts(s, "  ],\n");
}

static espl_status write_manifest(job *j, const place *places) {
    espl_str s = {0}, config = {0}, path = {0};
    espl_status st = espl_config_print(j->o, ESPL_CONFIG_PLAIN, &config);
    if (st == ESPL_OK) st = espl_job_path(j, "manifest.json", &path);
    espl_str_puts(&s, "{\n");
    put_time(&s);
    put_versions(&s);
    put_slurm(&s);
    put_places(&s, places, espl_comm_size(j->c));
    espl_str_printf(&s, "  \"resumed_after\": %lld,\n  \"identity\": %s,\n  \"config\": %s}\n", (long long)j->iteration,
                    j->identity.data, config.data ? config.data : "null");
    if (st == ESPL_OK) st = espl_str_status(&s);
    if (st == ESPL_OK) st = espl_file_replace(path.data, s.data, s.len);
    espl_str_free(&s);
    espl_str_free(&config);
    espl_str_free(&path);
    return st;
}

static place place_here(const job *j) {
    espl_range slice = espl_model_slice(j->m);
    place p = {.pid = (int64_t)getpid(),
               .threads = espl_tensor_threads(),
               .first = slice.first,
               .last = slice.last,
               .memory = espl_model_memory_used(j->m)};
    if (gethostname(p.host, sizeof p.host - 1) != 0) strcpy(p.host, "?");
    return p;
}

espl_status espl_manifest_write(job *j) {
    place mine = place_here(j), *all = NULL;
    int n = espl_comm_size(j->c);
    espl_status st = espl_comm_agree(j->c, j->root ? espl_mem_alloc(&all, n, sizeof *all, "places") : ESPL_OK);
    if (st == ESPL_OK) st = espl_comm_gather_records(j->c, &mine, 1, sizeof mine, n, all);
    if (st == ESPL_OK) st = espl_comm_agree(j->c, j->root ? write_manifest(j, all) : ESPL_OK);
    espl_mem_free(&all);
    return st;
}
