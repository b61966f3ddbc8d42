/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --dry-run: what a job would take. It reads all inputs, so missing files are found now, but of the weights at most the
 * headers. Bytes come from the rooms that allocate them, times from a simulation of the schedule (plan.h).
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "agent_host.h"
#include "arrange.h"
#include "espalier/model/shape.h"
#include "espalier/prune/linear.h"
#include "espalier/run/job.h"
#include "espalier/run/layout.h"
#include "espalier/run/node_memory.h"
#include "espalier/tensor/linear.h"
#include "inputs.h"
#include "plan.h"

static const double GIB = 1073741824, MIB = 1048576;

/* On rank 0. */
typedef struct dry_run {
    const espl_job *j;
    const espl_config *o;
    const espl_dry_options *d;
    espl_plan_work work;
    espl_machine machine;
    espl_topology here;         /* this node */
    int64_t domains;            /* NUMA domains of a node that is planned for */
    const char *domains_source; /* who says so */
    espl_plan_grid grid;
    espl_range *slices; /* [grid.stages] */
    espl_plan_time time;
} dry_run;

/* ---------------------------------------------------------------- memory */

/* The numbers of the grid, at a stage. */
static espl_grid dry_grid(const dry_run *f, int64_t stage) {
    return (espl_grid){.replicas = (int)f->grid.replicas,
                       .stages = (int)f->grid.stages,
                       .members = (int)f->grid.members,
                       .stage = (int)stage};
}

/* The slices of the grid. */
static espl_status dry_lay_out(dry_run *f) {
    int stages = (int)f->grid.stages;
    f->work.needs.threads = (int)f->grid.threads;
    espl_mem_free(&f->slices);
    ESPL_TRY(espl_mem_alloc(&f->slices, stages, sizeof *f->slices, "slices"));
    return espl_model_partition(f->work.config, f->work.needs.options.context, stages, f->slices);
}

/* The fullest node of so many ranks: replicas share the weights that they map. */
static espl_status dry_node_bytes(const dry_run *f, int64_t ranks_per_node, double *bytes) {
    int64_t rank_bytes, ranks = espl_min_i64(ranks_per_node, f->grid.replicas * f->grid.stages);
    int64_t weights = espl_model_parameters(f->work.config) * f->work.needs.bytes_per_weight;
    const espl_grid grid = dry_grid(f, 0);
    ESPL_TRY(espl_footprint_rank(&f->work.needs, &grid, &rank_bytes));
    *bytes = (double)espl_node_needs(weights, rank_bytes, (int)ranks, (int)f->grid.stages);
    return ESPL_OK;
}

static const char *dry_megabytes(int64_t bytes, char *buf) {
    snprintf(buf, 32, "%.1f", (double)bytes / MIB);
    return buf;
}

static void dry_print_memory(const dry_run *f) {
    printf("MiB per rank, %" PRId64 " thread(s) each%s:\n", f->grid.threads,
           f->grid.replicas > 1 ? ", of each replica" : "");
    printf("%5s %13s %10s %8s %12s %12s %9s %9s %9s\n", "rank", "layers", "weights", "masks", "activations",
           f->work.oneshot ? "method" : "calibration", "KV cache", "other", "total");
    for (int64_t r = 0; r < f->grid.stages; r++) {
        const espl_footprint *needs = &f->work.needs;
        espl_model_memory m = espl_footprint_model(needs, f->slices[r]);
        int64_t masks = espl_masks_bytes(f->work.config, f->slices[r]), other = m.workspace + m.tables + m.libraries;
        const espl_grid grid = dry_grid(f, r);
        int64_t pruning = espl_footprint_pruning(needs, f->slices[r], &grid);
        char layers[48], b[7][32];
        snprintf(layers, sizeof layers, "%" PRId64 "-%" PRId64 "%s", f->slices[r].first, f->slices[r].last - 1,
                 r == f->grid.stages - 1 ? "+head" : "");
        printf("%5" PRId64 " %13s %10s %8s %12s %12s %9s %9s %9s\n", r, layers, dry_megabytes(m.weights, b[0]),
               dry_megabytes(masks, b[1]), dry_megabytes(m.activations, b[2]), dry_megabytes(pruning, b[3]),
               dry_megabytes(m.kv_cache, b[4]), dry_megabytes(other, b[5]),
               dry_megabytes(m.weights + masks + m.activations + pruning + m.kv_cache + other, b[6]));
    }
}

/* The model of backend local, which is opened beside the one that is pruned: on every rank a slice, on rank 0 what a
 * reply needs. */
static espl_status dry_print_agent(const dry_run *f) {
    espl_chat_options chat = espl_agent_host_chat_options(f->o);
    espl_model_options options = {0};
    espl_model_config c;
    espl_range *slices = NULL;
    int64_t weights = 0, other = 0;
    char b[2][32];
    espl_status st;
    if (f->work.oneshot || f->o->agent_backend != ESPL_BACKEND_LOCAL) return ESPL_OK;
    ESPL_TRY(espl_model_config_read(espl_agent_host_model_path(f->o), &c));
    espl_chat_need(&chat, &options);
    ESPL_CHECK(st, done, espl_mem_alloc(&slices, f->grid.stages, sizeof *slices, "slices"));
    ESPL_CHECK(st, done, espl_model_partition(&c, options.context, (int)f->grid.stages, slices));
    for (int64_t r = 0; r < f->grid.stages; r++) {
        espl_model_memory m =
            espl_model_memory_of(&c, &options, slices[r], (int)f->grid.threads, f->work.needs.bytes_per_weight);
        weights = espl_max_i64(weights, m.weights);
        other = espl_max_i64(other, m.activations + m.kv_cache + m.workspace + m.tables);
    }
    printf("the agent's model beside it, on each rank at most: weights %s MiB%s, a context of %" PRId64
           " tokens %s MiB\n",
           dry_megabytes(weights, b[0]), strcmp(f->o->agent_model_path, "self") == 0 ? " (mapped already)" : "",
           options.context, dry_megabytes(other + espl_chat_bytes(&c), b[1]));
done:
    espl_mem_free(&slices);
    espl_model_config_free(&c);
    return st;
}

/* ------------------------------------------------------------------ goal */

/* Weights that the job prunes. An N:M pattern fixes them, whatever the target. */
static double dry_pruned_weights(const dry_run *f) {
    double pruned = 0;
    int64_t out, in;
    bool n_m = espl_pattern_is_n_m(f->work.needs.method.pattern);
    for (int64_t i = 0; i < espl_model_linears_of(f->work.config); i++) {
        espl_model_linear_shape(f->work.config, espl_linear_kind_of(espl_model_layout(f->work.config), i), &out, &in);
        if (espl_method_cap(&f->work.needs.method, i) == 0) continue;
        pruned += n_m ? (double)espl_prune_pattern_count(&f->work.needs.method.pattern, out, in) : (double)(out * in);
    }
    return n_m ? pruned : f->work.needs.method.target * pruned;
}

static void dry_print_goal(const dry_run *f) {
    const espl_config *o = f->o;
    const espl_model_config *c = f->work.config;
    char name[ESPL_PATTERN_NAME_MAX];
    int64_t prunable = c->layers * espl_model_layer_linear_weights(c);
    double pruned = dry_pruned_weights(f);
    printf("%s: %s, %" PRId64 " layers, %" PRId64 " prunable weights of %" PRId64 " parameters\n", o->model_path,
           c->family->type, c->layers, prunable, espl_model_parameters(c));
    if (f->work.oneshot)
        printf("one shot: score %s, allocation %s, pattern %s, update %s\n", espl_score_name(o->prune_score),
               espl_allocation_name(o->prune_allocation), o->prune_pattern, espl_update_name(o->prune_update));
    if (espl_pattern_is_n_m(f->work.needs.method.pattern))
        printf("pattern %s: %.0f weights pruned, %.4g of the linears (prune.target is ignored)\n",
               espl_pattern_name(f->work.needs.method.pattern, name), pruned, pruned / (double)prunable);
    else
        printf("target %.4g: %.0f weights pruned\n", f->work.needs.method.target, pruned);
    if (*o->prune_milestones) printf("measured on the way, as in the report: at %s\n", o->prune_milestones);
    printf("\n");
}

/* ------------------------------------------------------------------ time */

/* Phases of seconds are compared with each other; what is longer is for people. */
static const char *dry_duration(double seconds, char buf[32]) {
    enum { EXACT = 100 };
    if (seconds < EXACT)
        snprintf(buf, 32, "%.3g s", seconds);
    else
        espl_clock_format(seconds, buf, 32);
    return buf;
}

static void dry_print_phase(const char *name, double seconds, double iteration) {
    char text[32];
    if (seconds > 0) printf("  %-24s %10s %4.0f %%\n", name, dry_duration(seconds, text), 100 * seconds / iteration);
}

static void dry_print_time(const dry_run *f) {
    const espl_plan_time *t = &f->time;
    int64_t ranks = f->grid.replicas * f->grid.stages, slow = t->pass.busiest;
    char a[32], b[32], c[32];
    char team[64] = "";
    if (f->grid.members > 1) snprintf(team, sizeof team, ", %" PRId64 " replicas to a window", f->grid.members);
    printf("\n%" PRId64 " ranks of %" PRId64 " threads: %" PRId64 " replica(s) of %" PRId64
           " stage(s)%s, %.1f GFLOP/s a rank (%s)\n",
           ranks, f->grid.threads, f->grid.replicas, f->grid.stages, team,
           1e-9 * espl_machine_flops(&f->machine, f->grid.threads),
           f->d->gflops_per_core > 0 ? "--gflops-per-core"
           : f->d->machine           ? f->d->machine
                                     : "measured here");
    if (f->grid.threads > f->machine.speeds[f->machine.n - 1].threads)
        printf("note: no more than %" PRId64 " thread(s) were measured: each further one is taken to add as much\n",
               f->machine.speeds[f->machine.n - 1].threads);
    printf("%s: about %s\n", f->work.oneshot ? "pruning in one shot" : "one iteration", dry_duration(t->iteration, a));
    dry_print_phase("profile", t->profile, t->iteration);
    dry_print_phase("pruning", t->pruning, t->iteration);
    dry_print_phase("judge", t->judge, t->iteration);
    dry_print_phase("probes", t->probes, t->iteration);
    dry_print_phase("update, distillation", t->recovery, t->iteration);
    dry_print_phase("checkpoint", t->checkpoint, t->iteration);
    if (f->grid.stages > 1)
        printf("slowest: rank %" PRId64 " of a replica (layers %" PRId64 "-%" PRId64
               "%s), which computes %.0f %% of the "
               "time; the mean rank %.0f %%\n",
               slow, f->slices[slow].first, f->slices[slow].last - 1, slow == f->grid.stages - 1 ? " and the head" : "",
               100 * t->pass.busy / fmax(t->pass.seconds, 1e-12), 100 * t->pass.mean / fmax(t->pass.seconds, 1e-12));
    dry_duration(t->prepare, a);
    dry_duration(t->finish, b);
    dry_duration(t->total, c);
    if (f->work.oneshot)
        printf("before: about %s; report: about %s; in all about %s\n", a, b, c);
    else
        printf("before the first: about %s; then about %.0f iterations; report%s: about %s; in all about %s%s\n", a,
               t->iterations, espl_config_distills(f->o) ? " and distillation" : "", b, c,
               f->o->agent_backend == ESPL_BACKEND_POLICY ? "" : ", without what the agent's replies take");
    if (f->work.n_milestones > 0)
        printf("%" PRId64 " milestone(s) on the way, in that: about %s%s\n", f->work.n_milestones,
               dry_duration(t->milestones, a), f->o->run_export_milestones ? " with their exports" : "");
}

/* ---------------------------------------------------------------- search */

/* Ranks that one node holds with so many threads each. */
static int64_t dry_ranks_per_node(const dry_run *f, int64_t threads) { return f->d->cores / threads; }

/* The NUMA domains of a node that is planned for: what is told of it, or those of this node if it has as many cores. */
static void dry_take_domains(dry_run *f) {
    const espl_dry_options *d = f->d;
    const struct {
        int64_t cores, domains;
        const char *source;
    } known[] = {{d->cores, d->domains, "--domains"},
                 {f->machine.cores, f->machine.domains, d->machine},
                 {f->here.cores, f->here.domains, "as this one has"}};
    f->domains = 1;
    f->domains_source = "unknown: --domains tells it";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].domains == 0 || known[i].cores != d->cores || d->cores % known[i].domains != 0) continue;
        f->domains = known[i].domains;
        f->domains_source = known[i].source;
        return;
    }
}

/* Simulates f->grid, if it fits the memory of a node, and keeps it in *best if it is faster than all before. */
static espl_status dry_try(dry_run *f, int64_t per_node, espl_plan_grid *best, double *fastest) {
    if (f->d->memory_gib > 0) {
        double bytes;
        f->work.needs.threads = (int)f->grid.threads;
        ESPL_TRY(dry_node_bytes(f, per_node, &bytes));
        if (bytes > f->d->memory_gib * GIB) return ESPL_OK;
    }
    ESPL_TRY(espl_plan_simulate(&f->work, &f->machine, f->grid, &f->time));
    if (f->time.total >= *fastest) return ESPL_OK;
    *fastest = f->time.total;
    *best = f->grid;
    return ESPL_OK;
}

/* Tries every number of threads that divides the cores of a NUMA domain, every number of stages, and every size of a
 * team up to the blocks of a window. Leaves the fastest grid that fits in f->grid; of equally fast ones the first: few
 * threads, then few stages, then small teams. */
static espl_status dry_search(dry_run *f) {
    espl_plan_grid best = {0};
    int64_t window = f->o->calibration_window, block = espl_tensor_block(window),
            largest = (window + block - 1) / block;
    double fastest = INFINITY;
    int64_t cores = f->d->cores / f->domains;
    if (f->work.oneshot || f->work.config->experts > 0) largest = 1; /* teams would do nothing */
    for (int64_t threads = 1; threads <= cores; threads++) {
        if (cores % threads != 0) continue;
        int64_t per_node = dry_ranks_per_node(f, threads), ranks = f->d->nodes * per_node;
        for (int64_t stages = 1; stages <= espl_min_i64(ranks, f->work.config->layers); stages++)
            for (int64_t members = 1; members <= espl_min_i64(largest, ranks / stages); members++) {
                f->grid = (espl_plan_grid){.replicas = ranks / stages / members * members,
                                           .stages = stages,
                                           .members = members,
                                           .threads = threads};
                ESPL_TRY(dry_try(f, per_node, &best, &fastest));
            }
    }
    if (!isfinite(fastest))
        return ESPL_FAIL(ESPL_CONFIG, "no grid of ranks fits %g GiB a node: use more nodes, or larger ones",
                         f->d->memory_gib);
    f->grid = best;
    return ESPL_OK;
}

/* How the launchers give each rank its cores, in one NUMA domain. */
static espl_status dry_print_launchers(const dry_run *f, int64_t ranks, int64_t per_node) {
    espl_str text = {0};
    espl_str_printf(&text,
                    "srun --mpi=pmix --ntasks=%" PRId64 " --cpus-per-task=%" PRId64
                    " --cpu-bind=cores --distribution=block:block\n",
                    ranks, f->grid.threads);
    espl_layout_put_mpirun(ranks, per_node, f->grid.threads, f->domains, &text);
    if (!text.failed) printf("%s\n", text.data);
    espl_status st = espl_str_status(&text);
    espl_str_free(&text);
    return st;
}

/* The recommended layout of this node, for a plan that is of no other. */
static espl_status dry_print_here(const dry_run *f) {
    espl_str text = {0};
    espl_layout_put_node(&f->here, &text);
    espl_str_puts(&text, "; recommended: ");
    espl_layout_put_recommendation(&f->here, &text);
    if (!text.failed) printf("this node: %s\n", text.data);
    espl_status st = espl_str_status(&text);
    espl_str_free(&text);
    return st;
}

static espl_status dry_print_job(const dry_run *f) {
    enum { MINUTE = 60, HOUR = 3600, SLACK = 2 };
    int64_t ranks = f->grid.replicas * f->grid.stages, per_node = dry_ranks_per_node(f, f->grid.threads);
    int64_t nodes = (ranks + per_node - 1) / per_node;
    int64_t minutes = (int64_t)ceil(SLACK * f->time.total / MINUTE / 10) * 10;
    double bytes;
    ESPL_TRY(dry_node_bytes(f, per_node, &bytes));
    printf("fullest node: %.1f GiB; %.2f node-hours\n", bytes / GIB, (double)nodes * f->time.total / HOUR);
    printf("a node: %" PRId64 " cores, %" PRId64 " NUMA domain(s) (%s)\n", f->d->cores, f->domains, f->domains_source);
    printf("\n#SBATCH --nodes=%" PRId64 "\n#SBATCH --ntasks=%" PRId64 "\n#SBATCH --ntasks-per-node=%" PRId64
           "\n#SBATCH --cpus-per-task=%" PRId64 "\n#SBATCH --time=%02" PRId64 ":%02" PRId64 ":00\n",
           nodes, ranks, espl_min_i64(per_node, ranks), f->grid.threads, minutes / 60, minutes % 60);
    printf("--set run.replicas=%" PRId64 " --set run.team=%" PRId64 "\n", f->grid.replicas, f->grid.members);
    return dry_print_launchers(f, ranks, espl_min_i64(per_node, ranks));
}

/* ------------------------------------------------------------------- run */

/* The machine to plan for: that of a file, with what the command line says otherwise. Without either it is this one,
 * whose speed is part of the work. */
static espl_status dry_take_machine(dry_run *f) {
    const double GIGA = 1e9, MICRO = 1e-6;
    const espl_dry_options *d = f->d;
    f->machine = espl_machine_unknown();
    if (d->machine) {
        espl_status st = espl_machine_read(d->machine, &f->machine);
        if (st == ESPL_FORMAT) st = ESPL_FAIL(ESPL_CONFIG, "--machine: %s", espl_base_error_text()); /* as --set is */
        ESPL_TRY(st);
    }
    if (d->gflops_per_core > 0) {
        f->machine.n = 1;
        f->machine.speeds[0] = (espl_machine_speed){.threads = 1, .flops = d->gflops_per_core * GIGA};
    }
    if (d->bandwidth_gb_s > 0) f->machine.bandwidth = d->bandwidth_gb_s * GIGA;
    if (d->latency_us > 0) f->machine.latency = d->latency_us * MICRO;
    return ESPL_OK;
}

/* Rank 0 only. */
static espl_status dry_run_local(const espl_job *j, const espl_dry_options *d, int64_t ranks) {
    dry_run f = {.j = j, .o = j->o, .d = d};
    espl_grid grid;
    char b[32];
    espl_status st;
    ESPL_CHECK(st, done, espl_plan_count_work(j, &f.work));
    ESPL_CHECK(st, done, dry_take_machine(&f));
    espl_topology_read(&f.here);
    dry_take_domains(&f);
    ESPL_CHECK(st, done, espl_plan_measure_speed(j, &f.work.speed));
    if (f.machine.n == 0) { /* this one, with the threads that it has now */
        f.machine.n = 1;
        f.machine.speeds[0] = (espl_machine_speed){.threads = espl_tensor_threads(), .flops = f.work.speed.flops};
    }
    ESPL_CHECK(st, done, espl_arrange_choose(j, (int)ranks, 1, &grid));
    f.grid = (espl_plan_grid){
        .replicas = grid.replicas, .stages = grid.stages, .members = grid.members, .threads = espl_tensor_threads()};
    if (d->nodes > 0) ESPL_CHECK(st, done, dry_search(&f));
    ESPL_CHECK(st, done, dry_lay_out(&f));
    ESPL_CHECK(st, done, espl_plan_simulate(&f.work, &f.machine, f.grid, &f.time));
    dry_print_goal(&f);
    dry_print_memory(&f);
    ESPL_CHECK(st, done, dry_print_agent(&f));
    printf("\na checkpoint: %s MiB, %" PRId64 " of them kept\n", dry_megabytes(f.work.checkpoint_bytes, b),
           j->o->run_keep);
    dry_print_time(&f);
    ESPL_DEBUG("an iteration of %.6g s, %.6g before the first, %.6g for milestones, %.6g after the last",
               f.time.iteration, f.time.prepare, f.time.milestones, f.time.finish);
    st = d->nodes > 0 ? dry_print_job(&f) : dry_print_here(&f);
done:
    espl_mem_free(&f.slices);
    espl_plan_work_free(&f.work);
    return st;
}

/* Collective. */
static espl_status dry_calibrate(const espl_job *j, const char *path) {
    espl_machine machine;
    espl_topology node;
    espl_str dir = {0};
    const char *slash = strrchr(path, '/');
    espl_status st;
    espl_str_printf(&dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, espl_str_status(&dir)));
    ESPL_CHECK(st, done, espl_plan_measure_machine(j->comm, &j->config, dir.data, &machine));
    espl_topology_read(&node);
    machine.cores = node.cores;
    machine.domains = node.domains;
    st = espl_comm_agree(j->comm, j->root ? espl_machine_write(&machine, path) : ESPL_OK);
    if (st == ESPL_OK && j->root) printf("%s: written; plan with --dry-run --machine %s\n", path, path);
done:
    espl_str_free(&dir);
    return st;
}

espl_status espl_run_dry(espl_comm *c, const espl_config *o, const espl_dry_options *d) {
    espl_job j = {.comm = c, .o = o, .root = espl_comm_rank(c) == 0};
    int64_t ranks = d->ranks > 0 ? d->ranks : espl_comm_size(c);
    espl_status st = espl_inputs_read(&j);
    if (st == ESPL_OK && d->calibrate)
        st = dry_calibrate(&j, d->calibrate);
    else if (st == ESPL_OK)
        st = espl_comm_agree(c, j.root ? dry_run_local(&j, d, ranks) : ESPL_OK);
    espl_inputs_free(&j);
    return st;
}
