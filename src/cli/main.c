#include "cli.h"

/* What was asked: *command is still NULL when a bare --help or --version is all there was. */
static espl_status start(espl_comm *c, int argc, char **argv, const cli_command **command, cli_options *o) {
    bool version = false;
    ESPL_TRY(cli_parse(argc, argv, command, o, &version));
    espl_log_init(o->quiet ? ESPL_LOG_QUIET : o->verbose ? ESPL_LOG_DEBUG : ESPL_LOG_INFO, espl_comm_rank(c));
    espl_tensor_blas_init();
    if (espl_comm_rank(c) != 0) return ESPL_OK;
    if (version) cli_print_version();
    if (o->help) cli_print_help(*command);
    return ESPL_OK;
}

static int report(espl_comm *c, espl_status st) {
    if (st == ESPL_OK) return 0;
    if (espl_comm_rank(c) == 0) fprintf(stderr, "espalier: %s\n", espl_base_error_text());
    espl_log(ESPL_LOG_DEBUG, "(%s, at %s)", espl_status_text(st), espl_base_error_place());
    if (st == ESPL_USAGE && espl_comm_rank(c) == 0) fputs("Try 'espalier --help'.\n", stderr);
    return espl_status_exit_code(st);
}

/* What is left in stdio's buffer must reach the disk before success is claimed. */
static espl_status flush_output(void) {
    if (fflush(stdout) != 0 || ferror(stdout))
        return ESPL_FAIL(ESPL_IO, "standard output: the results could not be written");
    return ESPL_OK;
}

int main(int argc, char **argv) {
    espl_comm *c;
    cli_options o;
    const cli_command *command = NULL;
    cli_hold_streams();
    espl_status st = espl_comm_create(&argc, &argv, &c);
    if (!c) return espl_status_exit_code(st);
    if (st == ESPL_OK) st = start(c, argc, argv, &command, &o);
    if (st == ESPL_OK && command && !o.help) st = command->run(c, &o);
    st = espl_comm_agree(c, st == ESPL_OK ? flush_output() : st);
    int code = report(c, st);
    espl_comm_destroy(&c);
    return code;
}
