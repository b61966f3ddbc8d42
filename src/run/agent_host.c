/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring plans, and replies of a local model, on all ranks, while rank 0 talks with the agent. */
#include "agent_host.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "events.h"
#include "loop.h"
#include "progress.h"
#include "stop.h"

/* What rank 0 tells the others. */
typedef enum host_order { ORDER_GO_ON, ORDER_MEASURE, ORDER_REPLY } host_order;

/* Rank 0 only. */
static void host_give_order(espl_job *j, host_order order) { espl_comm_broadcast(j->comm, &order, sizeof order, 0); }

void espl_agent_host_release(espl_job *j) { host_give_order(j, ORDER_GO_ON); }

const char *espl_agent_host_model_path(const espl_config *o) {
    return strcmp(o->agent_model_path, "self") == 0 ? o->model_path : o->agent_model_path;
}

espl_chat_options espl_agent_host_chat_options(const espl_config *o) {
    return (espl_chat_options){.template = ESPL_CHAT_TEMPLATE_AUTO,
                               .context = o->agent_context,
                               .batch_tokens = espl_min_i64(o->run_batch, o->agent_context)};
}

espl_status espl_agent_host_open(espl_job *j) {
    espl_chat_options chat = espl_agent_host_chat_options(j->o);
    const espl_grid *grid = espl_comm_grid(j->comm);
    espl_status st = ESPL_OK;
    if (j->o->agent_backend != ESPL_BACKEND_LOCAL || espl_config_is_oneshot(j->o)) return ESPL_OK;
    if (grid->replica == 0) { /* a reply is one sequence: the other replicas wait */
        st = espl_chat_open(grid->pipeline, espl_agent_host_model_path(j->o), &chat, &j->chat);
        if (st != ESPL_OK) st = ESPL_FAIL(st, "agent.model_path: %s", espl_base_error_text());
    }
    ESPL_TRY(espl_comm_agree(j->comm, st));
    if (!j->chat) return ESPL_OK;
    int64_t trained = espl_model_config_of(espl_chat_model_of(j->chat))->max_positions;
    if (trained > 0 && chat.context > trained)
        ESPL_INFO("note: agent.context is %" PRId64 ", beyond the %" PRId64
                  " tokens that the agent's model was trained for",
                  chat.context, trained);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- measure */

espl_status espl_agent_host_share_plan(espl_job *j, espl_decision *d) {
    int64_t n = d->n;
    espl_comm_broadcast(j->comm, &n, sizeof n, 0);
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? ESPL_OK : espl_decision_init(d, n)));
    d->n = n;
    espl_comm_broadcast(j->comm, d->items, n * (int64_t)sizeof *d->items, 0);
    espl_comm_broadcast(j->comm, &d->stop, sizeof d->stop, 0);
    espl_comm_broadcast(j->comm, &d->power, sizeof d->power, 0);
    return ESPL_OK;
}

/* Collective. Tries a plan that rank 0 has, and takes it back. */
static espl_status host_try_plan(espl_job *j, espl_outcome *o) {
    double start = espl_clock_now();
    ESPL_TRY(espl_agent_host_share_plan(j, &o->decision));
    ESPL_TRY(espl_loop_try(j, o));
    j->tried_seconds += espl_clock_now() - start; /* in regions of its own */
    espl_progress_experiment(j, o);
    return espl_comm_agree(j->comm, espl_event_experiment(j, o));
}

static espl_status host_measure(void *job, const espl_decision *plan, espl_quality *after, bool *accepted) {
    espl_job *j = job;
    espl_outcome o = {.decision = *plan}; /* borrows its items and texts */
    host_give_order(j, ORDER_MEASURE);
    ESPL_TRY(host_try_plan(j, &o));
    *after = o.after;
    *accepted = o.accepted;
    return ESPL_OK;
}

/* --------------------------------------------------------------- complete */

static bool host_is_cancelled(void *job) { return espl_stop_is_due(job); }

static espl_chat_role host_role_of(const char *name) {
    if (strcmp(name, "system") == 0) return ESPL_CHAT_SYSTEM;
    return strcmp(name, "user") == 0 ? ESPL_CHAT_USER : ESPL_CHAT_ASSISTANT;
}

static espl_status host_complete(void *job, const espl_agent_prompt *prompt, espl_agent_completion *out) {
    espl_job *j = job;
    espl_chat_message *messages;
    espl_chat_reply reply = {0};
    ESPL_TRY(espl_mem_alloc(&messages, prompt->n_messages, sizeof *messages, "dialogue"));
    for (int64_t k = 0; k < prompt->n_messages; k++)
        messages[k] = (espl_chat_message){host_role_of(prompt->messages[k].role), prompt->messages[k].text};
    espl_chat_request request = {.messages = messages,
                                 .n_messages = prompt->n_messages,
                                 .form = prompt->form,
                                 .max_tokens = prompt->max_tokens,
                                 .temperature = prompt->temperature,
                                 .top_p = 1,
                                 .seed = prompt->seed,
                                 .context = j,
                                 .cancelled = host_is_cancelled};
    host_give_order(j, ORDER_REPLY);
    espl_status st = espl_chat_complete(j->chat, &request, &reply);
    if (st == ESPL_OK) {
        espl_str_put(&out->text, reply.text.data, reply.text.len);
        out->prompt_tokens = reply.prompt_tokens;
        out->tokens = reply.tokens;
        out->cut_off = reply.cut;
        ESPL_DEBUG("agent: %" PRId64 " tokens read in %.2f s, %" PRId64 " written in %.2f s", reply.prompt_tokens,
                   reply.prompt_seconds, reply.tokens, reply.seconds);
        st = espl_str_status(&out->text);
    }
    espl_chat_reply_free(&reply);
    espl_mem_free(&messages);
    return st;
}

espl_agent_host espl_agent_host_of(espl_job *j) {
    return (espl_agent_host){.measure = host_measure, .complete = j->chat ? host_complete : NULL, .arg = j};
}

/* ------------------------------------------------------------------- obey */

espl_status espl_agent_host_obey(espl_job *j) {
    host_order order;
    espl_status st = ESPL_OK;
    for (;;) {
        espl_comm_broadcast(j->comm, &order, sizeof order, 0);
        if (order == ORDER_GO_ON) return st;
        if (order == ORDER_REPLY) { /* a failure is rank 0's to judge: it may ask again */
            if (j->chat) espl_chat_complete(j->chat, NULL, NULL);
            continue;
        }
        espl_outcome o = {0};
        st = host_try_plan(j, &o);
        espl_decision_free(&o.decision);
    }
}
