/* espalier sweep: a grid of runs, listed, run, or handed to Slurm. */
#include "cli.h"

#include <string.h>

#include "espalier/config/config.h"
#include "espalier/sweep.h"

static espl_status check_options(const cli_options *o) {
    if (o->list + o->slurm + o->print_config > 1)
        return ESPL_FAIL(ESPL_USAGE, "--list, --slurm and --print-config exclude each other");
    if (o->only && (o->list || o->slurm)) return ESPL_FAIL(ESPL_USAGE, "--only belongs to a run, or to --print-config");
    if (o->print_config && !o->only) return ESPL_FAIL(ESPL_USAGE, "--print-config needs --only: whose configuration?");
    return o->positional ? ESPL_OK : ESPL_FAIL(ESPL_USAGE, "sweep: SWEEP.json is missing");
}

static espl_status open_sweep(const cli_options *o, espl_sweep **s) {
    ESPL_TRY(espl_sweep_read(o->positional, s));
    for (int i = 0; i < o->set.n; i++) ESPL_TRY(espl_sweep_set(*s, o->set.values[i]));
    if (o->only > espl_sweep_count(*s))
        return ESPL_FAIL(ESPL_USAGE, "--only %lld: there are %lld runs", (long long)o->only,
                         (long long)espl_sweep_count(*s));
    return espl_sweep_check(*s);
}

/* A word as the shell takes it: in single quotes. */
static void put_quoted(espl_str *s, const char *word) {
    espl_str_puts(s, "'");
    for (const char *p = word; *p; p++)
        if (*p == '\'')
            espl_str_puts(s, "'\\''");
        else
            espl_str_put(s, p, 1);
    espl_str_puts(s, "'");
}

/* The command that submits what is still to be done. */
static espl_status put_submission(const espl_sweep *s, const cli_options *o, espl_str *out) {
    espl_str numbers = {0};
    espl_status st = espl_sweep_unfinished(s, &numbers);
    if (st == ESPL_OK && numbers.len == 0) {
        ESPL_INFO("%s: nothing to submit, every run is finished", o->positional);
    } else if (st == ESPL_OK) {
        espl_str_printf(out, "sbatch --array=%s jobs/sweep.sbatch ", numbers.data);
        put_quoted(out, o->positional);
        for (int i = 0; i < o->set.n; i++) {
            espl_str_puts(out, " --set ");
            put_quoted(out, o->set.values[i]);
        }
        espl_str_puts(out, "\n");
    }
    espl_str_free(&numbers);
    return out->failed ? espl_str_status(out) : st;
}

static espl_status put_config(const espl_sweep *s, const cli_options *o, espl_str *out) {
    espl_config config;
    ESPL_TRY(espl_config_init(&config));
    espl_status st = espl_sweep_config(s, o->only - 1, &config);
    if (st == ESPL_OK) st = espl_config_print(&config, ESPL_CONFIG_COMMENTED, out);
    espl_config_free(&config);
    return st;
}

/* Rank 0 only. */
static espl_status show(const espl_sweep *s, const cli_options *o) {
    espl_str text = {0};
    espl_status st = o->list    ? espl_sweep_list(s, &text)
                     : o->slurm ? put_submission(s, o, &text)
                                : put_config(s, o, &text);
    if (st == ESPL_OK && text.len > 0) fwrite(text.data, 1, (size_t)text.len, stdout);
    espl_str_free(&text);
    return st;
}

espl_status cli_sweep(espl_comm *c, const cli_options *o) {
    espl_sweep *s = NULL;
    bool root = espl_comm_rank(c) == 0, shown = o->list || o->slurm || o->print_config;
    ESPL_TRY(check_options(o));
    espl_status st = espl_comm_agree(c, root ? open_sweep(o, &s) : ESPL_OK);
    if (st == ESPL_OK && shown) st = espl_comm_agree(c, root ? show(s, o) : ESPL_OK);
    if (st == ESPL_OK && !shown) st = espl_sweep_run(c, s, o->only - 1);
    if (s) espl_sweep_free(&s);
    return st;
}
