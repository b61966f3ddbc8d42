/* espalier prune: the configuration, read by rank 0 and shared, and what is to be done with it. */
#include "cli.h"

#include "espalier/config/config.h"
#include "espalier/run/job.h"

static espl_status check_options(const cli_options *o) {
    if (o->plan_ranks && !o->dry_run)
        return ESPL_FAIL(ESPL_USAGE, "--ranks belongs to --dry-run: mpirun -n sets the number of ranks of a run");
    if (o->resume && o->dry_run) return ESPL_FAIL(ESPL_USAGE, "--resume and --dry-run exclude each other");
    return ESPL_OK;
}

/* File and --set over the defaults. What is only printed may be incomplete. */
static espl_status read_config(const cli_options *o, espl_config *config) {
    if (o->positional) ESPL_TRY(espl_config_read(o->positional, config));
    for (int i = 0; i < o->set.n; i++) ESPL_TRY(espl_config_set(o->set.values[i], config));
    if (o->print_config) return ESPL_OK;
    ESPL_TRY(espl_config_check(config));
    return espl_config_check_files(config);
}

static espl_status print_config(const espl_config *config) {
    espl_str text = {0};
    espl_status st = espl_config_print(config, ESPL_CONFIG_COMMENTED, &text);
    if (st == ESPL_OK) fwrite(text.data, 1, (size_t)text.len, stdout);
    espl_str_free(&text);
    return st;
}

static espl_status prune(espl_comm *c, const cli_options *o, espl_config *config) {
    bool root = espl_comm_rank(c) == 0;
    ESPL_TRY(espl_comm_agree(c, root ? read_config(o, config) : ESPL_OK));
    if (o->print_config) return espl_comm_agree(c, root ? print_config(config) : ESPL_OK);
    ESPL_TRY(espl_config_broadcast(c, config));
    return o->dry_run ? espl_run_dry(c, config, o->plan_ranks) : espl_run_prune(c, config, o->resume);
}

espl_status cli_prune(espl_comm *c, const cli_options *o) {
    espl_config config;
    ESPL_TRY(check_options(o));
    ESPL_TRY(espl_comm_agree(c, espl_config_init(&config)));
    espl_status st = prune(c, o, &config);
    espl_config_free(&config);
    return st;
}
