/* SPDX-License-Identifier: Apache-2.0 */
/* espalier prune: reads the configuration on rank 0, shares it, and runs, plans or prints it. */
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"
#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/config/config.h"
#include "espalier/run/job.h"
#include "espalier/run/stop.h"
#include "options.h"

typedef struct prune_options {
    cli_shared shared;
    bool resume, dry_run, print_config, print_schema, print_prompt;
    espl_dry_options plan;
} prune_options;

enum { CLI_CORES_MAX = 4096 };

enum {
    KEY_RESUME = CLI_KEY_FIRST,
    KEY_DRY_RUN,
    KEY_RANKS,
    KEY_NODES,
    KEY_CORES,
    KEY_DOMAINS,
    KEY_MEMORY,
    KEY_MACHINE,
    KEY_CALIBRATE,
    KEY_GFLOPS,
    KEY_BANDWIDTH,
    KEY_LATENCY,
    KEY_PRINT_CONFIG,
    KEY_PRINT_SCHEMA,
    KEY_PRINT_PROMPT
};

static const struct argp_option prune_argp_options[] = {
    {NULL, 0, NULL, 0, "Configuration:", CLI_GROUP_COMMAND}, /* with --set */
    {"print-config", KEY_PRINT_CONFIG, NULL, 0,
     "print the effective configuration with every option's meaning, and end; without CONFIG.json: the defaults",
     CLI_GROUP_COMMAND},
    {"print-schema", KEY_PRINT_SCHEMA, NULL, 0, "print a JSON Schema of configuration files, and end",
     CLI_GROUP_COMMAND},
    {NULL, 0, NULL, 0, "Run:", CLI_GROUP_COMMAND + 1},
    {"resume", KEY_RESUME, NULL, 0, "continue from the newest complete checkpoint of run.dir; without one, start anew",
     CLI_GROUP_COMMAND + 1},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "check everything, print layer-to-rank map, memory and a simulated time, and end",
     CLI_GROUP_COMMAND + 1},
    {"print-prompt", KEY_PRINT_PROMPT, NULL, 0,
     "print what a language model would read in the next iteration of the run in run.dir, and end; CONFIG.json may be "
     "the run directory",
     CLI_GROUP_COMMAND + 1},
    {NULL, 0, NULL, 0, "Plan, with --dry-run:", CLI_GROUP_COMMAND + 2},
    {"ranks", KEY_RANKS, "N", 0, "plan for N ranks (default: those running)", CLI_GROUP_COMMAND + 2},
    {"nodes", KEY_NODES, "N", 0, "find the fastest grid of ranks on N nodes, and print its #SBATCH lines",
     CLI_GROUP_COMMAND + 2},
    {"cores", KEY_CORES, "N", 0, "of each node", CLI_GROUP_COMMAND + 2},
    {"domains", KEY_DOMAINS, "N", 0,
     "NUMA domains of each node, which no rank leaves (default: as --machine or this one)", CLI_GROUP_COMMAND + 2},
    {"memory", KEY_MEMORY, "GIB", 0, "of each node: grids that need more are left out", CLI_GROUP_COMMAND + 2},
    {"calibrate", KEY_CALIBRATE, "FILE", 0, "measure this machine and write its speeds to FILE; no plan is made",
     CLI_GROUP_COMMAND + 2},
    {"machine", KEY_MACHINE, "FILE", 0, "plan for the machine of which --calibrate wrote FILE", CLI_GROUP_COMMAND + 2},
    {"gflops-per-core", KEY_GFLOPS, "X", 0, "plan for cores of this speed", CLI_GROUP_COMMAND + 2},
    {"bandwidth", KEY_BANDWIDTH, "GB/S", 0, "between two ranks (default: 5)", CLI_GROUP_COMMAND + 2},
    {"latency", KEY_LATENCY, "US", 0, "microseconds between two ranks (default: 5)", CLI_GROUP_COMMAND + 2},
    {0}};

static error_t prune_parse(int key, char *value, struct argp_state *state) {
    prune_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_RESUME:
        o->resume = true;
        return 0;
    case KEY_DRY_RUN:
        o->dry_run = true;
        return 0;
    case KEY_RANKS:
        return cli_take_integer("ranks", value, 1, CLI_RANKS_MAX, &o->plan.ranks);
    case KEY_NODES:
        return cli_take_integer("nodes", value, 1, CLI_RANKS_MAX, &o->plan.nodes);
    case KEY_CORES:
        return cli_take_integer("cores", value, 1, CLI_CORES_MAX, &o->plan.cores);
    case KEY_DOMAINS:
        return cli_take_integer("domains", value, 1, CLI_CORES_MAX, &o->plan.domains);
    case KEY_MEMORY:
        return cli_take_real("memory", value, 0.001, 1e6, &o->plan.memory_gib);
    case KEY_MACHINE:
        o->plan.machine = value;
        return 0;
    case KEY_CALIBRATE:
        o->plan.calibrate = value;
        return 0;
    case KEY_GFLOPS:
        return cli_take_real("gflops-per-core", value, 1e-3, 1e6, &o->plan.gflops_per_core);
    case KEY_BANDWIDTH:
        return cli_take_real("bandwidth", value, 1e-3, 1e6, &o->plan.bandwidth_gb_s);
    case KEY_LATENCY:
        return cli_take_real("latency", value, 1e-3, 1e6, &o->plan.latency_us);
    case KEY_PRINT_CONFIG:
        o->print_config = true;
        return 0;
    case KEY_PRINT_SCHEMA:
        o->print_schema = true;
        return 0;
    case KEY_PRINT_PROMPT:
        o->print_prompt = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child prune_children[] = {
    {&cli_argp_set, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0}, {0}};
const struct argp cli_prune_argp = {
    .options = prune_argp_options,
    .parser = prune_parse,
    .args_doc = "CONFIG.json",
    .doc = "Prunes a model: profiles it, asks the agent where to cut, prunes, judges, and keeps the step or rolls it "
           "back, until the target is reached.\vCONFIG.json is JSON with comments; - is standard input. The run "
           "directory receives checkpoints, events and summary.json (docs/run.md).",
    .children = prune_children};

/* Rank 0 only. Reads a configuration, or that of the run in a directory, which may have been moved. */
static espl_status prune_read_operand(const char *path, espl_config *config) {
    espl_str manifest = {0};
    espl_status st;
    espl_str_printf(&manifest, "%s/manifest.json", path);
    ESPL_CHECK(st, done, espl_str_status(&manifest));
    if (!espl_file_exists(manifest.data)) {
        st = espl_config_read(path, config);
        goto done;
    }
    ESPL_CHECK(st, done, espl_config_read_recorded(manifest.data, config));
    espl_mem_free(&config->run_dir);
    st = espl_str_dup(&config->run_dir, path, "configuration");
done:
    espl_str_free(&manifest);
    return st;
}

/* Rank 0 only. Reads the file, if any, and --set over the defaults in *config. A configuration that is only printed may
 * be incomplete: --print-config is how users write one. */
static espl_status prune_read_config(const prune_options *o, espl_config *config) {
    if (o->shared.operand)
        ESPL_TRY(o->print_prompt ? prune_read_operand(o->shared.operand, config)
                                 : espl_config_read(o->shared.operand, config));
    for (int i = 0; i < o->shared.n_set; i++) ESPL_TRY(espl_config_set(o->shared.set[i], config));
    if (o->print_config || o->print_schema) return ESPL_OK;
    ESPL_TRY(espl_config_check(config));
    ESPL_TRY(espl_config_locate_model(config));
    return espl_config_check_files(config);
}

/* Options of a plan go with --dry-run, and with each other. */
static espl_status prune_check_plan(const prune_options *o) {
    const espl_dry_options *p = &o->plan;
    const struct {
        bool given;
        const char *name;
    } options[] = {{p->nodes > 0, "nodes"},
                   {p->cores > 0, "cores"},
                   {p->domains > 0, "domains"},
                   {p->memory_gib > 0, "memory"},
                   {p->machine, "machine"},
                   {p->calibrate, "calibrate"},
                   {p->gflops_per_core > 0, "gflops-per-core"},
                   {p->bandwidth_gb_s > 0, "bandwidth"},
                   {p->latency_us > 0, "latency"}};
    if (p->ranks && !o->dry_run)
        return ESPL_FAIL(ESPL_USAGE, "--ranks belongs to --dry-run: mpirun -n sets the number of ranks of a run");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given && !o->dry_run) return ESPL_FAIL(ESPL_USAGE, "--%s belongs to --dry-run", options[i].name);
    if ((p->nodes > 0) != (p->cores > 0)) return ESPL_FAIL(ESPL_USAGE, "--nodes and --cores belong together");
    if (p->domains > 0 && p->nodes == 0) return ESPL_FAIL(ESPL_USAGE, "--domains belongs to --nodes");
    if (p->domains > 0 && p->cores % p->domains != 0)
        return ESPL_FAIL(ESPL_USAGE, "--domains is %" PRId64 ", expected a divisor of --cores, %" PRId64, p->domains,
                         p->cores);
    if (p->memory_gib > 0 && p->nodes == 0) return ESPL_FAIL(ESPL_USAGE, "--memory belongs to --nodes");
    if (p->ranks && p->nodes) return ESPL_FAIL(ESPL_USAGE, "--ranks and --nodes exclude each other");
    return ESPL_OK;
}

espl_status cli_prune(espl_comm *c, int argc, char **argv) {
    prune_options o = {0};
    espl_config config;
    espl_str text = {0};
    bool root = espl_comm_rank(c) == 0;
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_prune_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (o.print_config && o.print_schema)
        return ESPL_FAIL(ESPL_USAGE, "--print-config and --print-schema exclude each other");
    if (!o.shared.operand && !o.print_config && !o.print_schema)
        return ESPL_FAIL(ESPL_USAGE, "prune: CONFIG.json is missing");
    ESPL_TRY(prune_check_plan(&o));
    if (o.resume && o.dry_run) return ESPL_FAIL(ESPL_USAGE, "--resume and --dry-run exclude each other");
    if (o.print_prompt && (o.resume || o.dry_run || o.print_config || o.print_schema))
        return ESPL_FAIL(ESPL_USAGE, "--print-prompt excludes --resume, --dry-run, --print-config and --print-schema");

    ESPL_TRY(espl_comm_agree(c, espl_config_init(&config)));
    ESPL_CHECK(st, done, espl_comm_agree(c, root ? prune_read_config(&o, &config) : ESPL_OK));
    if (o.print_config || o.print_schema) {
        if (root)
            st = o.print_schema ? espl_config_print_schema(&text)
                                : espl_config_print(&config, ESPL_CONFIG_COMMENTED, &text);
        if (root && st == ESPL_OK) fwrite(text.data, 1, (size_t)text.len, stdout);
        st = espl_comm_agree(c, st);
        goto done;
    }
    /* Only rank 0 reads files: they may differ between machines. */
    ESPL_CHECK(st, done, espl_config_broadcast(c, &config));
    if (o.dry_run || o.print_prompt) espl_stop_unwatch(); /* they have nothing to save */
    if (o.print_prompt) {
        st = espl_run_prompt(c, &config, &text);
        if (root && st == ESPL_OK) fwrite(text.data, 1, (size_t)text.len, stdout);
        goto done;
    }
    st = o.dry_run ? espl_run_dry(c, &config, &o.plan) : espl_run_prune(c, &config, o.resume);
done:
    espl_str_free(&text);
    espl_config_free(&config);
    return st;
}
