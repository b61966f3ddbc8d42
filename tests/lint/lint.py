#!/usr/bin/env python3
"""Checks what the compiler does not: rooms, third-party headers, machine paths, documents, function lengths, format, shell.

One line per finding, then a summary; exit status 1 when there is a finding. Tools that are not installed are named and
skipped. Standard library only; run from anywhere: tests/lint/lint.py [repository root]
"""
import os
import re
import shutil
import statistics
import subprocess
import sys

from sources import line_of, read_text, repository_files, room_of, rooms_of, without_comments, without_noise

# Third-party header -> the library that a room must name in its espl_room() to include it.
HEADERS = [
    (re.compile(r"mpi(-ext)?\.h$"), "MPI::MPI_C"),
    (re.compile(r"(hdf5|H5\w+)\.h$"), "hdf5::hdf5"),
    (re.compile(r"curl/"), "CURL::libcurl"),
    (re.compile(r"(cblas|openblas_config|lapack\w*|f77blas)\.h$"), "espl_openblas"),
    (re.compile(r"pcre2\.h$"), "PkgConfig::PCRE2"),
    (re.compile(r"utf8proc\.h$"), "PkgConfig::UTF8PROC"),
    (re.compile(r"xxhash\.h$"), "PkgConfig::XXHASH"),
    (re.compile(r"(cjson/)?cJSON\.h$"), "PkgConfig::CJSON"),
]
# Libraries with one home: checkpoint links MPI because parallel hdf5.h includes mpi.h, and must not call it.
ONE_HOME = {"MPI::MPI_C": "comm", "hdf5::hdf5": "checkpoint", "CURL::libcurl": "agent"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
FORBIDDEN_CALL = re.compile(r"(?<![\w.>])(assert|exit|_exit|abort)\s*\(")
MACHINE_PATH = re.compile(r"(?<![\w.~$})*-])/(work|home|root|Users)/")

MEDIAN_BAND, LENGTH_LIMIT = (12, 20), 80
LONG_FUNCTIONS_ALLOWED = re.compile(r"src/tensor/|.*table")  # kernels, and what is one table

# While issue 11 is under way, later() only tells what is not yet as wanted; True makes findings of it.
STRICT = False

findings, notes = [], []


def found(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def later(path, line, text):
    (findings if STRICT else notes).append(f"{path}:{line}: {text}")


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
        later(name, 1, f"the table of rooms lacks {room}")
    for room, (line, may) in table.items():
        if room not in rooms:
            later(name, line, f"there is no room {room}")
        elif not may.startswith("all") and set(re.findall(r"\w+", may)) != rooms[room].rooms:
            later(name, line, f"room {room} links {', '.join(sorted(rooms[room].rooms)) or 'nothing'}")


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


def function_lengths(root, names):
    """(file, line, function, lines) of every function under src/, or None without universal-ctags."""
    sources = [n for n in names if re.match(r"src/.*\.[ch]$", n)]
    if not shutil.which("ctags") or not sources:
        return None
    run = subprocess.run(["ctags", "-f", "-", "--fields=+ne", "--kinds-C=f", "--languages=C", "--langmap=C:+.h", *sources],
                         cwd=root, capture_output=True, text=True)
    if run.returncode != 0:
        return None
    rows = []
    for row in run.stdout.splitlines():
        match = re.match(r"([^\t!]+)\t([^\t]+)\t.*\tline:(\d+).*\tend:(\d+)", row)
        if match:
            function, name, first, last = match.groups()
            rows.append((name, int(first), function, int(last) - int(first) + 1))
    return rows


def check_lengths(root, names):
    rows = function_lengths(root, names)
    if rows is None:
        notes.append("no universal-ctags: function lengths not checked")
        return
    if not rows:
        return
    median = statistics.median(length for *_, length in rows)
    notes.append(f"{len(rows)} functions, median {median:g} lines, longest {max(r[3] for r in rows)}")
    if not MEDIAN_BAND[0] <= median <= MEDIAN_BAND[1]:
        later("src", 1, f"functions have a median of {median:g} lines, {MEDIAN_BAND[0]} to {MEDIAN_BAND[1]} wanted")
    for name, line, function, length in rows:
        if length <= LENGTH_LIMIT:
            continue
        if LONG_FUNCTIONS_ALLOWED.match(name):
            notes.append(f"{name}:{line}: {function} has {length} lines (a kernel or table)")
        else:
            found(name, line, f"{function} has {length} lines, at most {LENGTH_LIMIT} wanted")


def check_format(root, names):
    tool = shutil.which("clang-format-14")
    if not tool:
        notes.append("no clang-format-14: format not checked")
        return
    sources = [n for n in names if re.match(r"(src|include|tests)/.*\.[ch]$", n)]
    run = subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=1", *sources], cwd=root, capture_output=True,
                         text=True)
    for match in re.finditer(r"^(\S+?):(\d+):\d+: error: code should be clang-formatted", run.stderr, re.M):
        found(match.group(1), match.group(2), "differs from clang-format-14")


def check_shell(root, names):
    tool = shutil.which("shellcheck")
    if not tool:
        notes.append("no shellcheck: shell scripts not checked")
        return
    scripts = [n for n in names if n.endswith(".sh") or re.match(r"#!\S*[/ ](ba|da)?sh\b", (read_text(root, n) or "")[:80])]
    if not scripts:
        return
    run = subprocess.run([tool, "-S", "warning", "-f", "gcc", *scripts], cwd=root, capture_output=True, text=True)
    for match in re.finditer(r"^([^:\n]+):(\d+):\d+: (.*)$", run.stdout, re.M):
        found(*match.groups())


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", ".."))
    names = repository_files(root)
    check_rooms(root, names)
    check_room_order(root)
    check_room_document(root)
    check_paths(root, names)
    check_documents(root, names)
    check_lengths(root, names)
    check_format(root, names)
    check_shell(root, names)
    for text in findings:
        print(text)
    for text in notes:
        print(f"note: {text}")
    print(f"lint: {len(names)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
