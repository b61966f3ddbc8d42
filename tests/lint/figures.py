#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of how the code under src/ reads, per room and in all: tests/lint/figures.py [-v] [repository root]

functions  definitions, static ones included, and the median, 90th percentile and maximum of their lines
once       share of the static functions that are used at exactly one place (their definition apart)
comments   share of the lines of .c files that hold a comment (blank lines count as lines)
shared     names that functions of more than one file have, and the number of those functions; a room's row counts its own
rungs      lines with `if (st == ESPL_OK`

-v lists the shared names, the long functions and the statics that are used once. Needs universal-ctags.
"""
import argparse
import collections
import os
import re
import statistics
import sys

from sources import definitions, read_text, repository_files, room_of, without_noise

IDENTIFIER = re.compile(r"(?<![\w.])(?<!->)[A-Za-z_]\w*")
COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|(/\*.*?\*/|//[^\n]*)', re.S)
RUNG = re.compile(r"\bif \((?:\w+(?:->|\.))?\w+ == ESPL_OK\b")
LONG = 60


def comment_lines(text):
    lines = set()
    for match in COMMENT.finditer(text):
        if match.group(1):
            first = text.count("\n", 0, match.start())
            lines.update(range(first, first + match.group().count("\n") + 1))
    return len(lines)


class Figures:
    def __init__(self):
        self.lengths, self.statics, self.once = [], 0, []
        self.lines = self.comments = self.rungs = 0
        self.names = collections.defaultdict(set)  # function -> files

    def shared(self):
        return {name: files for name, files in self.names.items() if len(files) > 1}

    def row(self, name):
        n = sorted(self.lengths) or [0]
        shared = self.shared()
        return [name, str(len(self.lengths)), f"{statistics.median(n):g}", str(n[int(0.9 * (len(n) - 1))]), str(n[-1]),
                f"{100 * len(self.once) / max(self.statics, 1):.0f} %", f"{100 * self.comments / max(self.lines, 1):.1f} %",
                f"{len(shared)} / {sum(len(files) for files in shared.values())}", str(self.rungs)]


def measure(root):
    names = [n for n in repository_files(root) if n.startswith("src/") and room_of(n)]
    tags = definitions(root, names)
    if tags is None:
        sys.exit("figures.py: needs universal-ctags")
    rooms, total = collections.defaultdict(Figures), Figures()
    for name in names:
        text = read_text(root, name)
        used = collections.Counter(IDENTIFIER.findall(without_noise(text)))
        functions = [tag for tag in tags if tag.file == name and tag.kind == "function"]
        for figures in (rooms[room_of(name)], total):
            figures.rungs += len(RUNG.findall(text))
            if name.endswith(".c"):
                figures.lines += text.count("\n")
                figures.comments += comment_lines(text)
            for f in functions:
                figures.lengths.append(f.length)
                figures.names[f.name].add(name)
                figures.statics += f.static
                if f.static and used[f.name] == 2:
                    figures.once.append(f)
    return rooms, total, [tag for tag in tags if tag.kind == "function" and tag.length > LONG]


def print_table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    rooms, total, long = measure(os.path.abspath(arguments.root))
    head = ["room", "functions", "median", "p90", "max", "once", "comments", "shared", "rungs"]
    print_table([head] + [rooms[room].row(room) for room in sorted(rooms)] + [total.row("all")])
    worst = sorted(total.shared().items(), key=lambda item: (-len(item[1]), item[0]))
    print("\nnames of most functions: " + ", ".join(f"{name} ({len(files)})" for name, files in worst[:12]))
    if arguments.verbose:
        print("\nshared names")
        for name, files in worst:
            print(f"  {name}: {', '.join(sorted(file.removeprefix('src/') for file in files))}")
        print(f"\nfunctions of more than {LONG} lines")
        for f in sorted(long, key=lambda f: -f.length):
            print(f"  {f.file}:{f.line}: {f.name}, {f.length} lines")
        print("\nstatic functions used once")
        for f in total.once:
            print(f"  {f.file}:{f.line}: {f.name}, {f.length} lines")


if __name__ == "__main__":
    main()
