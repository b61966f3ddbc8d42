/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a form to nodes: names spelt as JSON and sorted, and the lengths of the shortest values, from the bottom up.
 */
#include "compile.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/form/automaton.h"

int64_t espl_form_entry_bytes(const form_node *node, int64_t name) {
    const form_name *key = &node->names[name];
    return key->len + 1 + node->children[key->index]->shortest;
}

static int name_compare(const void *a, const void *b) {
    return strcmp(((const form_name *)a)->text, ((const form_name *)b)->text);
}

static int entry_compare(const void *a, const void *b, void *map) {
    int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    int64_t x = espl_form_entry_bytes(map, i), y = espl_form_entry_bytes(map, j);
    return x != y ? (x > y) - (x < y) : (i > j) - (i < j);
}

/* `quoted`: as a JSON string, else the bytes as they are. */
static espl_status name_make(form_name *name, const char *text, bool quoted, int64_t index) {
    espl_str s = {0};
    if (quoted)
        espl_str_put_json(&s, text, (int64_t)strlen(text));
    else
        espl_str_puts(&s, text);
    *name = (form_name){.text = s.data, .len = s.len, .index = index}; /* owned, also after a failure */
    return espl_str_status(&s);
}

/* Spells the names, and sorts them where a reply may choose among them. */
static espl_status node_make_names(form_node *node, const espl_form *f) {
    static const char *const booleans[] = {"true", "false"};
    bool boolean = f->kind == ESPL_FORM_BOOLEAN, choice = boolean || f->kind == ESPL_FORM_CHOICE;
    int64_t n = boolean ? 2 : choice ? f->n_names : f->n_members;
    ESPL_TRY(espl_mem_alloc(&node->names, n, sizeof *node->names, "form"));
    for (node->n_names = 0; node->n_names < n; node->n_names++) {
        int64_t i = node->n_names;
        const char *text = boolean ? booleans[i] : choice ? f->names[i] : f->members[i].name;
        if (f->kind == ESPL_FORM_VARIANTS) text = f->members[i].form->members[0].form->names[0];
        espl_status st = name_make(&node->names[i], text, !boolean, i);
        if (st != ESPL_OK) {
            node->n_names++; /* its text is freed with the others */
            return st;
        }
    }
    if (f->kind != ESPL_FORM_OBJECT) qsort(node->names, (size_t)n, sizeof *node->names, name_compare);
    return f->kind == ESPL_FORM_VARIANTS ? name_make(&node->key, f->members[0].form->members[0].name, true, 0)
                                         : ESPL_OK;
}

/* ------------------------------------------------------------------ lengths */

static void object_measure(form_node *node) {
    int64_t n = node->n_names, worst = 0;
    node->tail[n] = 1;
    for (int64_t i = n - 1; i >= 0; i--) {
        node->tail[i] = node->tail[i + 1] + (i > 0 ? 1 : 0) + espl_form_entry_bytes(node, i);
        worst = espl_max_i64(worst, node->children[i]->longest);
    }
    node->shortest = 1 + node->tail[0];
    node->longest = node->shortest + worst;
}

/* Of a MAP with names of unequal length, an early entry may have taken the shortest name: `longest` counts the longest
 * for each entry that may be missing, and one more that a comma has begun. */
static void map_measure(form_node *node) {
    int64_t worst = 0, entry = 0;
    for (int64_t i = 0; i < node->n_names; i++) node->cheapest[i] = i;
    qsort_r(node->cheapest, (size_t)node->n_names, sizeof *node->cheapest, entry_compare, node);
    node->shortest = 2;
    for (int64_t i = 0; i < node->min; i++)
        node->shortest += espl_form_entry_bytes(node, node->cheapest[i]) + (i > 0 ? 1 : 0);
    for (int64_t i = 0; i < node->n_names; i++) {
        entry = espl_max_i64(entry, espl_form_entry_bytes(node, i) + 1);
        worst = espl_max_i64(worst, node->children[i]->longest);
    }
    node->longest = 2 + (node->min + 1) * entry + worst;
}

static void node_measure(form_node *node) {
    enum { TEXT_LONGEST = 4, NUMBER_LONGEST = 32 }; /* three bytes of a character and a quote; all digits */
    switch (node->kind) {
    case ESPL_FORM_TEXT:
        node->shortest = 2;
        node->longest = TEXT_LONGEST;
        break;
    case ESPL_FORM_NUMBER:
        node->shortest = espl_number_distance(&node->range, &(espl_number_prefix){0});
        node->longest = NUMBER_LONGEST;
        break;
    case ESPL_FORM_OBJECT:
        object_measure(node);
        break;
    case ESPL_FORM_MAP:
        map_measure(node);
        break;
    case ESPL_FORM_ARRAY:
        node->shortest = 2 + node->min * node->children[0]->shortest + espl_max_i64(node->min - 1, 0);
        node->longest = node->shortest + node->children[0]->shortest + node->children[0]->longest + 2;
        break;
    default: /* one of several */
        node->shortest = INT64_MAX;
        for (int64_t i = 0; i < node->n_names; i++) { /* CHOICE; for VARIANTS the objects count */
            if (node->kind != ESPL_FORM_VARIANTS) node->shortest = espl_min_i64(node->shortest, node->names[i].len);
            node->longest = espl_max_i64(node->longest, node->names[i].len);
        }
        for (int64_t i = 0; i < node->n_children; i++) {
            node->shortest = espl_min_i64(node->shortest, node->children[i]->shortest);
            node->longest = espl_max_i64(node->longest, node->children[i]->longest + node->children[i]->shortest);
        }
    }
    node->longest = espl_max_i64(node->longest, node->shortest);
}

/* -------------------------------------------------------------------- nodes */

static void node_free(form_node *node) {
    for (int64_t i = 0; i < node->n_names; i++) espl_mem_free(&node->names[i].text);
    espl_mem_free(&node->names);
    espl_mem_free(&node->key.text);
    espl_mem_free(&node->children);
    espl_mem_free(&node->cheapest);
    espl_mem_free(&node->tail);
}

static form_node *node_find(const espl_automaton *a, const espl_form *f) {
    for (int64_t i = a->n - 1; i >= 0; i--)
        if (a->nodes[i]->form == f) return a->nodes[i];
    return NULL;
}

static espl_status automaton_add(espl_automaton *a, const espl_form *f, form_node **out);

static espl_status node_add_children(espl_automaton *a, form_node *node, const espl_form *f) {
    bool array = f->kind == ESPL_FORM_ARRAY;
    int64_t n = array ? 1 : f->kind >= ESPL_FORM_OBJECT ? f->n_members : 0;
    ESPL_TRY(espl_mem_alloc(&node->children, n, sizeof *node->children, "form"));
    for (int64_t i = 0; i < n; i++)
        ESPL_TRY(automaton_add(a, array ? f->element : f->members[i].form, &node->children[i]));
    node->n_children = n;
    return ESPL_OK;
}

/* Compiles f and what it holds, unless that has been done: members may share a form. */
static espl_status automaton_add(espl_automaton *a, const espl_form *f, form_node **out) {
    form_node *node = *out = node_find(a, f);
    espl_status st;
    if (node) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&node, 1, sizeof *node, "form"));
    *node = (form_node){.form = f, .kind = f->kind, .min = f->min, .max = f->max};
    if (f->kind == ESPL_FORM_BOOLEAN) node->kind = ESPL_FORM_CHOICE;
    if (f->kind == ESPL_FORM_NUMBER) ESPL_CHECK(st, failed, espl_number_range_of(f, &node->range));
    bool named = f->kind == ESPL_FORM_CHOICE || f->kind == ESPL_FORM_BOOLEAN || f->kind == ESPL_FORM_OBJECT ||
                 f->kind == ESPL_FORM_MAP || f->kind == ESPL_FORM_VARIANTS;
    if (named) ESPL_CHECK(st, failed, node_make_names(node, f));
    ESPL_CHECK(st, failed, node_add_children(a, node, f));
    ESPL_CHECK(st, failed, espl_mem_alloc(&node->cheapest, node->n_names, sizeof *node->cheapest, "form"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&node->tail, node->n_names + 1, sizeof *node->tail, "form"));
    node_measure(node);
    ESPL_CHECK(st, failed, espl_mem_resize(&a->nodes, a->n + 1, sizeof(form_node *), "form"));
    a->nodes[a->n++] = *out = node;
    return ESPL_OK;
failed:
    node_free(node);
    espl_mem_free(&node);
    return st;
}

/* The characters of JSON's own syntax, of numbers, and of the names. */
static void automaton_note_bytes(espl_automaton *a) {
    for (const char *p = "{}[]:,\"0123456789-."; *p; p++) a->needs[(uint8_t)*p] = true;
    for (int64_t i = 0; i < a->n; i++) {
        const form_node *node = a->nodes[i];
        for (int64_t k = 0; k < node->n_names; k++)
            for (const char *p = node->names[k].text; *p; p++) a->needs[(uint8_t)*p] = true;
        for (const char *p = node->key.text ? node->key.text : ""; *p; p++) a->needs[(uint8_t)*p] = true;
    }
}

/* A number ends where something else begins: by itself it has no end. */
static bool form_has_end(const espl_form *f) {
    bool ends = f->kind != ESPL_FORM_NUMBER;
    for (int64_t i = 0; f->kind == ESPL_FORM_EITHER && i < f->n_members; i++)
        ends = ends && f->members[i].form->kind != ESPL_FORM_NUMBER;
    return ends;
}

espl_status espl_automaton_create(espl_automaton **out, const espl_form *f) {
    form_node *root;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_form_check(f));
    if (!form_has_end(f)) return ESPL_FAIL(ESPL_INTERNAL, "form: a number by itself has no end");
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "form"));
    ESPL_CHECK(st, failed, automaton_add(*out, f, &root));
    automaton_note_bytes(*out);
    return ESPL_OK;
failed:
    espl_automaton_destroy(out);
    return st;
}

void espl_automaton_destroy(espl_automaton **a) {
    if (!a || !*a) return;
    for (int64_t i = 0; i < (*a)->n; i++) {
        node_free((*a)->nodes[i]);
        espl_mem_free(&(*a)->nodes[i]);
    }
    espl_mem_free(&(*a)->nodes);
    espl_mem_free(a);
}

int64_t espl_automaton_distance_max(const espl_automaton *a) { return a->nodes[a->n - 1]->longest; }

bool espl_automaton_needs_byte(const espl_automaton *a, uint8_t byte) { return a->needs[byte]; }
