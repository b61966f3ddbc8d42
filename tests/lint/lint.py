#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what the compiler does not: includes between rooms, circles of files, shared names, machine paths, documents,
function lengths, format, shell scripts, spelling.

One line per finding, then a summary; exit status 1 when there is a finding. Tools that are not installed are named and
skipped. Standard library only; run from anywhere: tests/lint/lint.py [-v] [repository root]
"""
import argparse
import collections
import os
import re
import shutil
import statistics
import subprocess
import sys

from sources import (definitions, line_of, read_text, repository_files, room_of, rooms_of, without_comments,
                     without_noise)
from structure import Structure

# Third-party header -> the library that a room must name in its espl_room() to include it.
HEADERS = [
    (re.compile(r"mpi(-ext)?\.h$"), "MPI::MPI_C"),
    (re.compile(r"(hdf5|H5\w+)\.h$"), "hdf5::hdf5"),
    (re.compile(r"curl/"), "CURL::libcurl"),
    (re.compile(r"(cblas|openblas_config|f77blas)\.h$"), "espl_openblas"),
    (re.compile(r"(oneapi/dnnl/)?dnnl\w*\.h$"), "espl_onednn"),
    (re.compile(r"hwloc(/|\.h$)"), "espl_hwloc"),
    (re.compile(r"lapack\w*\.h$"), "espl_lapacke"),
    (re.compile(r"pcre2\.h$"), "PkgConfig::PCRE2"),
    (re.compile(r"utf8proc\.h$"), "PkgConfig::UTF8PROC"),
    (re.compile(r"xxhash\.h$"), "PkgConfig::XXHASH"),
    (re.compile(r"zlib\.h$"), "ZLIB::ZLIB"),
    (re.compile(r"(cjson/)?cJSON\.h$"), "PkgConfig::CJSON"),
]
# Libraries with one home: checkpoint links MPI because parallel hdf5.h includes mpi.h, and must not call it.
ONE_HOME = {"MPI::MPI_C": "comm", "hdf5::hdf5": "checkpoint", "CURL::libcurl": "agent", "espl_onednn": "tensor",
            "espl_hwloc": "schedule"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
FORBIDDEN_CALL = re.compile(r"(?<![\w.>])(assert|exit|_exit|abort)\s*\(")
MACHINE_PATH = re.compile(r"(?<![\w.~$})*-])/(work|home|root|Users)/")

ACCESSOR_LENGTH, LENGTH_LIMIT = 3, 80
LONG_FUNCTIONS_ALLOWED = re.compile(r"src/tensor/|.*table")  # kernels, and what is one table

# True: what later() reports is a finding. False, while a change is under way: it is counted, and listed by -v.
STRICT = True

findings, notes, skipped = [], [], []
postponed = collections.defaultdict(list)  # what -> lines


def found(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def later(what, path, line, text):
    if STRICT:
        found(path, line, text)
    else:
        postponed[what].append(f"{path}:{line}: {text}")


def check_private_include(root, name, line, room, header):
    """A path stays within the room, relative to the file or to src/ROOM."""
    bases = (os.path.dirname(name), f"src/{room}")
    paths = [os.path.normpath(os.path.join(base, header)) for base in bases]
    if not any(path.startswith(f"src/{room}/") and os.path.exists(os.path.join(root, path)) for path in paths):
        found(name, line, f"includes {header}: other rooms are reached through espalier/ROOM.h or espalier/ROOM/SUBJECT.h")


def check_include(root, rooms, name, line, quote, header):
    room = room_of(name)
    if header.startswith("espalier/"):
        other = re.match(r"espalier/(\w+)(/\w+)?\.h$", header)
        if not other or other.group(1) not in rooms:
            found(name, line, f"includes {header}, which is no header of a room")
        elif other.group(1) != room and other.group(1) not in rooms[room].rooms:
            found(name, line, f"room {room} may not include room {other.group(1)}")
    elif quote == '"' and "/" in header:
        check_private_include(root, name, line, room, header)
    for pattern, library in HEADERS:
        if pattern.match(header) and ONE_HOME.get(library, room) != room:
            found(name, line, f"{header} belongs to room {ONE_HOME[library]} alone")
        elif pattern.match(header) and library not in rooms[room].libs:
            found(name, line, f"{header} needs {library} in espl_room({room} ... LIBS)")


def check_rooms(root, names):
    rooms = rooms_of(root)
    for name in names:
        room = room_of(name)
        if not room:
            continue
        if room not in rooms:
            found(name, 1, f"there is no espl_room({room} ...) in src/CMakeLists.txt")
            continue
        text = read_text(root, name) or ""
        for match in INCLUDE.finditer(without_comments(text)):
            check_include(root, rooms, name, line_of(text, match.start()), match.group(1), match.group(2))
        if room == "cli":
            continue
        for match in FORBIDDEN_CALL.finditer(without_noise(text)):
            found(name, line_of(text, match.start()), f"{match.group(1)}() outside cli")


def check_room_order(root):
    """Rooms stand bottom to top: each links only rooms above its own line of src/CMakeLists.txt."""
    rooms, seen = rooms_of(root), set()
    for name, room in rooms.items():
        if name != "cli":
            for other in sorted(room.rooms - seen):
                found("src/CMakeLists.txt", room.line, f"room {name} links {other}, which is not a room below it")
            seen.add(name)


def check_room_document(root):
    """docs/architecture.md's table of rooms says the same as src/CMakeLists.txt."""
    name = "docs/architecture.md"
    rooms = rooms_of(root)
    if not rooms or not os.path.exists(os.path.join(root, name)):
        return
    text = read_text(root, name)
    table = {}
    for match in re.finditer(r"^\| `(\w+)` \|[^|\n]*\|([^|\n]*)\|", text, re.M):
        table[match.group(1)] = (line_of(text, match.start()), match.group(2).strip())
    for room in rooms.keys() - table.keys():
        later("table of rooms", name, 1, f"the table of rooms lacks {room}")
    for room, (line, may) in table.items():
        if room not in rooms:
            later("table of rooms", name, line, f"there is no room {room}")
        elif not may.startswith("all") and set(re.findall(r"\w+", may)) != rooms[room].rooms:
            later("table of rooms", name, line, f"room {room} links {', '.join(sorted(rooms[room].rooms)) or 'nothing'}")


def check_paths(root, names):
    for name in names:
        text = read_text(root, name)
        for match in MACHINE_PATH.finditer(text or ""):
            found(name, line_of(text, match.start()), f"path of one machine: {match.group()}...")


def check_documents(root, names):
    """Places still to be filled in, and links to files that are not there."""
    for name in (n for n in names if n.endswith(".md")):
        text = read_text(root, name) or ""
        for match in re.finditer(r"@[A-Z]{3,}@", text):
            found(name, line_of(text, match.start()), f"{match.group()} was never filled in")
        for match in re.finditer(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            if not os.path.exists(os.path.join(root, os.path.dirname(name), match.group(1))):
                found(name, line_of(text, match.start()), f"{match.group(1)} is linked and not there")


def check_lengths(tags):
    functions = [tag for tag in tags if tag.kind == "function" and tag.file.startswith("src/")]
    if not functions:
        return
    longer = [f.length for f in functions if f.length > ACCESSOR_LENGTH] or [0]
    median = statistics.median(f.length for f in functions)
    notes.append(f"{len(functions)} functions, median {median:g} lines ({statistics.median(longer):g} without accessors of up"
                 f" to {ACCESSOR_LENGTH} lines), longest {max(f.length for f in functions)} (tests/lint/figures.py: more)")
    for f in functions:
        if f.length > LENGTH_LIMIT and LONG_FUNCTIONS_ALLOWED.match(f.file):
            notes.append(f"{f.file}:{f.line}: {f.name} has {f.length} lines (a kernel or table)")
        elif f.length > LENGTH_LIMIT:
            found(f.file, f.line, f"{f.name} has {f.length} lines, at most {LENGTH_LIMIT} wanted")


def check_structure(root, names, tags):
    structure = Structure(root, names, tags)
    for what, rows in (("circles", structure.circles()), ("types of one name", structure.shared_types()),
                       ("functions of one name in two files", structure.shared_functions()),
                       ("external names without prefix", structure.unprefixed())):
        for name, text in rows:
            later(what, name, 1, text)


def check_definitions(root, names):
    tags = definitions(root, names)
    if tags is None:
        skipped.append("function lengths, circles and shared names: ctags is not installed")
    else:
        check_lengths(tags)
        check_structure(root, names, tags)


def guards_of(name):
    """ESPALIER_ROOM_SUBJECT_H of a public header; ESPL_ROOM_SUBJECT_H of a private one, with the folders between or not."""
    parts = re.sub(r"^(src|include/espalier)/|\.h$", "", name).split("/")
    prefix = "ESPALIER" if name.startswith("include/") else "ESPL"
    ways = [parts, [parts[0], parts[-1]]]
    ways = [[part for i, part in enumerate(way) if i == 0 or part != way[i - 1]] for way in ways]  # cli/cli.h: ESPL_CLI_H
    return [re.sub(r"\W", "_", "_".join([prefix, *way, "H"])).upper() for way in ways]


def check_heads(root, names):
    """Licence, a comment on what the file is for, and the include guard."""
    for name in names:
        if not re.match(r"(src|include|tests|analysis|jobs)/.*\.([ch]|sh|py|cmake|sbatch)$|(.*/)?CMakeLists\.txt$", name):
            continue
        text = read_text(root, name) or ""
        lines = text.split("\n", 3)
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:2]):
            later("no SPDX line", name, 1, "does not start with SPDX-License-Identifier: Apache-2.0")
        elif re.match(r"(src|include)/.*\.[ch]$", name) and not lines[1].startswith("/*"):
            later("no head comment", name, 2, "has no comment on what the file is for")
        if re.match(r"(src|include)/.*\.h$", name):
            guard = re.search(r"^#ifndef (\w+)$", text, re.M)
            if not guard or guard.group(1) not in guards_of(name):
                later("include guard", name, 1, f"the include guard is not {guards_of(name)[0]}")


def check_format(root, names):
    tool = shutil.which("clang-format-14")
    if not tool:
        skipped.append("format: clang-format-14 is not installed")
        return
    sources = [n for n in names if re.match(r"(src|include|tests)/.*\.[ch]$", n)]
    run = subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=1", *sources], cwd=root, capture_output=True,
                         text=True)
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: code should be clang-formatted", run.stderr, re.M):
        found(match.group(1), match.group(2), "differs from clang-format-14")


def check_shell(root, names):
    tool = shutil.which("shellcheck")
    if not tool:
        skipped.append("shell scripts: shellcheck is not installed")
        return
    scripts = [n for n in names if n.endswith((".sh", ".bash")) or re.match(r"#!\S*[/ ](ba|da)?sh\b", (read_text(root, n) or "")[:80])]
    if not scripts:
        return
    run = subprocess.run([tool, "-S", "warning", "-f", "gcc", *scripts], cwd=root, capture_output=True, text=True)
    for match in re.finditer(r"^([^:\n]+):(\d+):\d+: (.*)$", run.stdout, re.M):
        found(*match.groups())


def check_spelling(root, names):
    """codespell with .codespellrc; tests/lint/words.txt is what it must not complain about."""
    tool = shutil.which("codespell")
    if not tool:
        skipped.append("spelling: codespell is not installed")
        return
    run = subprocess.run([tool, *names], cwd=root, capture_output=True, text=True)
    for match in re.finditer(r"^(?:\./)?([^:\n]+):(\d+): (.* ==> .*)$", run.stdout, re.M):
        found(*match.groups())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", nargs="?", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("-v", "--verbose", action="store_true", help="list what is only counted")
    arguments = parser.parse_args()
    root = os.path.abspath(arguments.root)
    names = repository_files(root)
    check_rooms(root, names)
    check_room_order(root)
    check_room_document(root)
    check_paths(root, names)
    check_documents(root, names)
    check_heads(root, names)
    check_definitions(root, names)
    check_format(root, names)
    check_shell(root, names)
    check_spelling(root, names)
    for text in findings:
        print(text)
    for what, lines in postponed.items():
        for text in sorted(lines) if arguments.verbose else []:
            print(f"note: {text}")
        notes.append(f"{what}: {len(lines)}" + ("" if arguments.verbose else " (-v lists them)"))
    for text in notes:
        print(f"note: {text}")
    for text in skipped:  # tests/run.sh looks for these lines
        print(f"skipped: {text}")
    print(f"lint: {len(names)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
