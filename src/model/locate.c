/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding models. The layout of the hub's cache is that of huggingface_hub (guides/manage-cache):
 *
 *   CACHE/models--OWNER--NAME/refs/main              the commit that "main" was at the last download
 *   CACHE/models--OWNER--NAME/snapshots/COMMIT/...   links into ../../blobs
 *
 * Ids, revisions and the content of refs become parts of paths, so none of them may lead out of the cache.
 */
#include "espalier/model/locate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "espalier/base/absent.h"
#include "espalier/base/file.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"

enum { PART_MAX = 96, REVISION_MAX = 128, REF_BYTES_MAX = 256 }; /* the hub's own limit for names is 96 */

/* ------------------------------------------------------------ directories */

static bool directory_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Whether dir/name is there; a link that leads nowhere counts, because opening it gives the better message. */
static bool directory_has(const char *dir, const char *name) {
    espl_str path = {0};
    espl_str_printf(&path, "%s/%s", dir, name);
    bool found = !path.failed && (espl_file_exists(path.data) || espl_file_is_dangling(path.data));
    espl_str_free(&path);
    return found;
}

/* The name of a file in dir that ends so, into `found`; false if there is none. */
static bool directory_has_suffix(const char *dir, const char *suffix, espl_str *found) {
    size_t s = strlen(suffix);
    DIR *d = opendir(dir);
    if (!d) return false;
    for (const struct dirent *e; found->len == 0 && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > s && strcasecmp(e->d_name + n - s, suffix) == 0) espl_str_puts(found, e->d_name);
    }
    closedir(d);
    return found->len > 0;
}

/* ---------------------------------------------------------------- hub ids */

/* A name of the hub: letters, digits, '-', '_' and '.', neither ".." nor "--" within, '.' and '-' not at its start. */
static bool hub_name_is_valid(const char *name, size_t n) {
    if (n == 0 || n > PART_MAX || name[0] == '.' || name[0] == '-') return false;
    for (size_t i = 0; i < n; i++) {
        bool twice = i > 0 && name[i] == name[i - 1] && (name[i] == '.' || name[i] == '-');
        if (twice || (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))) return false;
    }
    return true;
}

/* A branch, tag or commit. Branches may have slashes ("refs/pr/1"). */
static bool hub_revision_is_valid(const char *revision) {
    size_t n = strlen(revision);
    if (n == 0 || n > REVISION_MAX || revision[0] == '/' || revision[n - 1] == '/' || strstr(revision, ".."))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)revision[i]) && !strchr("-_./", revision[i])) return false;
    return true;
}

typedef struct hub_id {
    int owner_bytes, name_bytes; /* of the text that was given */
    const char *owner, *name, *revision;
} hub_id;

static bool hub_id_parse(const char *given, hub_id *id) {
    const char *slash = strchr(given, '/'), *at = strchr(given, '@');
    size_t len = at ? (size_t)(at - given) : strlen(given);
    if (!slash || (at && slash > at)) return false;
    size_t owner = (size_t)(slash - given), name = len - owner - 1;
    *id = (hub_id){.owner_bytes = (int)owner, .name_bytes = (int)name, .owner = given, .name = slash + 1};
    id->revision = at ? at + 1 : "main";
    return hub_name_is_valid(given, owner) && hub_name_is_valid(slash + 1, name) && hub_revision_is_valid(id->revision);
}

/* Where huggingface_hub looks, in its order. */
static void hub_cache_put(espl_str *out) {
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    const char *home = getenv("HOME");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = getenv(places[i].variable);
        if (!value || !*value) continue;
        bool tilde = value[0] == '~' && (value[1] == '/' || value[1] == '\0') && home;
        espl_str_printf(out, "%s%s%s", tilde ? home : "", tilde ? value + 1 : value, places[i].below);
        return;
    }
    espl_str_puts(out, ".cache/huggingface/hub"); /* no HOME either: a batch job's bare environment */
}

/* Appends the commit that a file of refs names; nothing if there is no such file, or another content. */
static void hub_ref_put(const char *repository, const char *revision, espl_str *commit) {
    espl_str path = {0};
    char *text = NULL;
    int64_t len = 0;
    espl_str_printf(&path, "%s/refs/%s", repository, revision);
    if (!path.failed && espl_file_exists(path.data) &&
        espl_file_read(path.data, REF_BYTES_MAX, &text, &len) == ESPL_OK) {
        while (len > 0 && isspace((unsigned char)text[len - 1])) len--;
        if (hub_name_is_valid(text, (size_t)len)) espl_str_put(commit, text, len);
    }
    espl_mem_free(&text);
    espl_str_free(&path);
}

/* Appends the path of a snapshot: the one that refs/REVISION names, else the one of that commit. False: none. */
static bool hub_snapshot_put(const char *repository, const char *revision, espl_str *out) {
    espl_str commit = {0};
    hub_ref_put(repository, revision, &commit);
    if (commit.len == 0 && !strchr(revision, '/')) espl_str_puts(&commit, revision);
    if (commit.len > 0) espl_str_printf(out, "%s/snapshots/%s", repository, commit.data);
    bool found = commit.len > 0 && !commit.failed && !out->failed && directory_exists(out->data);
    if (!found) out->len = 0;
    espl_str_free(&commit);
    return found;
}

/* Appends the snapshot of a hub id, or says how to get it. */
static espl_status hub_locate(const char *given, const hub_id *id, espl_str *dir) {
    espl_str cache = {0}, repository = {0};
    espl_status st;
    hub_cache_put(&cache);
    espl_str_printf(&repository, "%s/models--%.*s--%.*s", cache.data ? cache.data : "", id->owner_bytes, id->owner,
                    id->name_bytes, id->name);
    ESPL_CHECK(st, done, espl_str_status(&cache));
    ESPL_CHECK(st, done, espl_str_status(&repository));
    if (hub_snapshot_put(repository.data, id->revision, dir)) {
        ESPL_INFO("%s: %s", given, dir->data);
        st = espl_str_status(dir);
        goto done;
    }
    bool main = strcmp(id->revision, "main") == 0;
    st = ESPL_FAIL(
        ESPL_IO,
        "%s: there is no such directory, and the Hugging Face cache %s holds no such model%s%s; to download it: "
        "hf download %.*s/%.*s%s%s",
        given, cache.data, main ? "" : " of revision ", main ? "" : id->revision, id->owner_bytes, id->owner,
        id->name_bytes, id->name, main ? "" : " --revision ", main ? "" : id->revision);
done:
    espl_str_free(&repository);
    espl_str_free(&cache);
    return st;
}

/* ----------------------------------------------------------------- locate */

/* Why a directory without config.json is no model. ESPL_OK for one with a tokenizer: `tokenize` needs no more. */
static espl_status locate_explain(const char *dir) {
    espl_str found = {0};
    espl_status st;
    if (directory_has(dir, "adapter_config.json")) {
        st = ESPL_FAIL(ESPL_UNSUPPORTED,
                       "%s: is an adapter (adapter_config.json), not a model: merge it into its base model first (with "
                       "peft: merge_and_unload(), then save_pretrained)",
                       dir);
    } else if (directory_has(dir, "snapshots")) {
        hub_snapshot_put(dir, "main", &found);
        st = ESPL_FAIL(
            ESPL_IO,
            "%s: is a repository of the Hugging Face cache, not a model: name one of its snapshots (%s%s), or "
            "OWNER/NAME",
            dir, found.len > 0 ? found.data : dir, found.len > 0 ? "" : "/snapshots/COMMIT");
    } else if (directory_has_suffix(dir, ".gguf", &found)) {
        st = ESPL_FAIL(ESPL_UNSUPPORTED,
                       "%s: holds %s, a GGUF model, but no config.json: expected the model's original directory, with "
                       "config.json, tokenizer.json and *.safetensors",
                       dir, found.data);
    } else if (directory_has(dir, "tokenizer.json")) {
        st = ESPL_OK;
    } else {
        st = ESPL_FAIL(ESPL_IO, "%s: holds no config.json, expected a Hugging Face model directory or OWNER/NAME", dir);
    }
    espl_str_free(&found);
    return st;
}

espl_status espl_model_locate(const char *given, espl_str *dir) {
    struct stat info;
    hub_id id;
    if (stat(given, &info) == 0) {
        if (!S_ISDIR(info.st_mode))
            return ESPL_FAIL(ESPL_IO, "%s: is a file, expected the directory of a model", given);
        if (!directory_has(given, "config.json")) ESPL_TRY(locate_explain(given));
        espl_str_puts(dir, given);
        return espl_str_status(dir);
    }
    if (errno == ENOENT && !espl_file_is_dangling(given) && hub_id_parse(given, &id))
        return hub_locate(given, &id, dir);
    errno = errno ? errno : ENOENT;
    return espl_file_fail_open(given);
}

/* The part of the path of a snapshot in the hub's cache, .../models--OWNER--NAME/snapshots/COMMIT, that is OWNER--NAME;
 * NULL for other paths. */
static const char *snapshot_repository(const char *dir, int64_t *len) {
    static const char snapshots[] = "/snapshots/", models[] = "models--";
    const char *hit = strstr(dir, snapshots), *repository = hit;
    while (repository && repository > dir && repository[-1] != '/') repository--;
    if (!repository || strncmp(repository, models, sizeof models - 1) != 0) return NULL;
    repository += sizeof models - 1;
    *len = hit - repository;
    return repository;
}

/* Where NAME begins in OWNER--NAME; 0 if there is no owner. */
static int64_t repository_name(const char *repository, int64_t len) {
    int64_t at = 0;
    for (int64_t i = 0; i + 1 < len; i++)
        if (repository[i] == '-' && repository[i + 1] == '-') at = i + 2;
    return at;
}

void espl_model_put_name(const char *dir, espl_str *out) {
    int64_t n = 0;
    const char *repository = snapshot_repository(dir, &n);
    if (repository) {
        int64_t at = repository_name(repository, n);
        espl_str_put(out, repository + at, n - at);
        return;
    }
    n = (int64_t)strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    const char *end = dir + n, *start = end;
    while (start > dir && start[-1] != '/') start--;
    espl_str_put(out, start, end - start);
}

void espl_model_put_id(const char *dir, espl_str *out) {
    int64_t n = 0;
    const char *repository = snapshot_repository(dir, &n);
    int64_t at = repository ? repository_name(repository, n) : 0;
    if (at > 0) {
        espl_str_put(out, repository, at - 2);
        espl_str_puts(out, "/");
    }
    espl_model_put_name(dir, out);
}
