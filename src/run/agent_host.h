/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent may ask of the run while it decides. The agent is rank 0's; while it is asked, the other ranks obey:
 *
 *     rank 0                                   the others
 *     espl_agent_ask(agent, &view, &host, &d)  espl_agent_host_obey(j)
 *         host.measure, host.complete ...          take part in each
 *     espl_agent_host_release(j)               return
 */
#ifndef ESPL_RUN_AGENT_HOST_H
#define ESPL_RUN_AGENT_HOST_H

#include "state.h"

/* Local. The directory of the model that decides, and how its chat is opened; only of backend local. */
const char *espl_agent_host_model_path(const espl_config *o);
espl_chat_options espl_agent_host_chat_options(const espl_config *o);

/* Collective. Opens the model that decides, if the agent is a local one. Errors of espl_chat_open. */
espl_status espl_agent_host_open(espl_job *j);

/* Rank 0 only. The host of one question to the agent. */
espl_agent_host espl_agent_host_of(espl_job *j);
/* Rank 0 only. Ends espl_agent_host_obey. */
void espl_agent_host_release(espl_job *j);
/* All ranks but 0. Takes part in what the agent asks for until it has decided. The first failure, which rank 0 has,
 * too; the agent's decision then does not count. */
espl_status espl_agent_host_obey(espl_job *j);

/* Collective. Sends what all ranks need of rank 0's decision; its texts stay there. */
espl_status espl_agent_host_share_plan(espl_job *j, espl_decision *d);

#endif
