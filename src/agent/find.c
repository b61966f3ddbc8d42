/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the JSON object in which a reply acts: past thoughts, drafts, code fences and the prompt's own example.
 */
#include "find.h"

#include "action_kind.h"
#include "clean.h"
#include "view.h"

#include "espalier/agent/reply.h"
#include "espalier/base/integer.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum {
    DEPTH_MAX = 32,          /* a plan needs 2 levels; bounds the recursion of cJSON */
    SCANS_MAX = 64,          /* times the length of a reply that are looked at; bounds the time spent on "{ { { ..." */
    MALFORMED_SHOWN_MAX = 24 /* bytes of it that the author is shown */
};

/* How models and servers mark what a model thinks before it answers. A block that never ends goes to the end of the
 * text; one that never begins starts there, since some chat templates put the opening mark into the prompt. */
static const struct {
    const char *open, *close;
} thought_marks[] = {
    {"<think>", "</think>"},
    {"<thinking>", "</thinking>"},
    {"<thought>", "</thought>"},
    {"<thoughts>", "</thoughts>"},
    {"<reasoning>", "</reasoning>"},
    {"<reflection>", "</reflection>"},
    {"<analysis>", "</analysis>"},
    {"<scratchpad>", "</scratchpad>"},
    {"<seed:think>", "</seed:think>"},
    {"<longcat_think>", "</longcat_think>"},
    {"[THINK]", "[/THINK]"},
    {"\xE2\x97\x81think\xE2\x96\xB7", "\xE2\x97\x81/think\xE2\x96\xB7"}, /* Kimi's triangles */
    {"<|begin_of_thought|>", "<|end_of_thought|>"},
    {"<|START_THINKING|>", "<|END_THINKING|>"},
    {"<|channel|>analysis", "<|end|>"}, /* gpt-oss behind a server that leaves its channels in the text */
    {"<|channel|>commentary", "<|end|>"},
};
/* What stands before the last of these is no answer, even where a thought does not end as it should. */
static const char *const answer_marks[] = {"<|channel|>final<|message|>", "<|begin_of_solution|>",
                                           "<|START_RESPONSE|>"};

/* The first `word` in p[0 .. end), whatever its case; NULL if there is none. Replies may hold NUL bytes, so that C's
 * string functions would not see all of them. */
static const char *find_word(const char *p, const char *end, const char *word) {
    int64_t n = (int64_t)strlen(word);
    for (; p && end - p >= n; p++) {
        p = memchr(p, word[0], (size_t)(end - p - n + 1)); /* all begin with a sign that has no case */
        if (!p) return NULL;
        if (strncasecmp(p, word, (size_t)n) == 0) return p;
    }
    return NULL;
}

static void find_strip_thoughts(espl_str *out, const char *p, const char *end, const char *open, const char *close) {
    const char *begin = find_word(p, end, open), *stop = find_word(p, end, close);
    /* A mark like <|end|> ends other things, too: then only an opening mark makes a thought. */
    if (stop && (!begin || stop < begin) && close[1] != '|') p = stop + strlen(close);
    while ((begin = find_word(p, end, open))) {
        espl_str_put(out, p, begin - p);
        stop = find_word(begin, end, close);
        p = stop ? stop + strlen(close) : end;
    }
    espl_str_put(out, p, end - p);
}

/* Replaces *s by the part of text that is no thought. */
static espl_status find_keep_answer(const char *text, int64_t len, espl_str *s) {
    const char *p = text, *end = text + len, *mark;
    for (size_t i = 0; i < sizeof answer_marks / sizeof *answer_marks; i++)
        while ((mark = find_word(p, end, answer_marks[i]))) p = mark + strlen(answer_marks[i]);
    espl_str_put(s, p, end - p);
    for (size_t i = 0; i < sizeof thought_marks / sizeof *thought_marks && !s->failed; i++) {
        p = s->data ? s->data : "";
        if (!find_word(p, p + s->len, thought_marks[i].open) && !find_word(p, p + s->len, thought_marks[i].close))
            continue;
        espl_str next = {0};
        find_strip_thoughts(&next, p, p + s->len, thought_marks[i].open, thought_marks[i].close);
        espl_str_free(s);
        *s = next;
    }
    return espl_str_status(s);
}

/* Parses the object that begins at p; *stop is the byte behind it, NULL if it does not end within the text or is nested
 * too deep. NULL if it is not JSON; *fault is then where it stops being JSON. `left` bounds the bytes that are looked
 * at. Owned by the caller: cJSON_Delete. */
static cJSON *find_parse_object(const char *p, const char *end, const char **stop, const char **fault, int64_t *left) {
    /* Brackets are balanced before cJSON sees the text: it recurses, and tells no end of what it could not read. */
    const char *q = p;
    int depth = 0;
    bool in_string = false;
    *stop = *fault = NULL;
    for (; q < end && !*stop && depth <= DEPTH_MAX; q++) {
        if (in_string && *q == '\\') {
            q++; /* the escaped character, perhaps a quote */
        } else if (*q == '"') {
            in_string = !in_string;
        } else if (!in_string && (*q == '{' || *q == '[')) {
            depth++;
        } else if (!in_string && (*q == '}' || *q == ']') && --depth == 0) {
            *stop = q + 1;
        }
    }
    *left -= q - p;
    cJSON *doc = *stop ? cJSON_ParseWithLengthOpts(p, (size_t)(*stop - p), fault, 0) : NULL;
    if (cJSON_IsObject(doc)) return doc;
    cJSON_Delete(doc);
    return NULL;
}

/* A tool call that the server left in the text, {"name": "propose", "arguments": {...}}. */
static bool find_is_call(const cJSON *doc) {
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "name"));
    return name && espl_action_kind_parse(name) != ESPL_ACTION_COUNT &&
           cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(doc, "arguments"));
}

/* Other objects are common: examples, notes, calls of tools that are not ours. */
static bool find_is_action(const cJSON *doc) {
    static const char *const keys[] = {"prune", "stop", "base"};
    const char *action = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "action"));
    if (find_is_call(doc)) return true;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (cJSON_GetObjectItemCaseSensitive(doc, keys[i])) return true;
    return action && espl_action_kind_parse(action) != ESPL_ACTION_COUNT;
}

/* The example of the prompt, which models repeat before or after their own decision. */
static bool find_is_example(const cJSON *doc) {
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "reasoning"));
    const cJSON *prune = cJSON_GetObjectItemCaseSensitive(doc, "prune");
    return reason && (strcmp(reason, ESPL_EXAMPLE_REASON) == 0 || strcmp(reason, ESPL_EXAMPLE_REASON_SHORT) == 0) &&
           prune && prune->child && prune->child->string &&
           (strcmp(prune->child->string, ESPL_EXAMPLE_LINEAR) == 0 ||
            strcmp(prune->child->string, ESPL_EXAMPLE_EXPERTS) == 0);
}

/* The last place of the text that was meant as part of an action: its first key, in quotes of either kind. NULL: none.
 */
static const char *find_last_mention(const char *p, const char *end) {
    static const char *const keys[] = {"\"prune\"", "'prune'", "\"action\"", "'action'"};
    const char *last = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (const char *q = p; (q = find_word(q, end, keys[i])); q++)
            if (!last || q > last) last = q;
    return last;
}

/* What find_object found. */
typedef struct find_result {
    cJSON *doc;         /* NULL: none. Owned */
    bool other;         /* the first { begins an object of something else, */
    bool acts;          /* which wants an action, or calls a tool, that there is not */
    espl_str malformed; /* what stands where the last attempt at an action stops being JSON; empty: nowhere */
} find_result;

/* The last action counts: models weigh drafts in the open before they decide. What looks like one and cannot
 * be read counts as well, or a draft before it would be carried out. */
static espl_status find_object(const char *text, int64_t len, find_result *found) {
    espl_str answer = {0};
    const char *p = text, *end = text + len, *stop = NULL, *fault;
    int64_t left = SCANS_MAX * len;
    *found = (find_result){0};

    /* A reply that is one object and nothing else is taken as it is: its strings may speak of <think>. */
    static const char blanks[4] = " \t\r\n";
    while (p < end && memchr(blanks, *p, sizeof blanks)) p++;
    while (p < end && memchr(blanks, end[-1], sizeof blanks)) end--;
    if (p < end && *p == '{') found->doc = find_parse_object(p, end, &stop, &fault, &left);
    if (find_is_action(found->doc) && stop == end) return ESPL_OK;
    cJSON_Delete(found->doc);
    found->doc = NULL;

    espl_status st;
    ESPL_CHECK(st, done, find_keep_answer(text, len, &answer));
    p = answer.data ? answer.data : "";
    end = p + answer.len;
    const char *mention = find_last_mention(p, end); /* found once: an open brace may reach to the end each time */
    bool first = true, broken = false;
    for (; p < end && left > 0; first = false) {
        p = memchr(p, '{', (size_t)(end - p));
        if (!p) break;
        cJSON *doc = find_parse_object(p, end, &stop, &fault, &left);
        if (first) found->other = doc && !find_is_action(doc);
        if (first && found->other)
            found->acts =
                cJSON_GetObjectItemCaseSensitive(doc, "action") || cJSON_GetObjectItemCaseSensitive(doc, "arguments");
        bool decides = find_is_action(doc) && !(found->doc && find_is_example(doc));
        if (decides || (!doc && mention && mention > p && (!stop || find_last_mention(p, stop)))) {
            cJSON_Delete(found->doc);
            found->doc = decides ? doc : NULL;
            found->malformed.len = 0;
            broken = !decides;
            if (fault && !decides) { /* the fault in its surroundings */
                const char *from = fault - espl_min_i64(fault - p, MALFORMED_SHOWN_MAX / 2);
                espl_str_put(&found->malformed, from, espl_min_i64(stop - from, MALFORMED_SHOWN_MAX));
            }
        }
        if (found->doc != doc) cJSON_Delete(doc);
        p = doc ? stop : p + 1; /* behind an object, or into a brace that begins none */
    }
    if (left <= 0) { /* what was not looked at might be the decision */
        cJSON_Delete(found->doc);
        found->doc = NULL;
    }
    if (broken) found->other = false;
    st = espl_str_status(&found->malformed);
done:
    espl_str_free(&answer);
    return st;
}

/* Replaces a call by the action that it stands for. */
static espl_status find_unwrap_call(cJSON **doc) {
    cJSON *arguments = cJSON_DetachItemFromObjectCaseSensitive(*doc, "arguments");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(*doc, "name"));
    cJSON_DeleteItemFromObjectCaseSensitive(arguments, "action");
    bool added = cJSON_AddStringToObject(arguments, "action", name) != NULL;
    cJSON_Delete(*doc);
    *doc = arguments;
    return added ? ESPL_OK : ESPL_FAIL(ESPL_NOMEM, "no memory to read a reply");
}

#define X(name, text, meaning) " \"" text "\""
#define FIND_ACTIONS ESPL_ACTION_LIST(X)
espl_status espl_reply_find(const char *text, int64_t len, cJSON **doc, espl_str *problems) {
    find_result found = {0};
    espl_status st = ESPL_OK;
    *doc = NULL;
    if (len > ESPL_AGENT_REPLY_MAX) {
        espl_str_printf(problems, "the reply has %" PRId64 " bytes; at most %d are read\n", len, ESPL_AGENT_REPLY_MAX);
        return espl_str_status(problems);
    }
    ESPL_CHECK(st, done, find_object(text, len, &found));
    if (found.malformed.len > 0) {
        espl_str_puts(problems, "\"");
        espl_agent_put_clean(problems, found.malformed.data, found.malformed.len, MALFORMED_SHOWN_MAX);
        espl_str_puts(problems,
                      "\" is where the reply's object stops being valid JSON: no comments, no comma before a bracket, "
                      "names and texts in double quotes\n");
    } else if (!found.doc) {
        espl_str_puts(problems, found.other ? "the reply's JSON object has neither \"prune\" nor \"stop\"\n"
                                            : "the reply holds no complete JSON object with \"prune\" or \"stop\"\n");
        if (found.acts) espl_str_puts(problems, "the actions are" FIND_ACTIONS "\n");
    } else {
        *doc = found.doc;
        found.doc = NULL;
        if (find_is_call(*doc)) ESPL_CHECK(st, done, find_unwrap_call(doc));
    }
    st = espl_str_status(problems);
done:
    cJSON_Delete(found.doc);
    espl_str_free(&found.malformed);
    return st;
}
#undef FIND_ACTIONS
#undef X
