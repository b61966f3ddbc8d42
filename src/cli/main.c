/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program: finds the command, runs it, and turns its status into a message and an exit code.
 *
 * Nothing below main() may call exit(): MPI must be ended by every rank, or mpirun takes the job for crashed.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "espalier/base/file.h"
#include "espalier/base/log.h"
#include "espalier/base/typo.h"
#include "espalier/run/stop.h"
#include "espalier/tensor/workspace.h"
#include "options.h"

static const struct {
    const char *name;
    espl_status (*run)(espl_comm *c, int argc, char **argv);
} commands[] = {
#define X(name, operand, summary) {#name, cli_##name},
    CLI_COMMAND_LIST(X)
#undef X
};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* ----------------------------------------------------- the program's options */

typedef struct program_options {
    cli_shared shared;
    const char *command; /* NULL: none given */
    int at;              /* its place in argv */
} program_options;

/* The commands appear as documentation: names that --help lists, but that are not options. */
static const struct argp_option program_argp_options[] = {{NULL, 0, NULL, 0, "Commands:", CLI_GROUP_COMMAND},
#define X(name, operand, summary) {#name operand, 0, NULL, OPTION_DOC | OPTION_NO_USAGE, summary, CLI_GROUP_COMMAND},
                                                          CLI_COMMAND_LIST(X)
#undef X
                                                              {0}};

/* Sees the words up to the command. What follows belongs to the command's own parser, so options of the program, which
 * are only --help, --usage and --version, stand before it. */
static error_t program_parse(int key, char *value, struct argp_state *state) {
    program_options *o = state->input;
    if (key == ARGP_KEY_INIT) return cli_share(state, &o->shared);
    if (key != ARGP_KEY_ARG) return ARGP_ERR_UNKNOWN;
    o->command = value;
    o->at = state->next - 1;
    return 0;
}

static const struct argp_child program_children[] = {{&cli_argp_help, 0, NULL, 0}, {0}};
static const struct argp program_argp = {.options = program_argp_options,
                                         .parser = program_parse,
                                         .args_doc = "COMMAND [ARGUMENT...]",
                                         .doc = "Compresses large language models by agent-guided adaptive pruning.\v"
                                                "'espalier COMMAND --help' describes a command. " CLI_ENVIRONMENT
                                                "\n\nExit codes: " CLI_EXIT_CODES,
                                         .children = program_children};

/* --------------------------------------------------------------- the program */

/* Before MPI starts, occupies the numbers of standard streams that the caller has closed: MPI's own files would get
 * them, and results would be written there. Reading from the descriptors taken here, or writing to them, fails. */
static void hold_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
}

static void write_to_stderr(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return; /* nobody to tell */
}

/* SIGBUS: a page behind the end of a file that was cut off while it was mapped. Nothing can be computed without it, so
 * the process ends as it does for any file that cannot be read; the newest checkpoint stands. The launcher ends the
 * other ranks. Calls only what signal-safety(7) allows. */
static void end_on_lost_page(int number, siginfo_t *info, void *context) {
    const char *path = espl_file_mapped_at(info->si_addr);
    (void)context;
    if (!path) {
        signal(number, SIG_DFL); /* not ours: the instruction is repeated, and ends the process */
        return;
    }
    write_to_stderr("espalier: ");
    write_to_stderr(path);
    write_to_stderr(": cannot be read any more: it was cut off while it was in use, or its disk failed\n");
    _exit(espl_status_exit_code(ESPL_IO));
}

/* A job that is stopped while MPI starts would die of the signal, and mpirun may then wait for its ranks for ever. */
static bool command_is_a_job(int argc, char **argv) {
    return argc > 1 && (strcmp(argv[1], "prune") == 0 || strcmp(argv[1], "sweep") == 0);
}

/* Collective. `name` [size] receives how messages call the command: "espalier eval". */
static espl_status run_command(espl_comm *c, int argc, char **argv, char *name, size_t size) {
    program_options o = {0};
    int words = 1; /* up to the command: what follows it is the command's */
    while (words < argc && argv[words][0] == '-') words++;
    ESPL_TRY(cli_parse(c, &program_argp, words < argc ? words + 1 : argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    if (!o.command) return ESPL_FAIL(ESPL_USAGE, "a command is missing");
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(o.command, commands[i].name) == 0) {
            snprintf(name, size, "espalier %s", commands[i].name);
            argv[o.at] = name; /* argp calls the command by its argv[0] */
            espl_tensor_blas_init();
            return commands[i].run(c, argc - o.at, argv + o.at);
        }
    const char *nearest = NULL;
    for (int i = 0, best = ESPL_TYPO_NONE; i < COMMANDS; i++)
        if (espl_typo_nearer(o.command, commands[i].name, &best)) nearest = commands[i].name;
    return ESPL_FAIL(ESPL_USAGE, "unknown command \"%s\"%s%s%s", o.command, nearest ? ": did you mean " : "",
                     nearest ? nearest : "", nearest ? "?" : "");
}

int main(int argc, char **argv) {
    static char program[] = "espalier"; /* the same in all messages, whatever path it was started by */
    espl_comm *c;
    char name[64] = "espalier";
    hold_standard_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file that grows beyond ulimit -f is then an error with a message (EFBIG) */
    if (command_is_a_job(argc, argv)) espl_stop_watch();
    espl_status st = espl_comm_create(&argc, &argv, &c);
    if (!c) { /* no communicator that could say which rank is to print: all do */
        fprintf(stderr, "espalier: %s\n", espl_base_error_text());
        return espl_status_exit_code(st);
    }
    const struct sigaction lost = {.sa_sigaction = end_on_lost_page, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &lost, NULL); /* now, because MPI takes it when it starts */
    if (argc > 0) argv[0] = program;
    if (st == ESPL_OK) st = run_command(c, argc, argv, name, sizeof name);
    /* Success is claimed only when what is left in stdio's buffer has reached the file. */
    if (st == ESPL_OK && (fflush(stdout) != 0 || ferror(stdout)))
        st = ESPL_FAIL(ESPL_IO, "standard output: the results could not be written");
    st = espl_comm_agree(c, st);

    espl_log_end();
    const char *text = espl_base_error_text();
    if (st != ESPL_OK && *text && espl_comm_rank(c) == 0) { /* no text: argp has printed the message */
        fprintf(stderr, "espalier: %s\n", text);
        espl_log(ESPL_LOG_DEBUG, "(%s, at %s)", espl_status_text(st), espl_base_error_place());
        if (st == ESPL_USAGE) fprintf(stderr, "Try '%s --help' for more information.\n", name);
    }
    espl_comm_destroy(&c);
    return espl_status_exit_code(st);
}
