/* SPDX-License-Identifier: Apache-2.0 */
/* Notes on how ranks and threads lie on the cores of their nodes (layout.h). No result depends on it. */
#include "espalier/run/layout.h"

#include <inttypes.h>

#include "espalier/base/integer.h"
#include "espalier/tensor/workspace.h"

/* What a rank tells the first rank of its node. */
typedef struct layout_rank {
    int64_t rank, threads;
    espl_cpu_set bound;
} layout_rank;

/* What the first rank of a node tells rank 0. */
typedef struct layout_node {
    int64_t ranks, threads;
    espl_topology topology;
    espl_layout_faults faults;
} layout_node;

static const char *layout_plural(int64_t n) { return n == 1 ? "" : "s"; }

void espl_layout_put_node(const espl_topology *t, espl_str *out) {
    espl_str_printf(out, "%" PRId64 " socket%s, %" PRId64 " NUMA domain%s, %" PRId64 " core%s", t->sockets,
                    layout_plural(t->sockets), t->domains, layout_plural(t->domains), t->cores,
                    layout_plural(t->cores));
}

/* Open MPI fills the domains of a node, and nodes, one after the other: consecutive ranks, which form a replica, stay
 * together. */
void espl_layout_put_mpirun(int64_t ranks, int64_t per_node, int64_t threads, int64_t domains, espl_str *out) {
    bool by_domain = domains > 1 && per_node % domains == 0;
    espl_str_printf(out,
                    "OMP_NUM_THREADS=%" PRId64 " mpirun -n %" PRId64 " --map-by ppr:%" PRId64 ":%s:PE=%" PRId64
                    " --bind-to core",
                    threads, ranks, by_domain ? per_node / domains : per_node, by_domain ? "numa" : "node", threads);
}

void espl_layout_put_recommendation(const espl_topology *t, espl_str *out) {
    espl_layout_put_mpirun(t->domains, t->domains, t->domain_cores, t->domains, out);
}

/* ----------------------------------------------------------------- advice */

/* Collective. On the first rank of each node: its ranks, compared with its cores. */
static espl_status layout_look(espl_comm *c, espl_comm *node, layout_node *out) {
    layout_rank mine = {espl_comm_rank(c), espl_tensor_threads(), espl_cpu_set_bound()}, *all = NULL;
    espl_place *places = NULL;
    int64_t n = espl_comm_size(node);
    bool first = espl_comm_rank(node) == 0;
    espl_status st = espl_mem_alloc(&all, first ? n : 0, sizeof *all, "ranks of the node");
    if (st == ESPL_OK) st = espl_mem_alloc(&places, first ? n : 0, sizeof *places, "ranks of the node");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_comm_gather_records(node, &mine, 1, sizeof mine, n, all)));
    *out = (layout_node){.ranks = n};
    if (!first || !all || !places) goto done; /* both are there on the first rank */
    espl_topology_read(&out->topology);
    for (int64_t i = 0; i < n; i++) {
        places[i] = espl_topology_place(&out->topology, &all[i].bound, all[i].rank, all[i].threads);
        out->threads += all[i].threads;
    }
    out->faults = espl_layout_check(&out->topology, places, n);
done:
    espl_mem_free(&all);
    espl_mem_free(&places);
    return st;
}

typedef enum layout_fault { CROWDED, SHARED, MISSING, SPLIT, IDLE, FAULTS } layout_fault;

static bool layout_has(const layout_node *n, layout_fault kind) {
    const espl_layout_faults *f = &n->faults;
    switch (kind) {
    case CROWDED:
        return f->crowded >= 0;
    case SHARED:
        return f->shared >= 0;
    case MISSING:
        return f->spare < 0 && f->shared < 0 && f->crowded < 0; /* the others say why */
    case SPLIT:
        return f->split >= 0;
    case IDLE:
        return f->spare > 0;
    case FAULTS:
        break;
    }
    return false;
}

static void layout_note(const layout_node *n, layout_fault kind, espl_str *out) {
    const espl_layout_faults *f = &n->faults;
    switch (kind) {
    case CROWDED:
        espl_str_printf(out,
                        "rank %" PRId64 " has %" PRId64 " threads (OMP_NUM_THREADS), but may use %" PRId64
                        " core%s: mpirun and srun bind ranks",
                        f->crowded, f->crowded_threads, f->crowded_cores, layout_plural(f->crowded_cores));
        break;
    case SHARED:
        espl_str_printf(out, "ranks %" PRId64 " and %" PRId64 " share cores, which are fewer than their threads",
                        f->shared, f->shared_with);
        break;
    case MISSING:
        espl_str_printf(out, "%" PRId64 " ranks have %" PRId64 " threads on a node of %" PRId64 " cores", n->ranks,
                        n->threads, n->topology.cores);
        break;
    case SPLIT:
        espl_str_printf(out,
                        "the threads of rank %" PRId64 " may run in %" PRId64
                        " NUMA domains, and wait for memory of the others",
                        f->split, f->split_domains);
        break;
    case IDLE:
        espl_str_printf(out, "%" PRId64 " of %" PRId64 " cores have no thread", f->spare, n->topology.cores);
        break;
    case FAULTS:
        break;
    }
}

/* Rank 0 only. nodes [n]. */
static espl_status layout_put_notes(const layout_node *nodes, int64_t n) {
    const layout_node *worst = NULL;
    espl_str text = {0};
    for (int kind = 0; kind < FAULTS; kind++) {
        const layout_node *first = NULL;
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++) {
            if (!layout_has(&nodes[i], (layout_fault)kind)) continue;
            if (!first) first = &nodes[i];
            count++;
        }
        if (!first) continue;
        if (!worst) worst = first;
        layout_note(first, (layout_fault)kind, &text);
        if (count > 1) espl_str_printf(&text, " (so on %" PRId64 " nodes)", count);
        if (!text.failed) ESPL_INFO("note: %s", text.data);
        espl_str_free(&text);
    }
    if (!worst) return ESPL_OK;
    espl_str_puts(&text, "a node of ");
    espl_layout_put_node(&worst->topology, &text);
    espl_str_puts(&text, " is best used by: ");
    espl_layout_put_recommendation(&worst->topology, &text);
    if (!text.failed) ESPL_INFO("%s", text.data);
    espl_status st = espl_str_status(&text);
    espl_str_free(&text);
    return st;
}

espl_status espl_layout_advise(espl_comm *c) {
    static bool advised; /* the runs of a sweep have the same cores */
    espl_comm *node = NULL;
    layout_node mine, *nodes = NULL;
    double *firsts = NULL;
    int64_t n = 0, ranks = espl_comm_size(c);
    espl_status st;
    if (advised) return ESPL_OK;
    advised = true;
    ESPL_CHECK(st, done, espl_comm_create_node(c, &node));
    ESPL_CHECK(st, done, layout_look(c, node, &mine));
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_mem_alloc(&firsts, ranks, sizeof *firsts, "nodes")));
    bool first = espl_comm_rank(node) == 0;
    espl_comm_gather_f64(c, first, firsts);
    for (int64_t r = 0; r < ranks; r++) n += firsts[r] > 0;
    bool root = espl_comm_rank(c) == 0;
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_mem_alloc(&nodes, root ? n : 0, sizeof *nodes, "nodes")));
    ESPL_CHECK(st, done, espl_comm_gather_records(c, &mine, first ? 1 : 0, sizeof mine, n, nodes));
    st = espl_comm_agree(c, root ? layout_put_notes(nodes, n) : ESPL_OK);
done:
    espl_mem_free(&nodes);
    espl_mem_free(&firsts);
    espl_comm_release(&node);
    return st;
}
