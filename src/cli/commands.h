/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands, one file each. Collective: every rank calls the same command with the same arguments. argv[0] names the
 * command ("espalier eval"), its options and operand follow. Results go to stdout, on rank 0.
 */
#ifndef ESPL_CLI_COMMANDS_H
#define ESPL_CLI_COMMANDS_H

#include "espalier/comm.h"

espl_status cli_eval(espl_comm *c, int argc, char **argv);
espl_status cli_generate(espl_comm *c, int argc, char **argv);
espl_status cli_inspect(espl_comm *c, int argc, char **argv);
espl_status cli_prune(espl_comm *c, int argc, char **argv);
espl_status cli_score(espl_comm *c, int argc, char **argv);
espl_status cli_sweep(espl_comm *c, int argc, char **argv);
espl_status cli_tokenize(espl_comm *c, int argc, char **argv);

#endif
