/* SPDX-License-Identifier: Apache-2.0 */
/* espalier sweep: reads a grid of runs on rank 0 and lists it, hands it to Slurm, or runs it. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "espalier/base/log.h"
#include "espalier/base/str.h"
#include "espalier/config/config.h"
#include "espalier/sweep.h"
#include "options.h"

typedef struct sweep_options {
    cli_shared shared;
    bool list, slurm, print_config;
    int64_t only; /* number of a run, from 1; 0: all */
} sweep_options;

enum { KEY_LIST = CLI_KEY_FIRST, KEY_ONLY, KEY_SLURM, KEY_PRINT_CONFIG };

static const struct argp_option sweep_argp_options[] = {
    {NULL, 0, NULL, 0, "Configuration:", CLI_GROUP_COMMAND}, /* with --set */
    {"print-config", KEY_PRINT_CONFIG, NULL, 0,
     "print the effective configuration of run --only with every option's meaning, and end", CLI_GROUP_COMMAND},
    {NULL, 0, NULL, 0, "Runs:", CLI_GROUP_COMMAND + 1},
    {"list", KEY_LIST, NULL, 0, "print the runs with their numbers and states, and end", CLI_GROUP_COMMAND + 1},
    {"only", KEY_ONLY, "N", 0, "only run N of --list", CLI_GROUP_COMMAND + 1},
    {"slurm", KEY_SLURM, NULL, 0, "print the sbatch command that submits the unfinished runs, and end",
     CLI_GROUP_COMMAND + 1},
    {0}};

static error_t sweep_parse(int key, char *value, struct argp_state *state) {
    sweep_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_LIST:
        o->list = true;
        return 0;
    case KEY_ONLY:
        return cli_take_integer("only", value, 1, ESPL_SWEEP_MAX, &o->only);
    case KEY_SLURM:
        o->slurm = true;
        return 0;
    case KEY_PRINT_CONFIG:
        o->print_config = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child sweep_children[] = {
    {&cli_argp_set, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0}, {0}};
const struct argp cli_sweep_argp = {
    .options = sweep_argp_options,
    .parser = sweep_parse,
    .args_doc = "SWEEP.json",
    .doc = "Runs a grid of pruning jobs, one after another, or as an array of Slurm jobs.\vSWEEP.json is JSON with "
           "comments; - is standard input (docs/sweep.md). The same command continues an interrupted sweep.",
    .children = sweep_children};

/* Rank 0 only. Reads the sweep and checks every run of it before the first one starts. *s is the caller's to free, even
 * after a failure. */
static espl_status sweep_open(const sweep_options *o, espl_sweep **s) {
    ESPL_TRY(espl_sweep_read(o->shared.operand, s));
    for (int i = 0; i < o->shared.n_set; i++) ESPL_TRY(espl_sweep_set(*s, o->shared.set[i]));
    ESPL_TRY(espl_sweep_merge(*s));
    if (o->only > espl_sweep_count(*s))
        return ESPL_FAIL(ESPL_USAGE, "--only %" PRId64 ": there are %" PRId64 " runs", o->only, espl_sweep_count(*s));
    return espl_sweep_check(*s);
}

/* --------------------------------------------------------------- printing */

/* Appends a word in single quotes, as the shell takes it. */
static void shell_put_quoted(espl_str *s, const char *word) {
    espl_str_puts(s, "'");
    for (const char *p = word; *p; p++)
        if (*p == '\'')
            espl_str_puts(s, "'\\''");
        else
            espl_str_put(s, p, 1);
    espl_str_puts(s, "'");
}

/* Appends the directory with jobs/: ESPL_ROOT, or what lies around this program in an installation or a build. Appends
 * nothing if there is none. */
static void sweep_put_root(espl_str *s) {
    static const char *const places[] = {"share/espalier", "", ".."}; /* PREFIX/bin, ROOT/build, ROOT/build/release */
    const char *given = getenv("ESPL_ROOT");
    char program[PATH_MAX] = "", place[PATH_MAX * 2], root[PATH_MAX];
    if (given && *given) {
        espl_str_puts(s, given);
        return;
    }
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0 || !strrchr(program, '/')) return;
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(place, sizeof place, "%s/../%s/jobs/sweep.sbatch", program, places[i]);
        if (access(place, R_OK) != 0) continue;
        snprintf(place, sizeof place, "%s/../%s", program, places[i]);
        if (realpath(place, root)) espl_str_puts(s, root);
        return;
    }
}

/* --slurm: the command that submits the unfinished runs, from any directory: its paths are absolute, and those inside
 * the configurations are relative to the present one. Only the numbers of unfinished runs go into the array, so that
 * submitting again after a failure repeats nothing. */
static espl_status sweep_put_submission(const espl_sweep *s, const sweep_options *o, espl_str *out) {
    espl_str numbers = {0}, root = {0}, script = {0};
    char here[PATH_MAX], sweep[PATH_MAX];
    espl_status st;
    ESPL_CHECK(st, done, espl_sweep_unfinished(s, &numbers));
    if (numbers.len == 0) {
        ESPL_INFO("%s: nothing to submit, every run is finished", o->shared.operand);
        goto done;
    }
    if (!getcwd(here, sizeof here) || !realpath(o->shared.operand, sweep)) {
        st = ESPL_FAIL(ESPL_IO, "%s: %s", o->shared.operand, strerror(errno));
        goto done;
    }
    sweep_put_root(&root);
    ESPL_CHECK(st, done, espl_str_status(&root));
    if (root.len == 0) {
        st = ESPL_FAIL(ESPL_CONFIG, "jobs/sweep.sbatch is not where this program is: set ESPL_ROOT to the repository");
        goto done;
    }
    espl_str_printf(&script, "%s/jobs/sweep.sbatch", root.data);
    ESPL_CHECK(st, done, espl_str_status(&script));
    espl_str_printf(out, "sbatch --array=%s --chdir=", numbers.data);
    shell_put_quoted(out, here);
    espl_str_puts(out, " --export=ALL,ESPL_ROOT=");
    shell_put_quoted(out, root.data);
    espl_str_puts(out, " ");
    shell_put_quoted(out, script.data);
    espl_str_puts(out, " ");
    shell_put_quoted(out, sweep);
    for (int i = 0; i < o->shared.n_set; i++) {
        espl_str_puts(out, " --set ");
        shell_put_quoted(out, o->shared.set[i]);
    }
    espl_str_puts(out, "\n");
    st = espl_str_status(out);
done:
    espl_str_free(&numbers);
    espl_str_free(&root);
    espl_str_free(&script);
    return st;
}

/* Rank 0 only. Answers --list, --slurm or --print-config. */
static espl_status sweep_print(const espl_sweep *s, const sweep_options *o) {
    espl_config config = {0};
    espl_str text = {0};
    espl_status st;
    if (o->list) {
        ESPL_CHECK(st, done, espl_sweep_list(s, &text));
    } else if (o->slurm) {
        ESPL_CHECK(st, done, sweep_put_submission(s, o, &text));
    } else {
        ESPL_CHECK(st, done, espl_config_init(&config));
        ESPL_CHECK(st, done, espl_sweep_config(s, o->only - 1, &config));
        ESPL_CHECK(st, done, espl_config_print(&config, ESPL_CONFIG_COMMENTED, &text));
    }
    if (text.len > 0) fwrite(text.data, 1, (size_t)text.len, stdout);
done:
    espl_str_free(&text);
    espl_config_free(&config);
    return st;
}

espl_status cli_sweep(espl_comm *c, int argc, char **argv) {
    sweep_options o = {0};
    espl_sweep *s = NULL; /* on rank 0 */
    bool root = espl_comm_rank(c) == 0;
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_sweep_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.shared.operand) return ESPL_FAIL(ESPL_USAGE, "sweep: SWEEP.json is missing");
    if (o.list + o.slurm + o.print_config > 1)
        return ESPL_FAIL(ESPL_USAGE, "--list, --slurm and --print-config exclude each other");
    if (o.only && (o.list || o.slurm)) return ESPL_FAIL(ESPL_USAGE, "--only belongs to a run, or to --print-config");
    if (o.print_config && !o.only) return ESPL_FAIL(ESPL_USAGE, "--print-config needs --only: whose configuration?");

    ESPL_CHECK(st, done, espl_comm_agree(c, root ? sweep_open(&o, &s) : ESPL_OK));
    if (o.list || o.slurm || o.print_config)
        st = espl_comm_agree(c, root ? sweep_print(s, &o) : ESPL_OK);
    else
        st = espl_sweep_run(c, s, o.only - 1); /* numbers of users count from 1; -1: all runs */
done:
    if (s) espl_sweep_free(&s);
    return st;
}
