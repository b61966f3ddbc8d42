/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an export comes to its name. At every moment DIR is absent, or an earlier export, or the complete new one, and
 * whatever a killed export leaves is recognised and removed by the next one:
 *
 *   1. DIR.part is made, with the marker as its first file. A killed export leaves DIR.part: empty, or with the marker
 *      or its part file.
 *   2. The files are written into DIR.part and forced onto the disk.
 *   3. An earlier export is renamed from DIR to DIR.old: a directory that is not empty cannot be renamed over.
 *   4. DIR.part is renamed to DIR. Killed between 3 and 4, an export leaves DIR.old and DIR.part, both complete.
 *   5. DIR.old is removed.
 *
 * A directory is only ever replaced or removed if it is empty or marked, and only files with names of this model's
 * export are deleted; the marker is deleted last, so that a removal that was interrupted can be repeated.
 */
#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/log.h"
#include "espalier/base/str.h"

static const char MARKER_TEXT[] =
    "{\n  \"written_by\": \"espalier\",\n"
    "  \"note\": \"a pruned model; the next export to this place may replace the directory that holds this file\"\n}\n";

/* ------------------------------------------------------- what may be replaced */

/* The first file of an export is the marker, and the first name of the marker is that of its part file: an export that
 * was killed before the rename has that alone.
 *
 * *found: `path` holds an earlier export, complete or not. False: it is absent or empty. ESPL_IO: anything else. */
static espl_status place_look(const export_place *p, const char *path, bool *found) {
    int64_t files = 0;
    bool marked = false;
    espl_status st = ESPL_OK;
    *found = false;
    DIR *d = opendir(path);
    if (!d && errno == ENOENT) return ESPL_OK;
    if (!d) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened as a directory: %s", path, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!espl_export_files_know(&p->files, e->d_name)) {
            st = ESPL_FAIL(ESPL_IO,
                           "%s: not replaced: it holds \"%s\", which is no file of an export of this model; move the "
                           "directory away, or delete it",
                           path, e->d_name);
            goto done;
        }
        marked |= strcmp(e->d_name, ESPL_EXPORT_MARKER) == 0 || strcmp(e->d_name, ESPL_EXPORT_MARKER ".part") == 0;
        files++;
    }
    if (files > 0 && !marked)
        st = ESPL_FAIL(ESPL_IO,
                       "%s: not replaced: it holds files but no %s, so it is not an earlier export; move the directory "
                       "away, or delete it",
                       path, ESPL_EXPORT_MARKER);
    *found = files > 0;
done:
    closedir(d);
    return st;
}

/* Removes the files of an export and nothing else, then the directory. False, with errno set: it is still there. Takes
 * no memory: what a failed allocation left would stay for good, since the run is finished after it. */
static bool place_remove(const export_place *p, const char *path) {
    static const char *const suffixes[] = {".part", ""};
    char file[NAME_MAX + sizeof ".part"];
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return errno == ENOENT;
    for (int64_t i = 0; i <= p->files.n; i++)
        for (int k = 0; k < 2; k++) {
            (void)espl_fault("export.remove");
            snprintf(file, sizeof file, "%s%s", i < p->files.n ? p->files.names[i] : ESPL_EXPORT_MARKER, suffixes[k]);
            (void)unlinkat(dir, file, 0);
        }
    close(dir);
    return rmdir(path) == 0 || errno == ENOENT;
}

/* --------------------------------------------------------------- where it goes */

/* Sets p->dir for a directory that does not exist yet, and creates its parent: only an existing path can be resolved,
 * and DIR.part goes there. */
static espl_status place_resolve_new(export_place *p, const char *dir) {
    espl_str path = {0}, parent = {0};
    char *real = NULL;
    espl_status st;
    espl_str_puts(&path, dir);
    ESPL_CHECK(st, done, espl_str_status(&path));
    while (path.len > 1 && path.data[path.len - 1] == '/') path.data[--path.len] = '\0';
    const char *name = espl_export_base_name(path.data);
    espl_str_put(&parent, path.data, name - path.data);
    espl_str_puts(&parent, ".");
    ESPL_CHECK(st, done, espl_str_status(&parent));
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        st = ESPL_FAIL(ESPL_IO, "\"%s\" cannot be the name of a new directory", dir);
        goto done;
    }
    ESPL_CHECK(st, done, espl_file_make_directory(parent.data));
    real = realpath(parent.data, NULL);
    if (real)
        espl_str_printf(&p->dir, "%s/%s", real, name);
    else
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be reached: %s", parent.data, strerror(errno));
done:
    free(real);
    espl_str_free(&parent);
    espl_str_free(&path);
    return st;
}

/* Sets the three paths. Links are resolved first, so that the directory behind a link is replaced and the link stays.
 */
static espl_status place_resolve(export_place *p, const char *dir) {
    struct stat info, parent;
    char *real = realpath(dir, NULL);
    if (real)
        espl_str_puts(&p->dir, real);
    else if (errno != ENOENT || lstat(dir, &info) == 0) /* the latter: a link that points nowhere */
        return ESPL_FAIL(ESPL_IO, "%s: cannot be reached: %s", dir, strerror(errno));
    else
        ESPL_TRY(place_resolve_new(p, dir));
    free(real);
    espl_str_printf(&p->part, "%s.part", p->dir.data);
    espl_str_printf(&p->old, "%s.old", p->dir.data);
    ESPL_TRY(espl_str_status(&p->dir));
    ESPL_TRY(espl_str_status(&p->part));
    ESPL_TRY(espl_str_status(&p->old));

    struct stat source, target;
    const char *const paths[] = {p->dir.data, p->part.data, p->old.data};
    for (int i = 0; i < 3; i++)
        if (stat(paths[i], &target) == 0 && stat(p->source, &source) == 0 && target.st_dev == source.st_dev &&
            target.st_ino == source.st_ino)
            return ESPL_FAIL(ESPL_IO, "%s: an export to %s would overwrite the model that is exported", p->source, dir);

    /* DIR.part can only be renamed to DIR on the same file system. */
    espl_str above = {0};
    espl_str_printf(&above, "%s/..", p->dir.data);
    espl_status st = espl_str_status(&above);
    if (st == ESPL_OK && stat(p->dir.data, &info) == 0 && stat(above.data, &parent) == 0 &&
        info.st_dev != parent.st_dev)
        st = ESPL_FAIL(ESPL_IO, "%s: is a mount point, which cannot be replaced: choose a directory inside it",
                       p->dir.data);
    espl_str_free(&above);
    return st;
}

espl_status espl_export_place_find(export_place *p, const espl_weights *w, const char *source, const char *dir,
                                   bool quiet) {
    bool unfinished;
    p->source = source;
    ESPL_TRY(place_resolve(p, dir));
    ESPL_TRY(espl_export_files_list(&p->files, w, source, quiet));
    ESPL_TRY(place_look(p, p->dir.data, &p->replaces));
    ESPL_TRY(place_look(p, p->part.data, &unfinished));
    espl_status st = place_look(p, p->old.data, &p->has_old);
    return p->replaces ? st : ESPL_OK; /* without an earlier export, DIR.old is not needed: a foreign one may stay */
}

/* ------------------------------------------------------------------ life cycle */

espl_status espl_export_place_begin(export_place *p) {
    espl_str marker;
    if (!place_remove(p, p->part.data))
        return ESPL_FAIL(ESPL_IO, "%s: an unfinished export cannot be removed: %s", p->part.data, strerror(errno));
    if (mkdir(p->part.data, 0777) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be created: %s", p->part.data, strerror(errno));
    p->begun = true;
    if (espl_fault("export.begin")) return ESPL_FAIL(ESPL_IO, "%s: cannot be filled: fault on demand", p->part.data);
    espl_status st = espl_export_join(p->part.data, ESPL_EXPORT_MARKER, "", &marker);
    if (st == ESPL_OK) st = espl_file_replace(marker.data, MARKER_TEXT, sizeof MARKER_TEXT - 1);
    espl_str_free(&marker);
    return st;
}

/* `site` names the rename for fault injection. */
static espl_status place_rename(const char *from, const char *to, const char *site) {
    bool fault = espl_fault(site);
    if (!fault && rename(from, to) == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be renamed to %s: %s", from, to, fault ? "fault on demand" : strerror(errno));
}

espl_status espl_export_place_publish(export_place *p) {
    espl_str inside;
    ESPL_TRY(espl_export_join(p->part.data, ESPL_EXPORT_MARKER, "", &inside));
    espl_file_sync_directory(inside.data); /* the entries of DIR.part, before it gets its name */
    espl_str_free(&inside);
    if (p->replaces) {
        if (p->has_old && !place_remove(p, p->old.data))
            return ESPL_FAIL(ESPL_IO, "%s: cannot be removed: %s", p->old.data, strerror(errno));
        ESPL_TRY(place_rename(p->dir.data, p->old.data, "export.aside"));
    }
    espl_status st = place_rename(p->part.data, p->dir.data, "export.rename"); /* over an empty directory, too */
    if (st != ESPL_OK && p->replaces) (void)rename(p->old.data, p->dir.data);
    ESPL_TRY(st);
    p->begun = false;
    (void)espl_fault("export.renamed");
    espl_file_sync_directory(p->dir.data);
    /* The export is complete: what is left of the earlier one is a note, not a failure. */
    if ((p->replaces || p->has_old) && !place_remove(p, p->old.data))
        ESPL_INFO("export: %s, the earlier export, cannot be removed: %s", p->old.data, strerror(errno));
    return ESPL_OK;
}

void espl_export_place_abandon(export_place *p) {
    if (p->begun) (void)place_remove(p, p->part.data);
    p->begun = false;
}

void espl_export_place_free(export_place *p) {
    espl_export_files_free(&p->files);
    espl_str_free(&p->dir);
    espl_str_free(&p->part);
    espl_str_free(&p->old);
}
