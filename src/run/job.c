/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job from its first to its last line: open the run directory, read the inputs, open the model, restore or begin, run
 * the loop, report.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "agent_host.h"
#include "arrange.h"
#include "dense.h"
#include "espalier/base/fault.h"
#include "espalier/export.h"
#include "espalier/model/locate.h"
#include "espalier/model/shape.h"
#include "espalier/run/job.h"
#include "espalier/run/layout.h"
#include "espalier/run/stop.h"
#include "events.h"
#include "exponent.h"
#include "identity.h"
#include "inputs.h"
#include "judge.h"
#include "loop.h"
#include "manifest.h"
#include "milestones.h"
#include "progress.h"
#include "recovery.h"
#include "report.h"
#include "stop.h"
#include "store.h"

/* --------------------------------------------------------- run directory */

static bool job_has_file(const espl_job *j, const char *name) {
    espl_str path = {0};
    bool exists = espl_job_path(j, name, &path) == ESPL_OK && espl_file_exists(path.data);
    espl_str_free(&path);
    return exists;
}

/* Rank 0 only. Removes what a process that was killed while it replaced a file has left. Whoever replaces the file
 * again would do so, but a run that is not made again would keep it for ever. */
static espl_status job_remove_parts(const espl_job *j) {
    static const char *const names[] = {"manifest.json.part", "model-hashes.json.part", "timing.json.part",
                                        "allocation.json.part", "summary.json.part"};
    espl_status st = ESPL_OK;
    for (size_t i = 0; st == ESPL_OK && i < sizeof names / sizeof *names; i++) {
        espl_str path = {0};
        st = espl_job_path(j, names[i], &path);
        if (st == ESPL_OK && unlink(path.data) != 0 && errno != ENOENT)
            st = ESPL_FAIL(ESPL_IO, "%s: cannot be removed: %s", path.data, strerror(errno));
        espl_str_free(&path);
    }
    return st;
}

/* Rank 0 only. One that holds a run is not touched unless that run is to be continued. *finished: it is done already,
 * with *verdict. */
static espl_status job_look_at_directory(const espl_job *j, bool resume, bool *finished, espl_status *verdict) {
    espl_str summary = {0};
    if (!resume && (job_has_file(j, "events.jsonl") || job_has_file(j, "checkpoints")))
        return ESPL_FAIL(ESPL_CONFIG,
                         "run.dir: %s already holds a run: --resume continues it, or choose another directory",
                         j->o->run_dir);
    espl_status st = espl_job_path(j, "summary.json", &summary);
    *finished =
        st == ESPL_OK && resume && espl_file_exists(summary.data) && espl_run_summary_reads(summary.data, verdict);
    espl_str_free(&summary);
    return st;
}

/* Rank 0 only. Makes the directory and takes its lock. A finished run needs none: nothing will be written. */
static espl_status job_open_directory(espl_job *j, bool resume, bool *finished, espl_status *verdict) {
    espl_str stopped = {0};
    espl_status st;
    *finished = false;
    ESPL_TRY(espl_file_make_directory(j->o->run_dir));
    ESPL_TRY(job_look_at_directory(j, resume, finished, verdict));
    if (*finished) espl_run_lock_clear_dead(j->o->run_dir, espl_stop_signalled);
    if (*finished) return ESPL_OK;
    ESPL_TRY(espl_run_lock_take(&j->lock, j->o->run_dir, espl_stop_signalled));
    /* Again: its last holder may just have begun or ended a run. */
    ESPL_TRY(job_look_at_directory(j, resume, finished, verdict));
    if (*finished) return ESPL_OK;
    if (espl_fault("run.begin")) return ESPL_FAIL(ESPL_IO, "%s: fault on demand", j->o->run_dir);
    ESPL_TRY(job_remove_parts(j));
    if (!resume) return ESPL_OK;
    if (job_has_file(j, "summary.json"))
        ESPL_INFO("note: %s/summary.json is damaged: the end of the run is repeated", j->o->run_dir);
    /* The mark of an earlier stop goes; a file "stop" stays, and stops this start too. */
    ESPL_CHECK(st, done, espl_job_path(j, "stopped", &stopped));
    if (unlink(stopped.data) != 0 && errno != ENOENT)
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be removed: %s", stopped.data, strerror(errno));
done:
    espl_str_free(&stopped);
    return st;
}

/* Fails now, rather than after hours, if the export directory is blocked. */
static espl_status job_check_export(const espl_job *j) {
    espl_status st = ESPL_OK;
    for (int64_t i = -1; i < j->n_milestones && st == ESPL_OK; i++) { /* -1: the export of the end */
        espl_str name = {0}, dir = {0};
        if (i < 0 ? !j->o->run_export : !j->o->run_export_milestones) continue;
        if (i < 0)
            espl_str_puts(&name, "model");
        else
            espl_milestones_put_directory(j, i, &name);
        st = espl_str_status(&name);
        if (st == ESPL_OK) st = espl_job_path(j, name.data, &dir);
        st = espl_comm_agree(j->comm, st);
        if (st == ESPL_OK) st = espl_export_check_model(j->comm, j->model, j->o->model_path, dir.data);
        espl_str_free(&name);
        espl_str_free(&dir);
    }
    return st;
}

/* ----------------------------------------------------------------- model */

/* Collective. The target and the milestones are of the linears that may be pruned; zeros that the others have count as
 * pruned all the same. */
static espl_status job_set_target(espl_job *j) {
    const double *caps = j->inputs.caps;
    int64_t *zeros = NULL;
    double open = 0, closed = 0, possible = 0;
    j->target = j->o->prune_target;
    ESPL_TRY(espl_comm_agree(j->comm, espl_milestones_read(j)));
    if (!caps || espl_config_is_oneshot(j->o)) return ESPL_OK;
    espl_status st = j->root ? espl_mem_alloc(&zeros, j->linears, sizeof *zeros, "zeros of the source") : ESPL_OK;
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, st));
    ESPL_CHECK(st, done, espl_masks_count_pruned(&j->masks, zeros, &j->source_pruned));
    for (int64_t i = 0; zeros && i < j->linears; i++) {
        int kind = (int)espl_linear_kind_of(espl_model_layout(&j->config), i);
        double weights = (double)(j->shape.out[kind] * j->shape.in[kind]);
        if (caps[i] > 0)
            open += weights;
        else
            closed += (double)zeros[i];
        possible += fmax(floor(caps[i] * weights), (double)zeros[i]);
    }
    double wanted = (double)llround(j->o->prune_target * open) + closed;
    for (int64_t i = 0; i < j->n_milestones; i++)
        j->milestones[i].sparsity = ((double)llround(j->milestones[i].asked * open) + closed) / (double)j->weights;
    if (zeros && wanted > possible)
        st = ESPL_FAIL(
            ESPL_CONFIG,
            "prune.target is %g of the linears that may be pruned, but their caps (prune.caps, prune.cap) let "
            "%.4g of them go",
            j->o->prune_target, possible / open);
    j->target = wanted / (double)j->weights;
    espl_comm_broadcast(j->comm, &j->target, sizeof j->target, 0);
    espl_comm_broadcast(j->comm, j->milestones, j->n_milestones * (int64_t)sizeof *j->milestones, 0);
    st = espl_comm_agree(j->comm, st);
done:
    espl_mem_free(&zeros);
    return st;
}

/* Collective. Opens the model, dense, with masks for its slice. Options of the model come from the inputs, which must
 * be read before: they decide how long the context is and how many sequences the KV cache holds. */
static espl_status job_open_model(espl_job *j) {
    espl_model_options mo = espl_inputs_model_options(j);
    espl_arithmetic arithmetic = j->o->compute_arithmetic;
    /* On every rank: nodes may have other processors than rank 0's. */
    ESPL_TRY(espl_comm_agree(j->comm, espl_arithmetic_check(arithmetic, "compute.arithmetic")));
    ESPL_TRY(espl_comm_agree(j->comm, espl_arithmetic_check(j->o->report_arithmetic, "report.arithmetic")));
    ESPL_TRY(espl_model_open(j->comm, j->o->model_path, &mo, &j->model));
    espl_job_measure_model(j);
    espl_workspace_use(espl_model_workspace(j->model), arithmetic);

    espl_status st;
    ESPL_CHECK(st, agree, espl_mem_alloc(&j->rows, j->linears, sizeof *j->rows, "profile"));
    ESPL_CHECK(st, agree, espl_mem_alloc(&j->patterns, j->linears, sizeof *j->patterns, "patterns"));
    ESPL_CHECK(st, agree, espl_judge_create(j));
    ESPL_CHECK(st, agree,
               espl_mem_alloc(&j->zeros, espl_range_count(espl_model_linears(j->model)), sizeof *j->zeros,
                              "zeros of the source"));
    st = espl_masks_create(&j->masks, j->model, j->o->prune_update != ESPL_UPDATE_NONE || espl_config_distills(j->o));
    if (st == ESPL_OK) st = espl_masks_take_zeros(&j->masks, j->zeros);
agree:
    ESPL_TRY(espl_comm_agree(j->comm, st));
    ESPL_TRY(espl_masks_count_pruned(&j->masks, NULL, &j->source_pruned));
    j->pruned = j->source_pruned;
    return job_set_target(j);
}

/* Every later judgement compares with this state, so a dense model that is broken ends the run here. */
static espl_status job_measure_dense(espl_job *j) {
    ESPL_TRY(espl_dense_measure(j));
    espl_judge_accept(j);
    if (!isfinite(j->dense.perplexity))
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: the dense model's perplexity on %s is not a number: its weights hold NaN or infinity, or "
                         "overflow",
                         j->o->model_path, j->o->validation_text);
    j->last = j->dense;
    return ESPL_OK;
}

/* Checkpoints hold means only: the losses that the next step is paired with are measured again, if there is one. */
static espl_status job_measure_accepted(espl_job *j) {
    espl_quality again;
    if (espl_config_is_oneshot(j->o) || espl_agent_proposer.reason_to_end(j)) return ESPL_OK;
    ESPL_TRY(espl_judge_measure(j, &again));
    espl_judge_accept(j);
    return ESPL_OK;
}

/* ----------------------------------------------------------------- agent */

static bool job_is_cancelled(void *job) { return espl_stop_is_due(job); }

/* Rank 0 only. Creates the agent. If `dialogue` is given, records are appended to it; records of iterations after
 * j->iteration are cut off first, because a resumed run repeats them. */
static espl_status job_create_agent(espl_job *j, const char *dialogue) {
    const espl_config *o = j->o;
    espl_str name = {0};
    espl_agent_options a;
    espl_agent_options_init(&a);
#define X(type, section, key, value, lo, hi, resume, meaning) a.key = o->agent_##key;
    ESPL_AGENT_OPTION_LIST(X)
#undef X
    a.policy = o->policy;
    a.run_seed = o->run_seed;
    espl_model_put_name(o->model_path, &name);
    a.model_name = name.data;
    a.dialogue_path = dialogue;
    a.keep_iterations = j->iteration;
    a.history = j->history;
    a.layout = espl_model_layout(&j->config);
    a.n_history = espl_config_is_oneshot(o) ? 0 : j->n_history; /* a method is not asked, and says nothing */
    a.cancelled = job_is_cancelled;
    a.cancelled_arg = j;
    espl_status st = espl_str_status(&name);
    if (st == ESPL_OK) st = espl_agent_create(&j->agent, &a);
    espl_str_free(&name);
    return st;
}

/* Rank 0 only. Opens events.jsonl and dialogue.jsonl, cut to the restored iteration. The agent is created again,
 * because that iteration was unknown when it was first created to restore its memory. */
static espl_status job_open_records(espl_job *j) {
    espl_str dialogue = {0}, events = {0}, memory = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_job_path(j, "dialogue.jsonl", &dialogue));
    ESPL_CHECK(st, done, espl_job_path(j, "events.jsonl", &events));
    ESPL_CHECK(st, done, espl_agent_state_save(j->agent, &memory));
    espl_agent_destroy(&j->agent);
    ESPL_CHECK(st, done, job_create_agent(j, dialogue.data));
    ESPL_CHECK(st, done, espl_agent_state_restore(j->agent, memory.data, memory.len));
    st = espl_events_open(j, events.data);
done:
    espl_str_free(&dialogue);
    espl_str_free(&events);
    espl_str_free(&memory);
    return st;
}

/* --------------------------------------------------------------- running */

/* Collective. Restores the newest checkpoint, or begins: measures the dense model and writes checkpoint 0. A run that
 * was killed before its first checkpoint begins again. */
static espl_status job_begin(espl_job *j, bool resume) {
    bool resumed = false;
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? job_create_agent(j, NULL) : ESPL_OK));
    ESPL_TRY(espl_agent_host_open(j));
    if (resume) ESPL_TRY(espl_store_resume(j, &resumed));
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? job_open_records(j) : ESPL_OK));
    ESPL_TRY(espl_manifest_write(j));
    if (!resumed) ESPL_TRY(job_measure_dense(j));
    espl_masks_apply(&j->masks);
    if (resumed) ESPL_TRY(job_measure_accepted(j));
    j->first_iteration = j->iteration;
    espl_progress_start(j, resumed);
    ESPL_TRY(espl_comm_agree(j->comm, espl_event_start(j, resumed)));
    ESPL_TRY(espl_exponent_choose(j));
    if (!resumed) ESPL_TRY(espl_milestones_measure(j)); /* a source may have passed some */
    if (!resumed) ESPL_TRY(espl_store_write(j));
    ESPL_TRY(espl_recovery_prepare(j)); /* may be stopped, which promises a checkpoint to resume from */
    espl_masks_apply(&j->masks);
    return espl_stop_check(j, ESPL_STOP_BETWEEN_PHASES);
}

static espl_status job_run(espl_job *j, bool resume) {
    bool finished = false;
    espl_status verdict = ESPL_OK;
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? job_open_directory(j, resume, &finished, &verdict) : ESPL_OK));
    espl_comm_broadcast(j->comm, &finished, sizeof finished, 0);
    if (finished) {
        ESPL_INFO("%s: this run is finished; see its summary.json", j->o->run_dir);
        return espl_comm_agree(j->comm, espl_report_fail(verdict, j->o->run_dir));
    }
    ESPL_TRY(espl_inputs_read(j));
    ESPL_TRY(espl_layout_advise(j->comm));
    ESPL_TRY(espl_arrange_ranks(j));
    if (!j->comm) return ESPL_OK; /* left over: waits for the others at the end */
    ESPL_TRY(job_open_model(j));
    ESPL_TRY(job_check_export(j));
    ESPL_TRY(espl_identity_compute(j));
    ESPL_TRY(job_begin(j, resume));
    ESPL_TRY(espl_loop_run(j, espl_config_is_oneshot(j->o) ? &espl_method_proposer : &espl_agent_proposer));
    return espl_report_write(j);
}

/* Collective. Restores what a run has come to, or begins one, without a lock and without changing its files: it may go
 * on elsewhere. */
static espl_status job_put_prompt(espl_job *j, espl_str *out) {
    bool resumed = false, begun = j->root && job_has_file(j, "checkpoints");
    if (espl_config_is_oneshot(j->o))
        return ESPL_FAIL(ESPL_CONFIG, "--print-prompt: the method of this configuration asks no agent");
    espl_comm_broadcast(j->comm, &begun, sizeof begun, 0);
    ESPL_TRY(espl_inputs_read(j));
    ESPL_TRY(espl_arrange_ranks(j));
    if (!j->comm) return ESPL_OK; /* left over */
    ESPL_TRY(job_open_model(j));
    ESPL_TRY(espl_comm_agree(j->comm, j->root ? job_create_agent(j, NULL) : ESPL_OK));
    if (begun) ESPL_TRY(espl_identity_compute(j));
    if (begun) ESPL_TRY(espl_store_restore(j, &resumed));
    if (!resumed) ESPL_TRY(job_measure_dense(j));
    ESPL_TRY(espl_exponent_choose(j));
    espl_masks_apply(&j->masks);
    return espl_agent_step_put_prompt(j, out);
}

/* Collective over j->all. Releases all that the job holds. Returns st as all
 * agree on it. */
static espl_status job_close(espl_job *j, espl_status st) {
    espl_agent_destroy(&j->agent);
    espl_chat_close(&j->chat);
    espl_journal_close(&j->events);
    for (int64_t i = 0; i < j->n_history; i++) espl_decision_free(&j->history[i].decision);
    espl_mem_free(&j->history);
    espl_mem_free(&j->rows);
    espl_mem_free(&j->zeros);
    espl_mem_free(&j->patterns);
    espl_judge_free(j);
    espl_milestones_free(j);
    espl_dense_free(j);
    espl_distill_set_free(&j->distill);
    espl_calibration_free(&j->calibration);
    espl_masks_free(&j->masks);
    espl_str_free(&j->identity);
    espl_model_close(&j->model);
    espl_inputs_free(j);
    if (j->comm != j->all) espl_comm_release(&j->comm);
    st = espl_comm_agree(j->all, st); /* no rank writes any more */
    espl_run_lock_release(&j->lock);
    return st;
}

espl_status espl_run_prune(espl_comm *c, const espl_config *o, bool resume) {
    espl_job j = {
        .comm = c, .all = c, .o = o, .root = espl_comm_rank(c) == 0, .start = espl_clock_now(), .curvature_power = -1};
    espl_stop_watch();
    espl_stop_watch_waits(c);
    espl_status st = job_close(&j, job_run(&j, resume));
    espl_stop_watch_waits(NULL);
    return st;
}

espl_status espl_run_prompt(espl_comm *c, const espl_config *o, espl_str *out) {
    espl_job j = {
        .comm = c, .all = c, .o = o, .root = espl_comm_rank(c) == 0, .start = espl_clock_now(), .curvature_power = -1};
    return job_close(&j, job_put_prompt(&j, out));
}
