/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a pruning job, on every rank.
 *
 * The room in layers, each using only those below it:
 *
 *     status                             what the files of a run tell; used by no other file
 *     job                                the job from its first to its last line
 *     report   dry   export              the end; --dry-run; a checkpoint as a model directory
 *     plan                               the schedule of a job, simulated
 *     plan_speed                         how fast this machine is, on a stand-in of the model
 *     loop                               steps until the goal: propose, apply, judge, settle
 *     agent_step   method_step           who proposes, and how it is applied
 *     arrange                            the grid of ranks
 *     agent_host                         what the agent may ask of the run while it decides
 *     footprint                          memory of the ranks
 *     milestones                         what is measured at sparsities on the way
 *     model_export                       the pruned model, with its card and its recipe
 *     card   recipe                      files of the export about itself
 *     dense                              what the dense model scores: measured, or kept from another run
 *     store   exponent   recovery        checkpoints, and restoring them; exponent of score curvature; new weights
 *     identity manifest events progress  what is recorded and shown
 *     forecast                           the time left
 *     inputs   quality   judge   stop    texts and questions; measuring the model; being stopped
 *     model_identity   hash_cache        which model it is; hashes of its tensors that are kept
 *     lock   summary                     one run directory, one run; the checksum of its result
 *     allocation   limits                sparsities by linear, as files; linears that may be pruned, and how far
 *     state                              the state itself
 *     checkpoint_shape   pace   node_memory   what a checkpoint must fit; steps left; memory
 */
#ifndef ESPL_RUN_STATE_H
#define ESPL_RUN_STATE_H

#include "espalier/agent/agent.h"
#include "espalier/chat/chat.h"
#include "espalier/checkpoint.h"
#include "espalier/config/config.h"
#include "espalier/eval/corpus.h"
#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/knowledge.h"
#include "espalier/eval/mmlu.h"
#include "espalier/eval/perplexity.h"
#include "espalier/methods/distill.h"
#include "espalier/methods/update.h"
#include "espalier/model/calibration.h"
#include "espalier/model/masks.h"
#include "espalier/run/lock.h"
#include "pace.h"

/* Questions for the model; the same on every rank. */
typedef struct espl_questions {
    bool has_mmlu, has_freebaseqa;
    espl_mmlu mmlu;
    espl_freebaseqa freebaseqa;
} espl_questions;

/* A sparsity on the way to the target (milestones.h). */
typedef struct espl_milestone {
    double asked;    /* as prune.milestones has it, of the linears that may be pruned */
    double sparsity; /* as a fraction of the weights of all linears, like the target */
} espl_milestone;

/* Everything that is read from files, besides the model. */
typedef struct espl_inputs {
    int32_t *calibration; /* [windows, calibration.window], owned */
    int64_t windows;
    int64_t distilled;            /* the first ones, from which the survivors learn */
    double *caps;                 /* [linears] maximum sparsity of each, 0: never pruned; NULL: prune.cap */
    double *allocation;           /* [linears] sparsities of prune.allocation_file; NULL: none */
    espl_corpus validation, test; /* test.n = 0: none */
    espl_questions probe;         /* asked and counted in the loop */
    espl_knowledge profile;       /* questions whose gradients go into the profile; n = 0: none */
    espl_knowledge judge;         /* other questions, whose answers' loss judges a step; n = 0: none */
    espl_questions report;        /* asked at the end */
} espl_inputs;

/* A plan that the agent has had measured, and what came of it. */
typedef struct espl_trial {
    espl_outcome outcome; /* its decision has items only, owned */
    double *windows;      /* [validation_windows] losses, owned */
} espl_trial;

typedef struct espl_job {
    espl_comm *comm; /* the ranks that work, as a grid of replicas x stages */
    espl_comm *all;  /* every rank that was started, those that are left over too */
    const espl_config *o;
    bool root;           /* rank 0, which holds agent, history and files */
    espl_run_lock *lock; /* of the run directory; rank 0 */
    espl_model_config config;
    espl_tokenizer *tokenizer; /* rank 0 */
    espl_inputs inputs;
    espl_model *model;
    espl_masks masks;
    espl_checkpoint_shape shape;
    espl_str identity; /* rank 0: JSON with hashes of model and inputs */

    double target;            /* prune.target as a fraction of the weights of all linears, those that may not be pruned
                               * included */
    int64_t linears, weights; /* of the model: prunable linears and their weights */
    int64_t *zeros;           /* [slice linears] weights that are 0 in the source */
    int64_t source_pruned;    /* the same of the whole model */
    double curvature_power;   /* exponent of score curvature in effect; below 0: not chosen yet, or not needed */

    /* The accepted state: what a checkpoint holds. */
    int64_t iteration;        /* steps done, rolled back ones included */
    int64_t revision;         /* accepted changes of the masks */
    int64_t pruned;           /* weights that the masks prune */
    espl_pattern *patterns;   /* [linears] N:M pattern that a linear was given, else all zero; on every rank */
    espl_quality dense, last; /* quality of the unpruned model, and of the accepted state */
    espl_outcome *history;    /* [n_history] all steps, oldest first; rank 0 */
    int64_t n_history, rollbacks;
    espl_milestone *milestones; /* [n_milestones] rising */
    int64_t n_milestones, milestones_passed;
    espl_str milestone_results; /* rank 0: elements of a JSON list, one for each that was measured */

    /* What states of the model are judged by (judge.h), in nats per token. */
    int64_t validation_windows;
    double *accepted_windows;   /* [validation_windows] losses of the accepted state */
    bool has_accepted;          /* this process has measured them: a checkpoint holds means only */
    espl_perplexity dense_text; /* those of the dense model, summarised; windows = 0: not measured here */
    double *judged_windows;     /* [validation_windows] of the state that was measured last */
    double *judged_answers;     /* [inputs.judge.n] likewise */
    espl_trial *trials;         /* [n_trials] of this step (loop.c), on every rank */
    int64_t n_trials;

    /* The profile of the accepted state. */
    bool has_profile;
    espl_calibration calibration;
    espl_profile_row *rows; /* [linears] */

    espl_distill_set distill;  /* n = 0: the run does not distill */
    espl_update_result update; /* of the step that was applied last; linears = 0: it had none */

    struct espl_report_quality *dense_report; /* what the report says of the dense model; NULL: not measured yet */

    espl_agent *agent;                    /* rank 0 */
    espl_chat_session *chat;              /* the model that decides, if it is a local one; on the first replica */
    espl_journal *events;                 /* rank 0 */
    const struct espl_proposer *proposer; /* of the loop that runs (loop.h) */
    const char *end;                      /* why the loop ended; NULL while it runs */

    /* Clocks of this process: for progress and the time limit, never for a result. */
    double start, longest_step, looked_for_stop;
    int64_t first_iteration;
    espl_pace pace;                         /* rank 0 */
    double distill_seconds, report_seconds; /* of the distillation steps so far; estimated for the report */
    int64_t distill_steps;
    double tried_seconds; /* of plans that the agent had measured while it was asked */
    double seconds_left;  /* rank 0: estimated after the last step, to the end of the run; NaN: unknown */
} espl_job;

/* Local. Fills in, from j->model and j->config, what a model says of its checkpoints and linears: shape, linears,
 * weights. */
void espl_job_measure_model(espl_job *j);
/* Local. The path of a file in the run directory, appended. */
espl_status espl_job_path(const espl_job *j, const char *name, espl_str *path);
/* Local. `pruned` as a fraction of the prunable weights, and of all parameters with embeddings. */
double espl_job_sparsity(const espl_job *j, int64_t pruned);
double espl_job_sparsity_of_model(const espl_job *j, int64_t pruned);
/* Local. Distillation steps after the target is reached (distill.passes). */
int64_t espl_job_final_distillation(const espl_job *j);
/* Rank 0 only. Appends the outcome to the history, which takes over its decision. */
espl_status espl_job_remember(espl_job *j, espl_outcome *outcome);

#endif
