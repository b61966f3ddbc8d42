/* SPDX-License-Identifier: Apache-2.0 */
/* Asks an agent about a simulated model, for test_http.py: agent_ask key=value...
 * Prints one JSON object per iteration, then one with the totals and the saved state. */
#include <stdio.h>
#include <stdlib.h>

#include "../unit/agent/simulation.h"

typedef struct settings {
    espl_agent_options o;
    int64_t iterations;
    double cancel_after; /* seconds; 0: never */
    double start;
    const char *restore;
} settings;

static const char *value_of(int argc, char **argv, const char *key) {
    size_t n = strlen(key);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=') return argv[i] + n + 1;
    return NULL;
}

static void set_number(int argc, char **argv, const char *key, int64_t *out) {
    const char *v = value_of(argc, argv, key);
    if (v) *out = strtoll(v, NULL, 10);
}

static int index_of(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    exit(2);
}

static bool cancelled(void *arg) {
    const settings *s = arg;
    return s->cancel_after > 0 && espl_clock_now() - s->start > s->cancel_after;
}

static void read_settings(int argc, char **argv, settings *s) {
#define X(name, text) text,
    static const char *const backends[] = {ESPL_BACKEND_LIST(X)}, *const fallbacks[] = {ESPL_FALLBACK_LIST(X)};
    static const char *const tools[] = {ESPL_TOOLS_LIST(X)}, *const views[] = {ESPL_VIEW_LIST(X)};
#undef X
    espl_agent_options *o = &s->o;
    int64_t cancel_ms = 0, stop = 1;
    const char *backend = value_of(argc, argv, "backend"), *fallback = value_of(argc, argv, "fallback");
    espl_agent_options_init(o);
    o->backend = ESPL_BACKEND_OPENAI;
    o->fallback = ESPL_FALLBACK_FAIL;
    if (backend) o->backend = (espl_agent_backend)index_of(backends, ESPL_BACKEND_COUNT, backend);
    if (fallback) o->fallback = (espl_agent_fallback)index_of(fallbacks, ESPL_FALLBACK_COUNT, fallback);
    const char *how = value_of(argc, argv, "tools"), *view = value_of(argc, argv, "view");
    if (how) o->tools = (espl_agent_tools)index_of(tools, ESPL_TOOLS_COUNT, how);
    if (view) o->view = (espl_agent_sight)index_of(views, ESPL_VIEW_COUNT, view);
    o->base_url = value_of(argc, argv, "base_url");
    o->model = "test-model";
    o->api_key_env = value_of(argc, argv, "key_env");
    o->extra_body = value_of(argc, argv, "extra_body");
    o->plain_http = value_of(argc, argv, "plain_http") != NULL;
    o->dialogue_path = value_of(argc, argv, "dialogue");
    o->replay = value_of(argc, argv, "replay");
    o->retry_base_ms = 20;
    o->retry_max_ms = 1000;
    o->retries = 2;
    o->total_ms = 5000;
    s->iterations = 1;
    set_number(argc, argv, "retries", &o->retries);
    set_number(argc, argv, "retry_base_ms", &o->retry_base_ms);
    set_number(argc, argv, "retry_max_ms", &o->retry_max_ms);
    set_number(argc, argv, "total_ms", &o->total_ms);
    set_number(argc, argv, "connect_ms", &o->connect_ms);
    set_number(argc, argv, "max_invalid", &o->max_invalid);
    set_number(argc, argv, "give_up_after", &o->give_up_after);
    set_number(argc, argv, "keep", &o->keep_iterations);
    set_number(argc, argv, "questions", &o->questions);
    set_number(argc, argv, "experiments", &o->experiments);
    set_number(argc, argv, "honour_stop", &stop);
    set_number(argc, argv, "iterations", &s->iterations);
    set_number(argc, argv, "cancel_ms", &cancel_ms);
    o->honour_stop = stop != 0;
    s->cancel_after = (double)cancel_ms / 1000;
    s->restore = value_of(argc, argv, "restore");
    o->cancelled = cancelled;
    o->cancelled_arg = s;
}

static void print_answer(const espl_agent *a, espl_status st, const espl_decision *d) {
    espl_str s = {0};
    espl_str_printf(&s, "{\"status\":\"%s\",\"source\":\"%s\",\"error\":", espl_status_name(st),
                    a ? espl_agent_source(a) : "");
    espl_str_put_json(&s, espl_base_error_text(), (int64_t)strlen(espl_base_error_text()));
    if (st == ESPL_OK) {
        espl_str_puts(&s, ",\"decision\":");
        espl_reply_put(&s, SIM_LAYOUT, d);
    }
    espl_str_puts(&s, "}");
    puts(s.data);
    fflush(stdout);
    espl_str_free(&s);
}

static void print_state(const espl_agent *a) {
    espl_str s = {0};
    if (espl_agent_state_save(a, &s) == ESPL_OK) puts(s.data);
    espl_str_free(&s);
}

/* Carries a plan out and takes it back, as a run would. */
static espl_status measure(void *arg, const espl_decision *plan, espl_quality *after, bool *accepted) {
    simulation *sim = arg;
    int64_t rollbacks = sim->rollbacks;
    espl_decision copy = *plan; /* its items and texts stay the agent's */
    sim_apply(sim, &copy);
    espl_outcome *o = &sim->history[--sim->n_history];
    *after = o->after;
    *accepted = o->accepted;
    sim->rollbacks = rollbacks;
    for (int64_t k = 0; o->accepted && k < plan->n; k++) {
        espl_profile_row *r = &sim->rows[plan->items[k].linear];
        r->pruned -= llround(plan->items[k].step * (double)r->weights);
    }
    return ESPL_OK;
}

static espl_status ask_all(espl_agent *a, settings *s, simulation *sim) {
    espl_status st = ESPL_OK;
    while (st == ESPL_OK && sim->n_history < s->iterations) {
        espl_decision d;
        espl_agent_view v = sim_view(sim);
        espl_agent_host host = {.measure = measure, .arg = sim};
        espl_base_error_clear();
        st = espl_agent_ask(a, &v, &host, &d);
        print_answer(a, st, &d);
        bool stop = st != ESPL_OK || d.stop;
        if (st == ESPL_OK) sim_apply(sim, &d);
        if (st != ESPL_OK) espl_decision_free(&d);
        if (stop) break;
    }
    return st;
}

int main(int argc, char **argv) {
    static simulation sim;
    settings s = {.start = espl_clock_now()};
    espl_agent *a;
    sim_init(&sim, 1, 1, 0.5);
    sim_curves(&sim, 1, 0.2);
    sim.budget.max_linears = 16;
    if (value_of(argc, argv, "threshold")) sim.budget.threshold = strtod(value_of(argc, argv, "threshold"), NULL);
    read_settings(argc, argv, &s);
    espl_status st = espl_agent_create(&a, &s.o);
    if (st == ESPL_OK && s.restore) st = espl_agent_state_restore(a, s.restore, (int64_t)strlen(s.restore));
    if (st != ESPL_OK)
        print_answer(NULL, st, NULL);
    else {
        st = ask_all(a, &s, &sim);
        print_state(a);
    }
    espl_agent_destroy(&a);
    sim_free(&sim);
    return espl_status_exit_code(st);
}
