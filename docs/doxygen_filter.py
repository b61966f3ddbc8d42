#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Doxygen's input filter for our headers: plain comments become documentation comments.

  the comment at the head of a file          describes the file
  a comment before a declaration             describes it, and the declarations that follow without an empty line
  a comment behind a declaration or a member describes that
  "Local.", "Collective.", "Rank 0 only."    at the beginning become a remark, so that the brief text is what a function does

Text is taken as it is: what Doxygen or HTML would read as a command is escaped. `x` is set as code.

Doxygen cannot expand X macros. Enumerators made from a list in the same file are written out here; members of structs that
are made from a list are left out (the list is shown).
"""
import re
import sys

COMMENT = re.compile(r"/\*(.*?)\*/", re.S)
LIST = re.compile(r"^#define (\w+)\(X\)((?:[^\n]*\\\n)*[^\n]*)", re.M)
USE = re.compile(r"^#define X\(([^)]*)\)((?:[^\n]*\\\n)*[^\n]*)\n((?:[ \t]*\w+\(X\)[,;]?\n)+)#undef X\n", re.M)
CALLED = re.compile(r"(Local|Collective|Rank 0 only)\b([^.]*)\.\s*", re.S)


def text_of(comment):
    lines = [re.sub(r"^\s*\*? ?", "", line) for line in comment.strip().split("\n")]
    text = "\n".join(lines).strip("- \n")
    text = re.sub(r"([\\@<>#%&$])", r"\\\1", text)
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", text)


def described(comment, start="/**"):
    text = text_of(comment)
    called = CALLED.match(text)
    if called and text[called.end():]:
        text = f"{text[called.end():]}\n@remark {called.group(1)}{called.group(2)}."
    return f"{start} {text} */"


def enumerators(source):
    lists = {name: re.findall(r"\bX\(([^)]*)\)[ \t]*(/\*.*?\*/)?", body) for name, body in LIST.findall(source)}

    def written_out(match):
        parameters, body, used = match.groups()
        parts, parameters, out = body.strip().rstrip(",").split("##"), re.split(r",\s*", parameters), []
        if body.strip().endswith(",") and all(re.fullmatch(r"\w+", part) for part in parts):
            for row, comment in (row for name in re.findall(r"(\w+)\(X\)", used) for row in lists.get(name, [])):
                values = dict(zip(parameters, re.split(r",\s*", row)))
                out.append("".join(values.get(part, part) for part in parts) + ", " + comment)
        return "\n".join(out) + "\n" * max(1, match.group().count("\n") - len(out) + 1)

    return USE.sub(written_out, source)


def filtered(source):
    out, last, at, seen_head, in_macro = [], None, 0, False, False
    while at < len(source):
        end = source.find("\n", at)
        end = len(source) if end < 0 else end
        line = source[at:end]
        comment = COMMENT.search(source, at)
        begins = comment is not None and at <= comment.start() < end and not line.lstrip().startswith("#") and not (
            in_macro and out[-1].endswith("\\"))
        if begins and not source[at:comment.start()].strip():  # a comment of its own
            if "SPDX-License-Identifier" in comment.group():
                out.append(comment.group())
            elif not seen_head:
                seen_head = True
                out.append("/** @file\n" + described(comment.group(1), " *").replace("\n", "\n * "))
            else:
                last = described(comment.group(1), source[at:comment.start()] + "/**")
                out.append(last)
            at = source.find("\n", comment.end()) + 1 or len(source)
            rest = source[comment.end():at].strip()
            if rest:
                out.append(rest)
            continue
        if begins:  # behind code
            out.append(source[at:comment.start()] + described(comment.group(1), "/**<"))
            at = source.find("\n", comment.end()) + 1 or len(source)
            last = None if line.strip().startswith("}") else last
            continue
        if not line.strip() or line.startswith(("#", "}", "typedef", "enum", "struct")):
            if line.startswith("typedef enum") and last and in_macro:  # the comment before an enumeration's list
                out.append(last)
            elif not line.startswith("#"):
                last = None
        elif last and re.match(r"[a-z].*\(", line) and out and out[-1].rstrip().endswith(";"):
            out.append(last)  # the next of several prototypes under one comment
        in_macro = line.startswith("#define") or (in_macro and out[-1].endswith("\\"))
        out.append(line)
        at = end + 1
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as f:
        sys.stdout.write(filtered(enumerators(f.read())))
