/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a run: files first, then what the sweep says, the general before the particular. */
#include <inttypes.h>
#include <string.h>

#include "plan.h"

/* Does any entry set this option? */
static bool sweep_varies(const espl_sweep *s, const espl_option *row) {
    for (int64_t i = 0; i < s->n_entries; i++)
        for (int64_t k = s->entries[i].first; k < s->entries[i].first + s->entries[i].n; k++)
            if (s->assignments[k].row == row) return true;
    return false;
}

espl_status espl_sweep_set(espl_sweep *s, const char *assignment) {
    espl_config scratch;
    char section[64], key[64];
    sweep_assignment a = {0};
    ESPL_TRY(espl_config_init(&scratch));
    espl_status st = espl_config_set(assignment, &scratch);
    espl_config_free(&scratch);
    ESPL_TRY(st); /* so that it has a dot, an equals sign and a known name */
    const char *dot = strchr(assignment, '.'), *equals = strchr(assignment, '=');
    snprintf(section, sizeof section, "%.*s", (int)(dot - assignment), assignment);
    snprintf(key, sizeof key, "%.*s", (int)(equals - dot - 1), dot + 1);
    a.row = espl_option_find(section, key);
    if (a.row == &espl_option_table[ESPL_OPTION_OF_run_dir])
        return ESPL_FAIL(ESPL_CONFIG, "--set %s: every run has a directory of its own, in the sweep's \"dir\"",
                         assignment);
    if (sweep_varies(s, a.row)) return ESPL_FAIL(ESPL_CONFIG, "--set %s: the sweep varies this option", assignment);
    ESPL_TRY(espl_sweep_keep_text(s, assignment, (int64_t)strlen(assignment), &a.text));
    ESPL_TRY(espl_mem_resize(&s->overrides, s->n_overrides + 1, sizeof *s->overrides, "sweep"));
    s->overrides[s->n_overrides++] = a;
    return ESPL_OK;
}

/* A sweep without assignments has no list: it is indexed, because NULL + 0 is undefined. */
static espl_status sweep_assign(const sweep_assignment *list, int64_t first, int64_t n, espl_config *o) {
    for (int64_t i = first; i < first + n; i++) ESPL_TRY(espl_config_set(list[i].text, o));
    return ESPL_OK;
}

espl_status espl_sweep_config(const espl_sweep *s, int64_t run, espl_config *o) {
    espl_str dir = {0};
    /* Tables compare agents: a run whose endpoint is away must fail there rather than become one of the policy. */
    ESPL_TRY(espl_config_set("agent.fallback=fail", o));
    if (s->base) ESPL_TRY(espl_config_read(s->base, o));
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, run, a);
        if (e && e->file) ESPL_TRY(espl_config_read(e->file, o));
    }
    ESPL_TRY(sweep_assign(s->assignments, s->set_first, s->n_set, o));
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, run, a);
        if (e) ESPL_TRY(sweep_assign(s->assignments, e->first, e->n, o));
    }
    ESPL_TRY(sweep_assign(s->overrides, 0, s->n_overrides, o));
    if (s->milestones && s->milestones[run]) ESPL_TRY(espl_config_set(s->milestones[run], o));
    bool model = o->agent_backend == ESPL_BACKEND_OPENAI || o->agent_backend == ESPL_BACKEND_LOCAL;
    if (!model) o->agent_fallback = ESPL_FALLBACK_POLICY; /* as in a run by hand */
    espl_str_puts(&dir, "run.dir=");
    espl_status st = espl_sweep_path(s, run, "", &dir);
    if (st == ESPL_OK) st = espl_config_set(dir.data, o);
    espl_str_free(&dir);
    if (st != ESPL_OK || *o->run_dense_cache) return st;
    espl_str_printf(&dir, "run.dense_cache=%s/.dense", s->dir); /* the name of no run: those begin with no dot */
    st = espl_str_status(&dir);
    if (st == ESPL_OK) st = espl_config_set(dir.data, o);
    espl_str_free(&dir);
    return st;
}

espl_status espl_sweep_check(const espl_sweep *s) {
    for (int64_t i = 0; i < s->n_runs; i++) {
        espl_config o;
        char text[ESPL_ERROR_TEXT_MAX];
        ESPL_TRY(espl_config_init(&o));
        espl_status st = espl_sweep_config(s, i, &o);
        if (st == ESPL_OK) st = espl_config_check(&o);
        espl_config_free(&o);
        if (st == ESPL_OK) continue;
        snprintf(text, sizeof text, "%s", espl_base_error_text());
        return ESPL_FAIL(st, "%s: run %" PRId64 ", %s: %s", s->path, i + 1, s->names[i], text);
    }
    return ESPL_OK;
}
