/* Private to the cli: commands, options and what they share. */
#ifndef ESPL_CLI_H
#define ESPL_CLI_H

#include "espalier/comm.h"
#include "espalier/eval/choices.h"
#include "espalier/eval/freebaseqa.h"
#include "espalier/eval/mmlu.h"
#include "espalier/eval/perplexity.h"
#include "espalier/model/masks.h"
#include "espalier/model/sampling.h"
#include "espalier/model/shape.h"

/* The values of an option that may be given several times, in order; borrowed from argv. */
typedef struct cli_list {
    const char *values[64];
    int n;
} cli_list;

typedef struct cli_options {
    const char *positional; /* the command's operand, or NULL */
    const char *model, *mask, *text, *prompt;
    const char *mmlu, *mmlu_split, *mmlu_style;
    const char *freebaseqa, *freebaseqa_mode, *freebaseqa_examples;
    const char *choices, *details;
    cli_list set;
    int64_t window, limit, batch, ranks, plan_ranks, only, max_tokens, seed, shots, questions, context;
    double temperature, top_p;
    bool json, decode, no_special, resume, dry_run, print_config, list, slurm, quiet, verbose, help;
} cli_options;

typedef struct cli_command {
    const char *name;
    const char *operand; /* name of the positional argument in the help, or NULL */
    const char *summary;
    espl_status (*run)(espl_comm *c, const cli_options *o); /* Collective */
    unsigned bit;
} cli_command;

/* Ends with a NULL name. */
extern const cli_command cli_commands[];

/* Reads argv. *command is NULL for a bare --help or --version (*version). ESPL_USAGE with a text otherwise. */
espl_status cli_parse(int argc, char **argv, const cli_command **command, cli_options *o, bool *version);
/* Help of one command, or of the program if command is NULL, to stdout. */
void cli_print_help(const cli_command *command);
void cli_print_version(void);

/* Before MPI starts: a closed standard stream's number would go to one of MPI's own files, and results into that. It is
 * taken by a descriptor on which reading, or writing, fails. Local. */
void cli_hold_streams(void);
/* Opens the tokenizer of a model directory on rank 0 (elsewhere *t stays NULL). Collective. */
espl_status cli_open_tokenizer(espl_comm *c, const char *dir, espl_tokenizer **t);
/* A warning when the machine's cores are not used, for instance because mpirun bound this rank to one. Local. */
void cli_warn_threads(espl_comm *c);
/* "123.4 MiB" into buf (at least 32 bytes); returns buf. */
const char *cli_bytes(int64_t bytes, char *buf);

/* Collective. With --mask: prunes the model as the checkpoint says. *masks holds what m borrows; free it after m, also
 * after a failure. ESPL_IO, ESPL_FORMAT; ESPL_CONFIG: the checkpoint was made for other weights. */
espl_status cli_mask_apply(espl_comm *c, const cli_options *o, espl_model *m, espl_masks *masks);

/* What `eval` has measured; the parts not asked for are zero. */
typedef struct cli_results {
    espl_perplexity text;
    espl_mmlu mmlu;
    espl_mmlu_result mmlu_result;
    espl_freebaseqa freebaseqa;
    espl_freebaseqa_result freebaseqa_result;
    espl_choices choices;
    espl_choices_result choices_result;
} cli_results;
/* One JSON object, or tables, to stdout. Rank 0 only. */
espl_status cli_print_results(const espl_comm *c, const cli_options *o, const cli_results *r);

espl_status cli_eval(espl_comm *c, const cli_options *o);
espl_status cli_score(espl_comm *c, const cli_options *o);
espl_status cli_tokenize(espl_comm *c, const cli_options *o);
espl_status cli_generate(espl_comm *c, const cli_options *o);
espl_status cli_inspect(espl_comm *c, const cli_options *o);
espl_status cli_prune(espl_comm *c, const cli_options *o);
espl_status cli_sweep(espl_comm *c, const cli_options *o);

#endif
