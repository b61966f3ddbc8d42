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

# Who may include whom: the table of docs/architecture.md. ALL marks the two rooms on top.
ALL = None
ROOMS = {
    "base": set(),
    "plan": {"base"},
    "tensor": {"base"},
    "tokenizer": {"base"},
    "weights": {"base", "tensor"},
    "comm": {"base", "plan"},
    "model": {"base", "tensor", "weights", "plan", "comm"},
    "eval": {"base", "tensor", "model", "tokenizer", "comm", "plan"},
    "sensitivity": {"base", "tensor", "model", "plan", "comm"},
    "prune": {"base", "model", "tensor", "plan", "comm"},
    "agent": {"base", "plan"},
    "checkpoint": {"base", "plan", "tensor", "comm"},
    "run": ALL,
    "cli": ALL,
}
# Third-party header -> the only rooms that may include it.
HEADERS = [
    (re.compile(r"mpi(-ext)?\.h$"), {"comm"}),
    (re.compile(r"(hdf5|H5\w+)\.h$"), {"checkpoint"}),
    (re.compile(r"curl/"), {"agent"}),
    (re.compile(r"(cblas|openblas_config)\.h$"), {"tensor", "prune"}),
    (re.compile(r"(lapack\w*|f77blas)\.h$"), {"prune"}),
    (re.compile(r"(pcre2|utf8proc)\.h$"), {"tokenizer"}),
    (re.compile(r"xxhash\.h$"), {"base"}),
]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
FORBIDDEN_CALL = re.compile(r"(?<![\w.>])(assert|exit|_exit|abort)\s*\(")
MACHINE_PATH = re.compile(r"(?<![\w.~$})*-])/(work|home|root|Users)/")
C_NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

MEDIAN_LIMIT, LENGTH_LIMIT = 20, 100
LONG_FUNCTIONS_ALLOWED = ("src/tensor/",)  # kernels

findings, notes = [], []


def found(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def repository_files(root):
    """Tracked and new files, relative to root; without git, everything outside build and hidden folders."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], check=True,
                             capture_output=True).stdout
        names = [n for n in out.decode().split("\0") if n]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, dirs, files in os.walk(root):
            dirs[:] = [d for d in dirs if d != "build" and not d.startswith(".")]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(n for n in set(names) if os.path.isfile(os.path.join(root, n)))


def read_text(root, name):
    """None for binary files."""
    with open(os.path.join(root, name), "rb") as f:
        data = f.read()
    if b"\0" in data:
        return None
    return data.decode("utf-8", "replace")


def room_of(name):
    match = re.match(r"(?:src/(\w+)/.+|include/espalier/(\w+))\.[ch]$", name)
    return (match.group(1) or match.group(2)) if match else None


def without_noise(text):
    """Comments and literals blanked out, line breaks kept."""
    return C_NOISE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def check_include(name, line, room, quote, header):
    if header.startswith("espalier/"):
        other = header[len("espalier/"):].removesuffix(".h")
        allowed = ROOMS[room]
        if other not in ROOMS:
            found(name, line, f"includes {header}, which is no room")
        elif other != room and allowed is not ALL and other not in allowed:
            found(name, line, f"room {room} may not include room {other}")
    elif quote == '"' and "/" in header:
        found(name, line, f"includes {header}: other rooms are reached through espalier/<room>.h")
    for pattern, rooms in HEADERS:
        if pattern.match(header) and room not in rooms:
            found(name, line, f"{header} belongs to room {' and '.join(sorted(rooms))} alone")


def check_rooms(root, names):
    for name in names:
        room = room_of(name)
        if not room:
            continue
        if room not in ROOMS:
            found(name, 1, f"there is no room {room} in the table of tests/lint/lint.py")
            continue
        text = read_text(root, name) or ""
        for match in INCLUDE.finditer(re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)):
            check_include(name, line_of(text, match.start()), room, match.group(1), match.group(2))
        if room == "cli":
            continue
        for match in FORBIDDEN_CALL.finditer(without_noise(text)):
            found(name, line_of(text, match.start()), f"{match.group(1)}() outside cli")


def check_links(root):
    """src/CMakeLists.txt links no room that the table forbids."""
    name = "src/CMakeLists.txt"
    path = os.path.join(root, name)
    if not os.path.exists(path):
        return
    text = re.sub(r"#[^\n]*", lambda m: " " * len(m.group()), read_text(root, name))
    for match in re.finditer(r"espl_room\(\s*(\w+)([^)]*)\)", text):
        room, rest = match.groups()
        linked = re.search(r"\bROOMS\b(.*?)(?:\bLIBS\b|$)", rest, re.S)
        allowed = ROOMS.get(room, set())
        for other in linked.group(1).split() if linked else []:
            if allowed is not ALL and other not in allowed:
                found(name, line_of(text, match.start()), f"room {room} may not link room {other}")


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
    if median > MEDIAN_LIMIT:
        found("src", 1, f"functions have a median of {median:g} lines, at most {MEDIAN_LIMIT} wanted")
    for name, line, function, length in rows:
        if length <= LENGTH_LIMIT:
            continue
        if name.startswith(LONG_FUNCTIONS_ALLOWED):
            notes.append(f"{name}:{line}: {function} has {length} lines (a kernel)")
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
    check_links(root)
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
