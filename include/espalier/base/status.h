/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status codes, the text of the current error, and the macros that pass errors on. All functions are Local.
 *
 * A function that can fail returns espl_status. The function that detects a fault records it with ESPL_FAIL: a code,
 * the place in the source, and a text that tells the user what to do. Callers pass the code on with ESPL_TRY or
 * ESPL_CHECK and leave the text alone. The record belongs to the calling thread.
 */
#ifndef ESPALIER_BASE_STATUS_H
#define ESPALIER_BASE_STATUS_H

/* X(name, exit code of the program, text). 69, 74 and 75 are sysexits.h's. */
#define ESPL_STATUS_LIST(X)                                                                                            \
    X(OK, 0, "done")                                                                                                   \
    X(FAILED, 1, "run failed")                                                                                         \
    X(FORMAT, 1, "malformed input data")                                                                               \
    X(UNSUPPORTED, 1, "not supported")                                                                                 \
    X(NOMEM, 1, "out of memory")                                                                                       \
    X(COMM, 1, "communication failed")                                                                                 \
    X(INTERNAL, 1, "internal error")                                                                                   \
    X(USAGE, 2, "wrong usage")                                                                                         \
    X(CONFIG, 2, "wrong configuration")                                                                                \
    X(OFF_TARGET, 3, "done, but the target was not reached")                                                           \
    X(FELL_BACK, 4, "done, but decided by the policy instead of the agent")                                            \
    X(AGENT, 69, "agent unreachable")                                                                                  \
    X(DENIED, 69, "agent denies access")                                                                               \
    X(IO, 74, "input/output error")                                                                                    \
    X(STOPPED, 75, "stopped early, can be resumed")

typedef enum espl_status {
#define X(name, exit_code, text) ESPL_##name,
    ESPL_STATUS_LIST(X)
#undef X
        ESPL_STATUS_COUNT
} espl_status;

/* "IO"; "?" for a value outside the list. Static storage. */
const char *espl_status_name(espl_status st);
/* "input/output error". Static storage. */
const char *espl_status_text(espl_status st);
/* The program's exit code for this status (docs/architecture.md lists them). */
int espl_status_exit_code(espl_status st);

/* Longer error texts are cut. */
#define ESPL_ERROR_TEXT_MAX 1024

/* Records code, place and text as this thread's current error, replacing the previous one, and returns code. Arguments
 * may point into espl_base_error_text(), so that a caller can wrap a message. Use ESPL_FAIL. */
espl_status espl_base_fail(espl_status code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Repeats (code) at the end so that static analyzers see that a failure is never ESPL_OK. */
#define ESPL_FAIL(code, ...) (espl_base_fail((code), __FILE__, __LINE__, __VA_ARGS__), (code))

/* Returns a failure to the caller. Not between collectives: one rank would leave alone and the others would wait for it
 * forever. See espl_comm_agree. */
#define ESPL_TRY(expr)                                                                                                 \
    do {                                                                                                               \
        espl_status st_try_ = (expr);                                                                                  \
        if (st_try_ != ESPL_OK) return st_try_;                                                                        \
    } while (0)
/* Sets st and, on failure, jumps to the cleanup label. Not between collectives, for the same reason. */
#define ESPL_CHECK(st, label, expr)                                                                                    \
    do {                                                                                                               \
        if (((st) = (expr)) != ESPL_OK) goto label;                                                                    \
    } while (0)

/* Text of this thread's current error, "" if none. Borrowed; overwritten by the next ESPL_FAIL. */
const char *espl_base_error_text(void);
/* "src/room/file.c:123" of the current error, "" if none. Borrowed. */
const char *espl_base_error_place(void);
/* Replaces the current error: espl_comm_agree carries the error of another rank with it. */
void espl_base_error_set(const char *place, const char *text);
void espl_base_error_clear(void);

#endif
