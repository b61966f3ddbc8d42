#include "cli.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

void cli_hold_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
}

espl_status cli_open_tokenizer(espl_comm *c, const char *dir, espl_tokenizer **t) {
    *t = NULL;
    return espl_comm_agree(c, espl_comm_rank(c) == 0 ? espl_tokenizer_open(dir, t) : ESPL_OK);
}

void cli_warn_threads(espl_comm *c) {
    cpu_set_t set;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (espl_comm_size(c) > 1 || sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) >= online) return;
    ESPL_INFO("note: this rank may use %d of %ld cores; mpirun binds a single rank to one core unless told "
              "--bind-to none",
              CPU_COUNT(&set), online);
}

const char *cli_bytes(int64_t bytes, char *buf) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++) v /= 1024;
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}
