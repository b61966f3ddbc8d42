/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one pruning path. A job is a loop of steps; each step is proposed, applied, judged and settled:
 *
 *     propose   which linears lose how much          the agent, many small steps | a one-shot method, one large step
 *     apply     prune exactly the proposed number of weights; verify the counts
 *     judge     losses of text and answers           two bounds                  | a method is always accepted
 *     settle    accept, or roll the masks back; probe questions, history, events, checkpoint
 *
 * agent_step.c and method_step.c fill in the columns; everything else is the same code.
 */
#ifndef ESPL_RUN_LOOP_H
#define ESPL_RUN_LOOP_H

#include "state.h"

typedef struct espl_proposer {
    /* Local. Why the loop ends here, in words for the summary; NULL: another step is due. */
    const char *(*reason_to_end)(const espl_job *j);
    /* Collective. Fills outcome->decision, the items on every rank and the texts on rank 0. A proposer that wants no
     * further step sets j->end instead. */
    espl_status (*propose)(espl_job *j, espl_outcome *outcome);
    /* Local, or Collective with an agreed status. Prunes the masks of this rank's linears. expected [linears], on rank
     * 0 (elsewhere NULL): the pruned weights that each linear of the model must then have. */
    espl_status (*apply)(espl_job *j, espl_outcome *outcome, int64_t *expected);
    /* Collective. Measures the step, and says whether it is accepted. A failure ends the run. */
    espl_status (*judge)(espl_job *j, espl_quality *after, bool *accepted);
    /* Steps are cheap to repeat: a stop request between apply and judge discards the step. */
    bool interruptible;
    /* Ask the probe questions after every step, whatever probes.every says. */
    bool always_probes;
} espl_proposer;

extern const espl_proposer espl_agent_proposer;  /* agent_step.c */
extern const espl_proposer espl_method_proposer; /* method_step.c */

/* Collective. Appends, on rank 0, what a language model would be asked as the next step; profiles the accepted state.
 */
espl_status espl_agent_step_put_prompt(espl_job *j, espl_str *out);

/* Collective. Applies and judges outcome->decision as the next step, and takes it back: fills the other members.
 * Nothing is recorded and nothing counted. */
espl_status espl_loop_try(espl_job *j, espl_outcome *outcome);

/* Collective. Steps until j->end is set. ESPL_STOPPED: stopped early; the last checkpoint is the state to resume. */
espl_status espl_loop_run(espl_job *j, const espl_proposer *p);

#endif
