/* SPDX-License-Identifier: Apache-2.0 */
/*
 * espalier status: how far a run or a sweep is, from its files alone. It works while the run goes on, on another
 * machine of the cluster, and afterwards, and it writes nothing. Rank 0 does all of it.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "espalier/base/file.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/run/status.h"
#include "espalier/sweep.h"
#include "options.h"

enum { FOLLOW_SECONDS = 2, STATUS_RUNS_MAX = ESPL_SWEEP_MAX };

typedef struct status_options {
    cli_shared shared;
    bool follow;
} status_options;

enum { KEY_FOLLOW = CLI_KEY_FIRST };

static const struct argp_option status_argp_options[] = {
    {NULL, 0, NULL, 0, "Status:", CLI_GROUP_COMMAND},
    {"follow", KEY_FOLLOW, NULL, 0, "print it again whenever it changes, until no run goes on any more",
     CLI_GROUP_COMMAND},
    {0}};

static error_t status_parse(int key, char *value, struct argp_state *state) {
    status_options *o = state->input;
    (void)value;
    if (key == ARGP_KEY_INIT) return cli_share(state, &o->shared);
    if (key != KEY_FOLLOW) return ARGP_ERR_UNKNOWN;
    o->follow = true;
    return 0;
}

static const struct argp_child status_children[] = {
    {&cli_argp_json, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0}, {0}};
const struct argp cli_status_argp = {
    .options = status_argp_options,
    .parser = status_parse,
    .args_doc = "RUN|SWEEP",
    .doc = "Shows how far a run is: a run directory, a directory with run directories, or a SWEEP.json.\vIt reads the "
           "files of the run alone, on any machine that sees them. An estimate of the time left is the run's own.",
    .children = status_children};

/* ------------------------------------------------------------------ runs */

/* The runs that the operand names, and their states. */
typedef struct status_list {
    char **dirs; /* [n], owned */
    espl_run_status *runs;
    int64_t n;
    bool single; /* the operand is a run directory itself */
} status_list;

static void status_list_free(status_list *l) {
    for (int64_t i = 0; i < l->n; i++) {
        espl_mem_free(&l->dirs[i]);
        espl_run_status_free(&l->runs[i]);
    }
    espl_mem_free(&l->dirs);
    espl_mem_free(&l->runs);
}

static espl_status status_list_add(status_list *l, const char *dir) {
    if (l->n == STATUS_RUNS_MAX) return ESPL_FAIL(ESPL_USAGE, "more than %d runs", STATUS_RUNS_MAX);
    ESPL_TRY(espl_mem_resize(&l->dirs, l->n + 1, sizeof *l->dirs, "runs"));
    ESPL_TRY(espl_mem_resize(&l->runs, l->n + 1, sizeof *l->runs, "runs"));
    l->runs[l->n] = (espl_run_status){0};
    ESPL_TRY(espl_str_dup(&l->dirs[l->n], dir, "runs"));
    l->n++;
    return ESPL_OK;
}

static bool status_is_run(const char *dir) {
    static const char *const names[] = {"manifest.json", "events.jsonl", "lock", "sweep.json"};
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
        espl_str path = {0};
        espl_str_printf(&path, "%s/%s", dir, names[i]);
        found = !path.failed && espl_file_exists(path.data);
        espl_str_free(&path);
    }
    return found;
}

static espl_status status_list_directory(status_list *l, const char *dir) {
    struct dirent **entries;
    int n = scandir(dir, &entries, NULL, alphasort);
    if (n < 0) return ESPL_FAIL(ESPL_IO, "%s: %s", dir, strerror(errno));
    espl_status st = ESPL_OK;
    for (int i = 0; i < n; i++) {
        espl_str path = {0};
        espl_str_printf(&path, "%s/%s", dir, entries[i]->d_name);
        if (st == ESPL_OK) st = espl_str_status(&path);
        if (st == ESPL_OK && entries[i]->d_name[0] != '.' && status_is_run(path.data))
            st = status_list_add(l, path.data);
        espl_str_free(&path);
        free(entries[i]);
    }
    free(entries);
    return st;
}

static espl_status status_list_sweep(status_list *l, const char *file) {
    espl_sweep *s = NULL;
    espl_config config = {0};
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_sweep_read(file, &s));
    ESPL_CHECK(st, done, espl_sweep_merge(s));
    for (int64_t i = 0; i < espl_sweep_count(s); i++) {
        ESPL_CHECK(st, done, espl_config_init(&config));
        ESPL_CHECK(st, done, espl_sweep_config(s, i, &config));
        ESPL_CHECK(st, done, status_list_add(l, config.run_dir));
        espl_config_free(&config);
    }
done:
    espl_config_free(&config);
    espl_sweep_free(&s);
    return st;
}

static espl_status status_list_read(status_list *l, const char *operand) {
    struct stat info;
    if (stat(operand, &info) != 0) return ESPL_FAIL(ESPL_IO, "%s: %s", operand, strerror(errno));
    l->single = S_ISDIR(info.st_mode) && status_is_run(operand);
    if (!S_ISDIR(info.st_mode))
        ESPL_TRY(status_list_sweep(l, operand));
    else if (l->single)
        ESPL_TRY(status_list_add(l, operand));
    else
        ESPL_TRY(status_list_directory(l, operand));
    if (l->n == 0) return ESPL_FAIL(ESPL_IO, "%s: holds no run directory", operand);
    for (int64_t i = 0; i < l->n; i++) ESPL_TRY(espl_run_status_read(l->dirs[i], &l->runs[i]));
    return ESPL_OK;
}

/* -------------------------------------------------------------- printing */

/* "4.6100 (+4.8 %)" */
static void status_put_perplexity(espl_str *s, const espl_run_status *r) {
    if (isfinite(r->perplexity))
        espl_str_printf(s, "%.4f (%+.1f %%)", r->perplexity, 100 * (r->perplexity / r->dense - 1));
}

static void status_put_run(espl_str *s, const char *dir, const espl_run_status *r) {
    char text[32];
    espl_str_printf(s, "%s: %s", dir, espl_run_state_name(r->state));
    if (r->holder.len > 0) espl_str_printf(s, " (%s)", r->holder.data);
    if (r->state == ESPL_RUN_INTERRUPTED) espl_str_puts(s, "; --resume continues it");
    espl_str_printf(s, "\n  %" PRId64 " iteration%s, %" PRId64 " rolled back", r->iterations,
                    r->iterations == 1 ? "" : "s", r->rollbacks);
    if (isfinite(r->sparsity))
        espl_str_printf(s, "; %.2f %% of the linears pruned, target %.4g %%", 100 * r->sparsity, 100 * r->target);
    if (r->end.len > 0) espl_str_printf(s, "; %s", r->end.data);
    if (r->verdict != ESPL_OK) espl_str_printf(s, " (%s)", espl_status_text(r->verdict));
    espl_str_puts(s, "\n");
    if (isfinite(r->perplexity)) {
        espl_str_puts(s, "  perplexity ");
        status_put_perplexity(s, r);
        espl_str_printf(s, ", dense %.4f\n", r->dense);
    }
    if (isfinite(r->step_seconds)) {
        espl_clock_format(r->step_seconds, text, sizeof text);
        espl_str_printf(s, "  last iteration took %s", text);
        espl_clock_format(fmax(0, (double)time(NULL) - r->changed), text, sizeof text);
        espl_str_printf(s, "; last record %s ago", text);
        if (isfinite(r->seconds_left)) espl_clock_format(r->seconds_left, text, sizeof text);
        if (isfinite(r->seconds_left)) espl_str_printf(s, "; about %s left", text);
        espl_str_puts(s, "\n");
    }
}

static void status_put_table(espl_str *s, const status_list *l) {
    int64_t count[ESPL_RUN_FINISHED + 1] = {0};
    espl_str_printf(s, "%-11s %10s %9s  %-20s %8s  %s\n", "state", "iterations", "sparsity", "perplexity", "left",
                    "run");
    for (int64_t i = 0; i < l->n; i++) {
        const espl_run_status *r = &l->runs[i];
        espl_str perplexity = {0};
        char sparsity[32] = "", left[32] = "";
        status_put_perplexity(&perplexity, r);
        if (isfinite(r->sparsity)) snprintf(sparsity, sizeof sparsity, "%.2f %%", 100 * r->sparsity);
        if (isfinite(r->seconds_left)) espl_clock_format(r->seconds_left, left, sizeof left);
        espl_str_printf(s, "%-11s %10" PRId64 " %9s  %-20s %8s  %s\n", espl_run_state_name(r->state), r->iterations,
                        sparsity, perplexity.data ? perplexity.data : "", left, l->dirs[i]);
        espl_str_free(&perplexity);
        count[r->state]++;
    }
    espl_str_printf(s, "%" PRId64 " run%s:", l->n, l->n == 1 ? "" : "s");
    const char *comma = " ";
    for (int k = 0; k <= ESPL_RUN_FINISHED; k++) {
        if (count[k] == 0) continue;
        espl_str_printf(s, "%s%" PRId64 " %s", comma, count[k], espl_run_state_name((espl_run_state)k));
        comma = ", ";
    }
    espl_str_puts(s, "\n");
}

static void status_put_json(espl_str *s, const status_list *l) {
    espl_json_writer w = espl_json_writer_on(s);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_open_array(&w, "runs", ESPL_JSON_SPACED);
    for (int64_t i = 0; i < l->n; i++) {
        const espl_run_status *r = &l->runs[i];
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_text(&w, "dir", l->dirs[i]);
        espl_json_put_text(&w, "state", espl_run_state_name(r->state));
        espl_json_put_text(&w, "holder", r->holder.data);
        espl_json_put_text(&w, "end", r->end.data);
        espl_json_put_i64(&w, "iterations", r->iterations);
        espl_json_put_i64(&w, "rollbacks", r->rollbacks);
        espl_json_put_f64(&w, "sparsity", r->sparsity);
        espl_json_put_f64(&w, "target", r->target);
        espl_json_put_f64(&w, "dense", r->dense);
        espl_json_put_f64(&w, "perplexity", r->perplexity);
        espl_json_put_fixed(&w, "started", r->started, 3);
        espl_json_put_fixed(&w, "changed", r->changed, 3);
        espl_json_put_f64(&w, "seconds_left", r->seconds_left);
        espl_json_close(&w);
    }
    espl_json_close(&w);
    espl_json_close(&w);
    espl_str_puts(s, "\n");
}

/* Prints the status if a record came since *changed, or always on a terminal, where it replaces the *lines printed
 * last. *going: some run goes on, or none has begun. */
static espl_status status_print(const status_options *o, double *changed, int *lines, bool *going) {
    status_list l = {0};
    espl_str text = {0};
    double newest = 0;
    int64_t running = 0, none = 0;
    espl_status st;
    ESPL_CHECK(st, done, status_list_read(&l, o->shared.operand));
    for (int64_t i = 0; i < l.n; i++) {
        running += l.runs[i].state == ESPL_RUN_RUNNING;
        none += l.runs[i].state == ESPL_RUN_NONE;
        newest += isfinite(l.runs[i].changed) ? l.runs[i].changed : 0; /* the sum changes with any of them */
        newest += l.runs[i].state;
    }
    *going = running > 0 || none == l.n;
    bool redraw = o->follow && isatty(STDOUT_FILENO) && !o->shared.json;
    if (!redraw && newest == *changed) goto done;
    *changed = newest;
    if (o->shared.json)
        status_put_json(&text, &l);
    else if (l.single)
        status_put_run(&text, l.dirs[0], &l.runs[0]);
    else
        status_put_table(&text, &l);
    ESPL_CHECK(st, done, espl_str_status(&text));
    if (redraw && *lines > 0) printf("\033[%dA\033[J", *lines); /* up, and erase what is below */
    fwrite(text.data, 1, (size_t)text.len, stdout);
    fflush(stdout);
    *lines = 0;
    for (int64_t i = 0; i < text.len; i++) *lines += text.data[i] == '\n';
done:
    espl_str_free(&text);
    status_list_free(&l);
    return st;
}

static espl_status status_show(const status_options *o) {
    double changed = -1;
    int lines = 0;
    bool going = true;
    ESPL_TRY(status_print(o, &changed, &lines, &going));
    while (o->follow && going) {
        sleep(FOLLOW_SECONDS);
        ESPL_TRY(status_print(o, &changed, &lines, &going));
    }
    return ESPL_OK;
}

espl_status cli_status(espl_comm *c, int argc, char **argv) {
    status_options o = {0};
    ESPL_TRY(cli_parse(c, &cli_status_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.operand) return ESPL_FAIL(ESPL_USAGE, "status: a run directory or SWEEP.json is missing");
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? status_show(&o) : ESPL_OK);
}
