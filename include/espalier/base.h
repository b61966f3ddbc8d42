/*
 * base: what every room stands on. Status codes and error text, log, memory, byte strings, files, hashing, random
 * numbers, clock and timed regions, and typed reading of JSON. No MPI here. All functions are Local.
 *
 * Errors: a function that can fail returns espl_status. The one that first notices the fault records it with
 * ESPL_FAIL (code, place and a text a user can act on); callers pass the code on with ESPL_TRY.
 */
#ifndef ESPALIER_BASE_H
#define ESPALIER_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cJSON;

/* ---------------------------------------------------------------- status */

/* X(name, exit code of the program, text) */
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
    X(AGENT, 69, "agent unreachable")                                                                                  \
    X(IO, 74, "input/output error")                                                                                    \
    X(STOPPED, 75, "stopped early, can be resumed")

typedef enum espl_status {
#define X(name, exit_code, text) ESPL_##name,
    ESPL_STATUS_LIST(X)
#undef X
        ESPL_STATUS_COUNT
} espl_status;

/* "IO"; "?" for a number that is no status. Static storage. */
const char *espl_status_name(espl_status st);
/* "input/output error". Static storage. */
const char *espl_status_text(espl_status st);
/* The program's exit code for this status (docs/architecture.md lists them). */
int espl_status_exit_code(espl_status st);

#define ESPL_ERROR_TEXT_MAX 1024

/* Records code, place and text as this thread's current error and returns code. The newest record wins. */
espl_status espl_base_fail(espl_status code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* (code) again at the end: analyzers then see that a failure is not ESPL_OK. */
#define ESPL_FAIL(code, ...) (espl_base_fail((code), __FILE__, __LINE__, __VA_ARGS__), (code))
/* Passes a failure on to the caller. Not between collectives: see espl_comm_agree. */
#define ESPL_TRY(expr)                                                                                                 \
    do {                                                                                                               \
        espl_status st_try_ = (expr);                                                                                  \
        if (st_try_ != ESPL_OK) return st_try_;                                                                        \
    } while (0)
/* Sets st and jumps to the cleanup label on failure. Not between collectives either: one rank would jump alone. */
#define ESPL_CHECK(st, label, expr)                                                                                    \
    do {                                                                                                               \
        if (((st) = (expr)) != ESPL_OK) goto label;                                                                    \
    } while (0)

/* Text of this thread's current error, "" if none. Borrowed, changed by the next ESPL_FAIL. */
const char *espl_base_error_text(void);
/* "src/room/file.c:123" of the current error, "" if none. Borrowed. */
const char *espl_base_error_place(void);
/* Replaces the current error's text (used to carry another rank's error). */
void espl_base_error_set(const char *place, const char *text);
void espl_base_error_clear(void);

/* ------------------------------------------------- fault injection (tests/fault)
 *
 * ESPL_FAULT=site:rank[:nth[:kill]] makes the nth passage (from 1; 0 or none: every one) of that rank at that site
 * fail, or kills the process there. Without the variable nothing ever happens. */
/* true: the caller fails here as if the system had refused. */
bool espl_fault(const char *site);
/* Which rank this process is; espl_comm_create calls it. */
void espl_fault_rank(int rank);

/* ------------------------------------------------------------------- log */

typedef enum espl_log_level { ESPL_LOG_QUIET, ESPL_LOG_INFO, ESPL_LOG_DEBUG } espl_log_level;

/* Human text goes to stderr, from rank 0 only; results go to stdout. */
void espl_log_init(espl_log_level level, int rank);
void espl_log(espl_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define ESPL_INFO(...) espl_log(ESPL_LOG_INFO, __VA_ARGS__)
#define ESPL_DEBUG(...) espl_log(ESPL_LOG_DEBUG, __VA_ARGS__)
/* One line redrawn in place on a terminal, or, elsewhere, one line every 10 s. `last` ends the line. Rank 0 only. */
void espl_log_progress(bool last, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---------------------------------------------------------------- memory */

/* n * size zeroed bytes in *out (type T **), or ESPL_NOMEM naming `what`. n * size may be 0: *out is then still
 * a unique pointer to free. Owned by the caller: espl_mem_free(&p). */
espl_status espl_mem_alloc(void *out, int64_t n, size_t size, const char *what);
/* Grows or shrinks *inout to n * size bytes; new bytes are not zeroed. On failure *inout is unchanged. */
espl_status espl_mem_resize(void *inout, int64_t n, size_t size, const char *what);
/* Frees *p and sets it to NULL. p points to a pointer; NULL-safe. */
void espl_mem_free(void *p);
/* malloc/free balance of espl_mem_*, for leak checks at exit. */
int64_t espl_mem_balance(void);

/* An arena: one allocation, 64-byte aligned pieces, freed at once. */
typedef struct espl_arena espl_arena;
espl_status espl_arena_create(espl_arena **out, size_t bytes, const char *what);
/* A zeroed 64-byte aligned piece, NULL if the arena is too small (a sizing bug: the caller reports ESPL_INTERNAL).
 * Borrowed from the arena. */
void *espl_arena_take(espl_arena *a, size_t bytes);
/* What a piece of `bytes` takes out of an arena: bytes rounded up to 64. */
size_t espl_arena_piece(size_t bytes);
void espl_arena_destroy(espl_arena **a);

/* Overflow-checked a * b for counts >= 0; false on overflow or a negative factor. */
bool espl_mul_i64(int64_t a, int64_t b, int64_t *out);

static inline int64_t espl_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t espl_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---------------------------------------------------------- byte strings */

/* A growable byte string, always NUL-terminated once it holds something. Zero-initialise; free with espl_str_free.
 * After an allocation failure `failed` is set, appends do nothing, and espl_str_status says so. */
typedef struct espl_str {
    char *data;
    int64_t len, cap;
    bool failed;
} espl_str;

void espl_str_put(espl_str *s, const void *bytes, int64_t n);
void espl_str_puts(espl_str *s, const char *cstr);
void espl_str_printf(espl_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends a JSON string with quotes. `bytes` may be any bytes: what is not UTF-8 becomes U+FFFD. */
void espl_str_put_json(espl_str *s, const char *bytes, int64_t n);
espl_status espl_str_status(const espl_str *s);
void espl_str_free(espl_str *s);

/* Length (1..4) of the valid UTF-8 sequence at p[0..n), 0 if it is invalid or cut off (surrogates, overlong forms and
 * > U+10FFFF are invalid). n >= 1. */
int espl_utf8_length(const char *p, int64_t n);

/* ----------------------------------------------------------------- files */

/* The whole file (or stdin for path "-") as bytes, a NUL appended that *len does not count. Larger than max_bytes,
 * missing or unreadable: ESPL_IO. Owned by the caller: espl_mem_free. */
espl_status espl_file_read(const char *path, int64_t max_bytes, char **out, int64_t *len);

/* A file mapped read-only. */
typedef struct espl_mapping {
    const uint8_t *data;
    int64_t len;
} espl_mapping;
espl_status espl_file_map(const char *path, espl_mapping *out);
void espl_file_unmap(espl_mapping *m);
bool espl_file_exists(const char *path);
/* Replaces the file by these bytes: written to PATH.part, flushed to the disk, renamed. ESPL_IO. */
espl_status espl_file_replace(const char *path, const char *bytes, int64_t len);
/* Makes a directory and its parents; one that is there already is fine. ESPL_IO. */
espl_status espl_file_make_directory(const char *path);
/* Forces the directory that holds `path` onto the disk, as after a rename. Some file systems refuse: not a failure. */
void espl_file_sync_directory(const char *path);

/* --------------------------------------------------------------- hashing */

uint64_t espl_hash64(const void *bytes, int64_t n, uint64_t seed); /* XXH3, 64 bit */

/* Byte string -> int64 map. Keys are borrowed: they must outlive the map. */
typedef struct espl_map espl_map;
espl_status espl_map_create(espl_map **out, int64_t expected);
/* Adds or replaces. */
espl_status espl_map_put(espl_map *m, const char *key, int64_t len, int64_t value);
/* true and *value if the key is there. value may be NULL. */
bool espl_map_get(const espl_map *m, const char *key, int64_t len, int64_t *value);
int64_t espl_map_count(const espl_map *m);
void espl_map_destroy(espl_map **m);

/* ---------------------------------------------------------- random numbers */

/* xoshiro256** (Blackman & Vigna 2018), seeded through splitmix64 from (seed, stream, purpose); never from a rank. */
typedef struct espl_rng {
    uint64_t s[4];
} espl_rng;
void espl_rng_seed(espl_rng *r, uint64_t seed, uint64_t stream, uint64_t purpose);
uint64_t espl_rng_next(espl_rng *r);
double espl_rng_uniform(espl_rng *r);           /* [0, 1), 53 bits */
int64_t espl_rng_below(espl_rng *r, int64_t n); /* [0, n), unbiased; n >= 1 */
double espl_rng_normal(espl_rng *r);            /* N(0, 1), Box-Muller */

/* ------------------------------------------------------------------ clock */

double espl_clock_now(void); /* monotonic seconds */

/* Timed regions: where the time of a run went. Up to TRANSFER: kinds of computation; from PROFILE on: phases of a
 * pruning run, which contain the former. X(name, label) */
#define ESPL_REGION_LIST(X)                                                                                            \
    X(LOAD, "load")                                                                                                    \
    X(TOKENIZE, "tokenize")                                                                                            \
    X(LINEAR, "linear")                                                                                                \
    X(ATTENTION, "attention")                                                                                          \
    X(ELEMENTWISE, "elementwise")                                                                                      \
    X(HEAD, "head")                                                                                                    \
    X(TRANSFER, "transfer wait")                                                                                       \
    X(PROFILE, "profile")                                                                                              \
    X(AGENT, "agent")                                                                                                  \
    X(PRUNE, "prune")                                                                                                  \
    X(JUDGE, "perplexity")                                                                                             \
    X(PROBE, "probes")                                                                                                 \
    X(CHECKPOINT, "checkpoint")                                                                                        \
    X(REPORT, "report")                                                                                                \
    X(EXPORT, "export")
typedef enum espl_region {
#define X(name, label) ESPL_REGION_##name,
    ESPL_REGION_LIST(X)
#undef X
        ESPL_REGION_COUNT
} espl_region;
enum { ESPL_REGION_PHASES = ESPL_REGION_PROFILE };
const char *espl_region_label(espl_region r);
/* Adds `seconds` (and one call) to a region; call from the main thread. */
void espl_region_add(espl_region r, double seconds);
double espl_region_seconds(espl_region r);
/* Sets all regions to 0. */
void espl_region_reset(void);

/* ------------------------------------------------------------------- JSON */

/* Parses text[0..len). `name` is used in messages. Owned by the caller: espl_json_free. cJSON refuses nesting deeper
 * than 1000. Anything but white space after the value is an error. */
espl_status espl_json_parse(const char *text, int64_t len, const char *name, struct cJSON **out);
espl_status espl_json_read(const char *path, int64_t max_bytes, struct cJSON **out);
void espl_json_free(struct cJSON **doc);

/* Typed members of object `obj`; `where` names file and path for messages ("config.json: rope_scaling").
 * Missing (or null): with `required` ESPL_FORMAT naming the key, else *out keeps its value (the default) and ESPL_OK.
 * A wrong type, a fraction where an integer is due or a value outside [lo, hi] is ESPL_FORMAT in words.
 * Strings are borrowed from the document. */
espl_status espl_json_get_i64(const struct cJSON *obj, const char *key, const char *where, bool required, int64_t lo,
                              int64_t hi, int64_t *out);
espl_status espl_json_get_f64(const struct cJSON *obj, const char *key, const char *where, bool required, double lo,
                              double hi, double *out);
espl_status espl_json_get_bool(const struct cJSON *obj, const char *key, const char *where, bool required, bool *out);
espl_status espl_json_get_str(const struct cJSON *obj, const char *key, const char *where, bool required,
                              const char **out);
/* Member of that name or NULL; a JSON null counts as missing. Borrowed. */
const struct cJSON *espl_json_member(const struct cJSON *obj, const char *key);

/* --------------------------------------------------------------- journal */

/* An append-only file of JSON lines {"iteration":n,"type":"...","time":seconds since 1970,...}. */
typedef struct espl_journal espl_journal;
/* Opens or creates; first cuts off what stands from the first line of an iteration after `keep` on, and a last line
 * without its end. ESPL_IO; ESPL_FORMAT: a line that is no record. Owned by the caller. */
espl_status espl_journal_open(espl_journal **out, const char *path, int64_t keep);
void espl_journal_close(espl_journal **j);
/* Starts a line in *s; the caller appends members with a leading comma. */
void espl_journal_begin(espl_str *s, int64_t iteration, const char *type);
void espl_journal_put_text(espl_str *s, const char *key, const char *text, int64_t len);
/* Ends the line with } and writes it at once; j may be NULL. Frees *s. */
espl_status espl_journal_end(espl_journal *j, espl_str *s);

/* Reads one line; `offset` is where it begins. */
typedef espl_status (*espl_line_reader)(void *ctx, const struct cJSON *line, int64_t iteration, int64_t offset);
/* All whole lines in turn; *end is the offset behind the last whole line. A file that is not there: ESPL_IO. */
espl_status espl_journal_read(const char *path, espl_line_reader reader, void *ctx, int64_t *end);

#endif
