/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Append-only files of JSON lines (events.jsonl, dialogue.jsonl). Each line is written with one write(2), so that a
 * killed run leaves whole lines, at most the last one cut off. All functions are Local.
 *
 * A line: {"iteration":n,"type":"...","time":seconds since 1970,...}
 */
#ifndef ESPALIER_BASE_JOURNAL_H
#define ESPALIER_BASE_JOURNAL_H

#include "espalier/base/json_writer.h"

struct cJSON;

typedef struct espl_journal espl_journal;

/* Opens or creates a journal for appending. First truncates it before the first line of an iteration beyond `keep`, and
 * drops an incomplete last line: a resumed run repeats those iterations. ESPL_IO; ESPL_FORMAT for a line that is no
 * record. Owned by the caller. */
espl_status espl_journal_open(espl_journal **out, const char *path, int64_t keep);
void espl_journal_close(espl_journal **j);

/* Starts a line in the empty *s and returns a writer for its further members. */
espl_json_writer espl_journal_begin(espl_str *s, int64_t iteration, const char *type);
/* Ends the line and appends it to j; j may be NULL. Frees the string that was given to espl_journal_begin. ESPL_IO. */
espl_status espl_journal_end(espl_journal *j, espl_json_writer *line);

/* Receives one line; `offset` is the byte at which it starts. A failure ends the reading. */
typedef espl_status (*espl_line_reader)(void *ctx, const struct cJSON *line, int64_t iteration, int64_t offset);
/* Passes all complete lines to the reader, in order. *end: offset behind the last complete line. ESPL_IO (also for a
 * missing file), ESPL_FORMAT naming the line. */
espl_status espl_journal_read(const char *path, espl_line_reader reader, void *ctx, int64_t *end);

#endif
