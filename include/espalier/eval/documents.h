/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/documents: the one reader of texts, for calibration, validation, report and `espalier eval`. What a file is
 * follows from its content, never from its name alone: the usual C4 shard is JSON Lines named .json, or packed by gzip.
 *
 *   JSON     values one after another, on lines of their own or not: objects with a "text" member, strings, or lists of
 *            these. Each is a document. A file is taken for JSON if it begins with {" or [{ or [" (white space aside).
 *   text     anything else: one document, byte for byte.
 *
 * Either may be packed by gzip. Other packings, Parquet, UTF-16 and other bytes that are no text are refused by name.
 */
#ifndef ESPALIER_EVAL_DOCUMENTS_H
#define ESPALIER_EVAL_DOCUMENTS_H

#include "espalier/base/status.h"
#include "espalier/base/str.h"

/* Zero-initialise; free with espl_documents_free. */
typedef struct espl_document {
    int64_t start, len; /* bytes of the text */
} espl_document;
typedef struct espl_documents {
    espl_str text;        /* all documents, with an empty line between two */
    espl_document *items; /* [n] */
    int64_t n, cap;
} espl_documents;

/* Local. Reads the file at `path`; "-" is standard input. ESPL_IO; ESPL_FORMAT naming file, line and what was expected.
 */
espl_status espl_documents_read(const char *path, espl_documents *out);
/* Local. The same from bytes; `name` stands for the file in messages. */
espl_status espl_documents_parse(const char *bytes, int64_t len, const char *name, espl_documents *out);
/* Local. */
void espl_documents_free(espl_documents *d);

#endif
