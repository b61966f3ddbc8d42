/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock of a run directory.
 *
 * Taking: the holder's description is written to a file of its own and linked to `lock`. link(2) is atomic on NFS and
 * Lustre too, and the lock is never seen without its content. Where there are no hard links, `lock` is created with
 * O_EXCL. A reply that NFS has lost makes a link that worked look like one that failed: whose lock it is, its content
 * tells.
 *
 * Breaking: the lock of a dead holder is renamed, and then looked at again. If another start has broken it first and
 * taken the lock, the wrong file was renamed, and it is put back. A holder that loses its lock all the same notices
 * (espl_run_lock_check) and stops before it writes its next checkpoint.
 *
 * Times are compared on the clock of the file server only: the age of a heartbeat is the time of the lock's last change
 * before that of a file that has just been touched.
 */
#include "espalier/run/lock.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "espalier/base.h"

enum { HEARTBEAT_S = 10, SILENT_S = 60 }; /* a holder that lives misses five beats only if its disk hangs */
enum { LOCK_BYTES_MAX = 1 << 16, LOCK_FIELD = 128, LOCK_ATTEMPTS = 20 };

/* Who holds a lock. Texts are "" where unknown. */
typedef struct lock_holder {
    char token[LOCK_FIELD]; /* unlike any other holder's */
    char host[LOCK_FIELD], boot[LOCK_FIELD], namespace[LOCK_FIELD];
    char cluster[LOCK_FIELD], job[LOCK_FIELD], since[LOCK_FIELD];
    int64_t pid, pid_started, restarts; /* restarts: of the Slurm job */
} lock_holder;

struct espl_run_lock {
    lock_holder me;
    espl_str path;
    pthread_t thread;
    bool beats; /* the thread runs */
    pthread_mutex_t mutex;
    pthread_cond_t end;
    bool ending;
};

/* ----------------------------------------------------------------- holders */

static void lock_read_line(const char *path, char out[LOCK_FIELD]) {
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (!f) return;
    if (fgets(out, LOCK_FIELD, f)) out[strcspn(out, "\n")] = '\0';
    fclose(f);
}

/* When the process started, in ticks since the host did: a process number is used again, but not with this. -1: there
 * is no such process, or it is hidden; *dead: it has ended, but nobody has asked for its exit code yet. */
static int64_t lock_process_start(int64_t pid, bool *dead) {
    char path[64], text[1024];
    *dead = false;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    const char *p = strrchr(text, ')'); /* the name of the program may hold anything */
    if (p) p = strchr(p, ' ');          /* field 3, the state */
    *dead = p && (p[1] == 'Z' || p[1] == 'X');
    for (int field = 3; p && field < 22; field++) p = strchr(p + 1, ' ');
    return p ? strtoll(p, NULL, 10) : -1;
}

static void lock_copy_variable(const char *name, char out[LOCK_FIELD]) {
    const char *value = getenv(name);
    snprintf(out, LOCK_FIELD, "%s", value ? value : "");
}

static void lock_describe_me(lock_holder *h) {
    struct timespec now;
    struct tm utc;
    char restarts[LOCK_FIELD];
    bool dead;
    *h = (lock_holder){.pid = (int64_t)getpid()};
    if (gethostname(h->host, sizeof h->host - 1) != 0) strcpy(h->host, "?");
    lock_read_line("/proc/sys/kernel/random/boot_id", h->boot);
    ssize_t n = readlink("/proc/self/ns/pid", h->namespace, sizeof h->namespace - 1);
    h->namespace[n > 0 ? n : 0] = '\0';
    h->pid_started = lock_process_start(h->pid, &dead);
    lock_copy_variable("SLURM_CLUSTER_NAME", h->cluster);
    lock_copy_variable("SLURM_JOB_ID", h->job);
    lock_copy_variable("SLURM_RESTART_COUNT", restarts);
    h->restarts = strtoll(restarts, NULL, 10);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(h->since, sizeof h->since, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(h->token, sizeof h->token, "%.64s-%" PRId64 "-%" PRId64 ".%09ld", h->host, h->pid, (int64_t)now.tv_sec,
             now.tv_nsec);
}

#define LOCK_TEXTS(X) X(token) X(host) X(boot) X(namespace) X(cluster) X(job) X(since)
#define LOCK_NUMBERS(X) X(pid) X(pid_started) X(restarts)

static espl_status lock_print(const lock_holder *h, espl_str *out) {
    espl_json_writer w = espl_json_writer_on(out);
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
#define X(member) espl_json_put_text(&w, #member, h->member);
    LOCK_TEXTS(X)
#undef X
#define X(member) espl_json_put_i64(&w, #member, h->member);
    LOCK_NUMBERS(X)
#undef X
    espl_json_close(&w);
    espl_str_puts(out, "\n");
    return espl_str_status(out);
}

/* Reads a lock. False: there is none (errno ENOENT), or it cannot be read; a member that is missing or wrong is left
 * empty, which proves nothing. */
static bool lock_read(const char *path, lock_holder *h, struct stat *info) {
    char text[LOCK_BYTES_MAX];
    cJSON *doc = NULL;
    *h = (lock_holder){.pid = -1};
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = fstat(fd, info) == 0 && S_ISREG(info->st_mode) ? read(fd, text, sizeof text) : -1;
    close(fd);
    if (n < 0 || espl_json_parse(text, n, path, &doc) != ESPL_OK) return errno = EINVAL, false;
    const char *value;
#define X(member)                                                                                                      \
    if (espl_json_get_str(doc, #member, path, true, &value) == ESPL_OK)                                                \
        snprintf(h->member, sizeof h->member, "%s", value);
    LOCK_TEXTS(X)
#undef X
#define X(member) (void)espl_json_get_i64(doc, #member, path, true, 0, INT64_MAX / 2, &h->member);
    LOCK_NUMBERS(X)
#undef X
    espl_json_free(&doc);
    return true;
}

static bool lock_same(const char *a, const char *b) { return *a && strcmp(a, b) == 0; }

/* --------------------------------------------------------------- judgement */

typedef enum lock_verdict { LOCK_HELD, LOCK_DEAD, LOCK_DEAD_IF_SILENT } lock_verdict;

/* Only what is impossible for a living holder is a proof. That another host does not answer is none: it may have lost
 * its network and write again later. */
static lock_verdict lock_judge(const lock_holder *holder, const lock_holder *me) {
    bool same_host = lock_same(holder->host, me->host);
    if (same_host && lock_same(holder->boot, me->boot) && lock_same(holder->namespace, me->namespace) &&
        holder->pid > 0) {
        if (kill((pid_t)holder->pid, 0) != 0 && errno == ESRCH) return LOCK_DEAD;
        bool ended;
        int64_t start = lock_process_start(holder->pid, &ended);
        bool other = start >= 0 && holder->pid_started >= 0 && start != holder->pid_started;
        return ended || other ? LOCK_DEAD : LOCK_HELD;
    }
    /* The host was started again. Its name may be another's too, so its heartbeat must be silent besides. */
    if (same_host && *holder->boot && *me->boot && strcmp(holder->boot, me->boot) != 0) return LOCK_DEAD_IF_SILENT;
    /* Slurm has ended the job that it starts again. A node that it has lost may still run it for a while. */
    if (lock_same(holder->job, me->job) && strcmp(holder->cluster, me->cluster) == 0 && holder->restarts < me->restarts)
        return LOCK_DEAD_IF_SILENT;
    return LOCK_HELD;
}

/* Appends "process 12 on host n1 since ..., Slurm job 4 (restart 1)". The lock is hostile input for a terminal. */
static void lock_put_holder(espl_str *s, const lock_holder *h) {
    espl_str_puts(s, "process ");
    if (h->pid > 0)
        espl_str_printf(s, "%" PRId64 " on host ", h->pid);
    else
        espl_str_puts(s, "? on host ");
    espl_str_put_json(s, h->host, (int64_t)strlen(h->host));
    espl_str_puts(s, " since ");
    espl_str_put_json(s, h->since, (int64_t)strlen(h->since));
    if (!*h->job) return;
    espl_str_puts(s, ", Slurm job ");
    espl_str_put_json(s, h->job, (int64_t)strlen(h->job));
    espl_str_printf(s, " (restart %" PRId64 ")", h->restarts);
}

static espl_status lock_refuse(const char *dir, const lock_holder *h, int64_t age) {
    espl_str who = {0};
    lock_put_holder(&who, h);
    espl_status st = espl_str_status(&who);
    if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_CONFIG,
                       "run.dir: %s is in use by %s; last sign of life %" PRId64
                       " s ago. If that process is certainly gone, delete %s/lock",
                       dir, who.data, espl_max_i64(age, 0), dir);
    espl_str_free(&who);
    return st;
}

bool espl_run_lock_is_held(const char *dir, espl_str *holder) {
    lock_holder h, me;
    struct stat info;
    espl_str path = {0};
    lock_describe_me(&me);
    espl_str_printf(&path, "%s/lock", dir);
    bool held = !path.failed && espl_file_exists(path.data);
    if (held && lock_read(path.data, &h, &info)) held = lock_judge(&h, &me) != LOCK_DEAD;
    if (held) lock_put_holder(holder, &h);
    espl_str_free(&path);
    return held;
}

/* ------------------------------------------------------------------ taking */

/* Writes a file that must not exist. False with errno set. */
static bool lock_write_new(const char *path, const espl_str *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    bool written = espl_file_write_all(fd, text->data, text->len);
    int error = errno;
    bool closed = close(fd) == 0;
    if (!written) errno = error;
    return written && closed;
}

/* Gives the description in file `own` the name `lock`. False with errno set, EEXIST if there is a lock. */
static bool lock_claim(const char *own, const char *lock, const espl_str *text) {
    struct stat info;
    bool links = !espl_fault("lock.no_links"); /* the fault: a file system without hard links */
    if (links && link(own, lock) == 0) return true;
    int error = links ? errno : EPERM;
    if (stat(own, &info) == 0 && info.st_nlink == 2) return true; /* NFS has lost the reply */
    if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK) return lock_write_new(lock, text);
    errno = error;
    return false;
}

/* Renames the lock of a dead holder away and removes it, unless another start has taken the lock since. */
static void lock_break(const char *lock, const char *aside, const lock_holder *dead) {
    lock_holder now;
    struct stat info;
    if (!lock_read(lock, &now, &info) || strcmp(now.token, dead->token) != 0) return;
    if (espl_fault("lock.break") || rename(lock, aside) != 0) return;
    (void)espl_fault("lock.broken");
    if (lock_read(aside, &now, &info) && strcmp(now.token, dead->token) != 0) {
        if (link(aside, lock) != 0 && errno != EEXIST) (void)rename(aside, lock);
    } else {
        espl_str who = {0};
        lock_put_holder(&who, dead);
        if (!who.failed) ESPL_INFO("note: %s, of %s, is broken: that process is dead", lock, who.data);
        espl_str_free(&who);
    }
    (void)unlink(aside);
}

/* Seconds between the last change of the lock and now, on the clock of the file server: `own` is touched. */
static int64_t lock_age(const char *own, const struct stat *lock) {
    struct stat now;
    if (utimensat(AT_FDCWD, own, NULL, 0) != 0 || stat(own, &now) != 0) return 0;
    return (int64_t)(now.st_mtim.tv_sec - lock->st_mtim.tv_sec);
}

/* Takes the lock, or says who has it. `own` and `aside`: names of files that nobody else uses. */
static espl_status lock_acquire(const espl_run_lock *l, const char *dir, const char *own, const char *aside,
                                bool (*cancelled)(void)) {
    const char *lock = l->path.data;
    espl_str text = {0};
    espl_status st;
    ESPL_CHECK(st, done, lock_print(&l->me, &text));
    for (int attempt = 0, waited = 0; attempt < LOCK_ATTEMPTS;) {
        lock_holder holder;
        struct stat info = {0};
        if (access(own, F_OK) != 0 && !lock_write_new(own, &text)) {
            st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", own, strerror(errno));
            goto done;
        }
        (void)espl_fault("lock.claim");
        if (lock_claim(own, lock, &text)) goto done;
        if (errno != EEXIST && errno != ENOENT) {
            st = ESPL_FAIL(ESPL_IO, "%s: cannot be created: %s", lock, strerror(errno));
            goto done;
        }
        bool read = lock_read(lock, &holder, &info);
        bool gone = !read && errno == ENOENT;
        if (!read) (void)lstat(lock, &info);
        if (read && strcmp(holder.token, l->me.token) == 0) goto done;
        int64_t age = lock_age(own, &info);
        lock_verdict verdict = gone ? LOCK_DEAD : lock_judge(&holder, &l->me);
        if (verdict == LOCK_HELD || (verdict == LOCK_DEAD_IF_SILENT && waited > 2 * SILENT_S)) {
            st = lock_refuse(dir, &holder, age);
            goto done;
        }
        if (verdict == LOCK_DEAD || age > SILENT_S) {
            if (read) lock_break(lock, aside, &holder);
            attempt++;
            continue;
        }
        if (waited++ == 0)
            ESPL_INFO("%s: the holder of %s is dead if it stays silent for %d s: waiting", dir, lock, SILENT_S);
        if (cancelled()) {
            st = ESPL_FAIL(ESPL_STOPPED, "stopped by a signal while waiting for %s", lock);
            goto done;
        }
        sleep(1);
    }
    st = ESPL_FAIL(ESPL_IO, "%s: cannot be taken: it appears and disappears", lock);
done:
    (void)unlink(own);
    espl_str_free(&text);
    return st;
}

/* Removes the files of starts that were killed while they took the lock. One that lives makes its file again. */
static void lock_remove_leftovers(const char *dir) {
    static const char prefix[] = "lock.";
    DIR *d = opendir(dir);
    for (const struct dirent *e; d && (e = readdir(d));) {
        espl_str path = {0};
        if (strncmp(e->d_name, prefix, sizeof prefix - 1) != 0) continue;
        espl_str_printf(&path, "%s/%s", dir, e->d_name);
        if (!path.failed) (void)unlink(path.data);
        espl_str_free(&path);
    }
    if (d) closedir(d);
}

/* --------------------------------------------------------------- heartbeat */

/* Touches the lock while it is ours. A disk that does not answer is waited for; a lock that is gone is noticed by
 * espl_run_lock_check, on the main thread. */
static void lock_beat(const espl_run_lock *l) {
    lock_holder now;
    struct stat info;
    if (lock_read(l->path.data, &now, &info) && strcmp(now.token, l->me.token) == 0)
        (void)utimensat(AT_FDCWD, l->path.data, NULL, AT_SYMLINK_NOFOLLOW);
}

static void *lock_heartbeat(void *arg) {
    espl_run_lock *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->ending) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += HEARTBEAT_S;
        if (pthread_cond_timedwait(&l->end, &l->mutex, &until) == ETIMEDOUT) lock_beat(l);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Signals are for the main thread. */
static espl_status lock_start_heartbeat(espl_run_lock *l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&l->thread, NULL, lock_heartbeat, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    l->beats = error == 0;
    return l->beats ? ESPL_OK
                    : ESPL_FAIL(ESPL_NOMEM, "%s: no thread for the heartbeat: %s", l->path.data, strerror(error));
}

/* --------------------------------------------------------------- interface */

espl_status espl_run_lock_take(espl_run_lock **out, const char *dir, bool (*cancelled)(void)) {
    espl_run_lock *l;
    espl_str own = {0}, aside = {0};
    bool taken = false;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_mem_alloc(&l, 1, sizeof *l, "lock"));
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->end, NULL);
    lock_describe_me(&l->me);
    espl_str_printf(&l->path, "%s/lock", dir);
    espl_str_printf(&own, "%s/lock.%s.part", dir, l->me.token);
    espl_str_printf(&aside, "%s/lock.%s.dead", dir, l->me.token);
    ESPL_CHECK(st, done, espl_str_status(&l->path));
    ESPL_CHECK(st, done, espl_str_status(&own));
    ESPL_CHECK(st, done, espl_str_status(&aside));
    ESPL_CHECK(st, done, lock_acquire(l, dir, own.data, aside.data, cancelled));
    taken = true;
    (void)espl_fault("lock.taken");
    lock_remove_leftovers(dir);
    st = lock_start_heartbeat(l);
done:
    espl_str_free(&own);
    espl_str_free(&aside);
    *out = l;
    if (st == ESPL_OK) return st;
    if (!taken) l->me.token[0] = '\0'; /* nothing to remove */
    espl_run_lock_release(out);
    return st;
}

espl_status espl_run_lock_check(const espl_run_lock *l) {
    lock_holder now;
    struct stat info;
    if (!l) return ESPL_OK;
    if (lock_read(l->path.data, &now, &info)) {
        if (strcmp(now.token, l->me.token) == 0) return ESPL_OK;
        espl_str who = {0};
        lock_put_holder(&who, &now);
        espl_status st = ESPL_FAIL(ESPL_IO, "%s is no longer ours but of %s: this run stops, to leave the files to it",
                                   l->path.data, who.data ? who.data : "?");
        espl_str_free(&who);
        return st;
    }
    return ESPL_FAIL(ESPL_IO,
                     "%s is gone (%s): the run directory was deleted or replaced, or somebody deleted the lock",
                     l->path.data, strerror(errno));
}

void espl_run_lock_release(espl_run_lock **lp) {
    espl_run_lock *l = *lp;
    if (!l) return;
    if (l->beats) {
        pthread_mutex_lock(&l->mutex);
        l->ending = true;
        pthread_cond_signal(&l->end);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    lock_holder now;
    struct stat info;
    (void)espl_fault("lock.release");
    if (l->me.token[0] && lock_read(l->path.data, &now, &info) && strcmp(now.token, l->me.token) == 0)
        (void)unlink(l->path.data);
    pthread_cond_destroy(&l->end);
    pthread_mutex_destroy(&l->mutex);
    espl_str_free(&l->path);
    espl_mem_free(lp);
}

void espl_run_lock_clear_dead(const char *dir, bool (*cancelled)(void)) {
    lock_holder holder, me;
    struct stat info;
    espl_run_lock *l = NULL;
    espl_str path = {0};
    lock_describe_me(&me);
    espl_str_printf(&path, "%s/lock", dir);
    bool dead = !path.failed && lock_read(path.data, &holder, &info) && lock_judge(&holder, &me) == LOCK_DEAD;
    espl_str_free(&path);
    if (!dead) return;
    if (espl_run_lock_take(&l, dir, cancelled) != ESPL_OK) espl_base_error_clear();
    espl_run_lock_release(&l);
}
