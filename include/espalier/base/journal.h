/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Append-only files of JSON lines (events.jsonl, dialogue.jsonl). Each line is written with one write(2), so that a
 * killed run leaves whole lines, at most the last one cut off. All functions are Local.
 *
 * A line: {"iteration":n,"type":"...","time":seconds since 1970,...}
 *
 * A seal ends each iteration: {...,"type":"seal","lines":n,"bytes":n,"xxh3_64":"16 digits"} counts all lines before it
 * and holds their hash, h = XXH3(line with its line feed, seed h) from h = 0 on. The file is flushed to disk with it,
 * before the checkpoint of the iteration is written. So where a checkpoint stands, a seal of its iteration must stand
 * too; where it does not, or does not fit, lines were lost or changed. (The checkpoint itself cannot hold the hash:
 * lines hold times, and equal runs write equal checkpoints.)
 */
#ifndef ESPALIER_BASE_JOURNAL_H
#define ESPALIER_BASE_JOURNAL_H

#include "espalier/base/json_writer.h"

struct cJSON;

typedef struct espl_journal espl_journal;

/* Lines that a journal must hold, and that can be written again from what a checkpoint remembers: one line of `type`
 * for each of n iterations, which ascend. */
typedef struct espl_journal_source {
    const char *type;
    int64_t n;
    const void *context; /* borrowed */
    int64_t (*iteration)(const void *context, int64_t i);
    /* Adds the members of line i, after those of espl_journal_begin. */
    espl_status (*put)(const void *context, int64_t i, espl_json_writer *w);
} espl_journal_source;

/* Opens or creates a journal for appending, up to iteration `keep`: what follows the last line of it is cut off,
 * because a resumed run repeats it. A journal is a log, so damage never fails: lines that are no records are dropped,
 * missing ones of `source` (NULL: none) are written again with "rebuilt":true, a line of type "repair" says what was
 * done, and so does the log. The file as it was stays as PATH.damaged. ESPL_IO, also for a link or special file;
 * ESPL_NOMEM. Owned by the caller. */
espl_status espl_journal_open(espl_journal **out, const char *path, int64_t keep, const espl_journal_source *source);
void espl_journal_close(espl_journal **j);

/* Appends a seal and flushes the file to disk. j may be NULL. ESPL_IO. */
espl_status espl_journal_seal(espl_journal *j, int64_t iteration);

/* Starts a line in *s, which must be empty if espl_journal_end is to write it, and returns a writer for its further
 * members. */
espl_json_writer espl_journal_begin(espl_str *s, int64_t iteration, const char *type);
/* Ends the line and appends it to j; j may be NULL. Frees the string that was given to espl_journal_begin. ESPL_IO. */
espl_status espl_journal_end(espl_journal *j, espl_json_writer *line);

/* Receives one line. A failure ends the reading. */
typedef espl_status (*espl_line_reader)(void *ctx, const struct cJSON *line, int64_t iteration);
/* Passes all complete lines to the reader, in order. For a journal that is an input: unlike espl_journal_open, it fails
 * at a line that is no record. ESPL_IO (also for a missing file), ESPL_FORMAT naming the line. */
espl_status espl_journal_read(const char *path, espl_line_reader reader, void *ctx);

#endif
