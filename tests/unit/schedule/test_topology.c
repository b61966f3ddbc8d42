/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that hwloc is told of (HWLOC_SYNTHETIC), and ranks on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/schedule/topology.h"

static espl_topology read_node(const char *synthetic) {
    espl_topology t;
    setenv("HWLOC_SYNTHETIC", synthetic, 1);
    espl_topology_read(&t);
    unsetenv("HWLOC_SYNTHETIC");
    return t;
}

static void assert_node(const char *synthetic, int sockets, int domains, int cores, int domain_cores) {
    espl_topology t = read_node(synthetic);
    assert_int_equal(t.sockets, sockets);
    assert_int_equal(t.domains, domains);
    assert_int_equal(t.cores, cores);
    assert_int_equal(t.domain_cores, domain_cores);
}

static void nodes_are_read(void **state) {
    (void)state;
    assert_node("pack:1 core:2 pu:1", 1, 1, 2, 2);
    assert_node("pack:2 node:4 core:8 pu:2", 2, 8, 64, 8); /* two threads a core, four domains a socket */
    assert_node("pack:2 core:24 pu:1", 2, 1, 48, 48);      /* sockets without NUMA */
    assert_node("pu:6", 1, 1, 6, 6);                       /* no cores: processors */
    /* Two memories beside the same cores, as where there is HBM, are one domain. */
    assert_node("[NUMANode] [NUMANode] pack:2 [NUMANode] [NUMANode] core:4 pu:1", 2, 2, 8, 4);
}

/* Hardware threads 2i and 2i + 1 are core i; cores 0 to 7 are domain 0. */
static const char smt[] = "pack:2 node:2 core:8 pu:2";

static espl_place place(const espl_topology *t, int rank, int threads, int first, int last) {
    espl_cpu_set bound = {0};
    for (int i = first; i <= last; i++) espl_cpu_set_add(&bound, i);
    return espl_topology_place(t, &bound, rank, threads);
}

static void places_are_cores(void **state) {
    (void)state;
    espl_topology t = read_node(smt);
    espl_place p = place(&t, 0, 1, 0, 15);
    assert_int_equal(espl_cpu_set_count(&p.cores), 8);
    p = place(&t, 0, 1, 3, 3);
    assert_int_equal(espl_cpu_set_count(&p.cores), 1);
    p = place(&t, 0, 1, 100, 120); /* processors that the node does not have: as if not bound */
    assert_int_equal(espl_cpu_set_count(&p.cores), 32);
}

static void the_recommended_layout_has_no_fault(void **state) {
    (void)state;
    espl_topology t = read_node(smt);
    espl_place p[4];
    for (int r = 0; r < 4; r++) p[r] = place(&t, r, 8, 16 * r, 16 * r + 15);
    espl_layout_faults f = espl_layout_check(&t, p, 4);
    assert_int_equal(f.crowded, -1);
    assert_int_equal(f.shared, -1);
    assert_int_equal(f.split, -1);
    assert_int_equal(f.spare, 0);
}

static void threads_in_several_domains_are_found(void **state) {
    (void)state;
    espl_topology t = read_node(smt);
    espl_place p[2] = {place(&t, 0, 8, 0, 15), place(&t, 1, 16, 16, 47)};
    espl_layout_faults f = espl_layout_check(&t, p, 2);
    assert_int_equal(f.split, 1);
    assert_int_equal(f.split_domains, 2);
    assert_int_equal(f.spare, 8);
    p[1] = place(&t, 1, 1, 16, 47); /* one thread stays where its memory is */
    assert_int_equal(espl_layout_check(&t, p, 2).split, -1);
}

static void shared_cores_are_found(void **state) {
    (void)state;
    espl_topology t = read_node(smt);
    espl_place p[3] = {place(&t, 0, 8, 0, 15), place(&t, 1, 8, 16, 31), place(&t, 2, 8, 16, 31)};
    espl_layout_faults f = espl_layout_check(&t, p, 3);
    assert_int_equal(f.shared, 1);
    assert_int_equal(f.shared_with, 2);
    assert_int_equal(espl_layout_check(&t, p, 2).shared, -1);
    /* Ranks that are not bound overlap, too, but there is room for all. */
    for (int r = 0; r < 3; r++) p[r] = place(&t, r, 1, 0, 63);
    assert_int_equal(espl_layout_check(&t, p, 3).shared, -1);
    for (int r = 0; r < 3; r++) p[r] = place(&t, r, 12, 0, 63);
    f = espl_layout_check(&t, p, 3);
    assert_int_equal(f.shared, -1); /* any two find room, all three do not */
    assert_int_equal(f.spare, -4);
    /* Both hardware threads of one core. */
    p[0] = place(&t, 0, 1, 0, 0);
    p[1] = place(&t, 1, 1, 1, 1);
    assert_int_equal(espl_layout_check(&t, p, 2).shared, 0);
}

static void more_threads_than_cores_are_found(void **state) {
    (void)state;
    espl_topology t = read_node(smt);
    espl_place p[2] = {place(&t, 0, 4, 0, 7), place(&t, 1, 5, 8, 15)}; /* four cores each */
    espl_layout_faults f = espl_layout_check(&t, p, 2);
    assert_int_equal(f.crowded, 1);
    assert_int_equal(f.crowded_threads, 5);
    assert_int_equal(f.crowded_cores, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nodes_are_read),
                                       cmocka_unit_test(places_are_cores),
                                       cmocka_unit_test(the_recommended_layout_has_no_fault),
                                       cmocka_unit_test(threads_in_several_domains_are_found),
                                       cmocka_unit_test(shared_cores_are_found),
                                       cmocka_unit_test(more_threads_than_cores_are_found)};
    if (strcmp(espl_topology_library(), "none") == 0) {
        printf("skipped: built without hwloc\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
