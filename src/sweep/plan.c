/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep as data: growing it, looking up a run's choices, freeing it. */
#include "plan.h"

#include <string.h>

espl_status espl_sweep_keep_text(espl_sweep *s, const char *text, int64_t len, const char **out) {
    char *copy;
    ESPL_TRY(espl_mem_resize(&s->texts, s->n_texts + 1, sizeof *s->texts, "sweep"));
    ESPL_TRY(espl_str_ndup(&copy, text, len, "sweep"));
    s->texts[s->n_texts++] = copy;
    *out = copy;
    return ESPL_OK;
}

espl_status espl_sweep_add_assignment(espl_sweep *s, const espl_option *row, const char *text, int64_t len) {
    sweep_assignment a = {.row = row};
    ESPL_TRY(espl_sweep_keep_text(s, text, len, &a.text));
    ESPL_TRY(espl_mem_resize(&s->assignments, s->n_assignments + 1, sizeof *s->assignments, "sweep"));
    s->assignments[s->n_assignments++] = a;
    return ESPL_OK;
}

espl_status espl_sweep_add_entry(espl_sweep *s, const char *name, int64_t len) {
    sweep_entry e = {.first = s->n_assignments};
    if (s->n_entries == ESPL_SWEEP_MAX)
        return ESPL_FAIL(ESPL_CONFIG, "%s: more than %d names and values", s->path, ESPL_SWEEP_MAX);
    ESPL_TRY(espl_sweep_keep_text(s, name, len, &e.name));
    ESPL_TRY(espl_mem_resize(&s->entries, s->n_entries + 1, sizeof *s->entries, "sweep"));
    s->entries[s->n_entries++] = e;
    return ESPL_OK;
}

espl_status espl_sweep_add_axis(espl_sweep *s, const char *name, bool grid, int64_t first_entry) {
    sweep_axis a = {.grid = grid, .first = first_entry, .n = s->n_entries - first_entry};
    ESPL_TRY(espl_sweep_keep_text(s, name, (int64_t)strlen(name), &a.name));
    ESPL_TRY(espl_mem_resize(&s->axes, s->n_axes + 1, sizeof *s->axes, "sweep"));
    s->axes[s->n_axes++] = a;
    return ESPL_OK;
}

const sweep_entry *espl_sweep_choice(const espl_sweep *s, int64_t run, int64_t axis) {
    int64_t choice = s->choices[run * s->n_axes + axis];
    return choice < 0 ? NULL : &s->entries[choice];
}

espl_status espl_sweep_path(const espl_sweep *s, int64_t run, const char *file, espl_str *out) {
    espl_str_printf(out, "%s/%s%s%s", s->dir, s->names[run], *file ? "/" : "", file);
    return espl_str_status(out);
}

int64_t espl_sweep_count(const espl_sweep *s) { return s->n_runs; }

const char *espl_sweep_name(const espl_sweep *s, int64_t run) { return s->names[run]; }

void espl_sweep_free(espl_sweep **s) {
    if (!*s) return;
    for (int64_t i = 0; i < (*s)->n_texts; i++) espl_mem_free(&(*s)->texts[i]);
    for (int64_t i = 0; (*s)->names && i < (*s)->n_runs; i++) espl_mem_free(&(*s)->names[i]);
    espl_mem_free(&(*s)->texts);
    for (int64_t i = 0; (*s)->milestones && i < (*s)->n_runs; i++) espl_mem_free(&(*s)->milestones[i]);
    espl_mem_free(&(*s)->names);
    espl_mem_free(&(*s)->milestones);
    espl_mem_free(&(*s)->choices);
    espl_mem_free(&(*s)->assignments);
    espl_mem_free(&(*s)->overrides);
    espl_mem_free(&(*s)->entries);
    espl_mem_free(&(*s)->axes);
    espl_mem_free(s);
}
