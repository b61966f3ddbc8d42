/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands, one file each. Collective: every rank calls the same command with the same arguments. argv[0] names the
 * command ("espalier eval"), its options and operand follow. Results go to stdout, on rank 0.
 */
#ifndef ESPL_CLI_COMMANDS_H
#define ESPL_CLI_COMMANDS_H

#include <argp.h>

#include "espalier/comm.h"

/* The one list of commands: dispatch, --help, suggestions, manual pages and completions follow from it. X(name,
 * operand, summary): cli_NAME runs the command and cli_NAME_argp holds its options. The operand begins with the space
 * that separates it from the name. */
#define CLI_COMMAND_LIST(X)                                                                                            \
    X(chat, "", "answer a message with an instruct model, freely or within a JSON schema")                             \
    X(diff, " A B", "compare two runs or checkpoints: measures, sparsity of each linear, overlap of masks")            \
    X(eval, "", "measure a model: perplexity of a text, MMLU, FreebaseQA, multiple choice")                            \
    X(export, "", "make a model directory from a checkpoint")                                                          \
    X(generate, "", "continue a prompt")                                                                               \
    X(inspect, " MODEL_DIR", "show architecture, parameters, layer-to-rank map and memory of a model")                 \
    X(prune, " CONFIG.json", "prune a model: profile, ask the agent, prune, judge, keep or roll back")                 \
    X(score, "", "print the log-probability of every token of standard input, as JSON Lines")                          \
    X(status, " RUN|SWEEP", "show how far a run or a sweep is, from its files")                                        \
    X(sweep, " SWEEP.json", "run a grid of pruning jobs, one after another or as an array of Slurm jobs")              \
    X(tokenize, "", "turn standard input into token ids, one per line, or back")

#define X(name, operand, summary)                                                                                      \
    espl_status cli_##name(espl_comm *c, int argc, char **argv);                                                       \
    extern const struct argp cli_##name##_argp;
CLI_COMMAND_LIST(X)
#undef X

/* Environment and exit codes, for the end of --help and the manual pages. */
#define CLI_ENVIRONMENT                                                                                                \
    "To run on N ranks: mpirun -n N espalier COMMAND ...\n"                                                            \
    "Threads per rank: OMP_NUM_THREADS. With one rank on several cores: mpirun --bind-to none."
#define CLI_EXIT_CODES                                                                                                 \
    "0 done, 1 run failed, 2 wrong usage or configuration, 3 done but off target, 4 done but decided by the policy "   \
    "in place of the agent, 69 agent unreachable, 74 input/output error, 75 stopped early with a valid checkpoint."

#endif
