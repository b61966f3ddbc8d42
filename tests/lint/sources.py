# SPDX-License-Identifier: Apache-2.0
"""What lint.py and figures.py know about the repository: its files, its rooms, C text without comments."""
import os
import re
import subprocess

C_NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


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


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def without_noise(text):
    """Comments and literals blanked out, line breaks kept."""
    return C_NOISE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def room_of(name):
    """The room of src/ROOM/**.[ch], include/espalier/ROOM.h or include/espalier/ROOM/SUBJECT.h; None for other files."""
    match = re.match(r"(?:src/(\w+)/.+|include/espalier/(\w+)(?:/\w+)?)\.[ch]$", name)
    return (match.group(1) or match.group(2)) if match else None


class Room:
    def __init__(self, rooms, libs, line):
        self.rooms, self.libs, self.line = set(rooms), set(libs), line


def rooms_of(root):
    """{name: Room} from the espl_room() calls of src/CMakeLists.txt, the one table of who may include whom.

    cli is a program and no espl_room(): it may include every room.
    """
    path = os.path.join(root, "src/CMakeLists.txt")
    if not os.path.exists(path):
        return {}
    text = re.sub(r"#[^\n]*", lambda m: " " * len(m.group()), read_text(root, "src/CMakeLists.txt"))
    rooms = {}
    for match in re.finditer(r"\bespl_room\(\s*(\w+)([^)]*)\)", text):
        lists, current = {"ROOMS": [], "LIBS": []}, None
        for word in match.group(2).split():
            current = word if word in lists else current
            if current and word != current:
                lists[current].append(word)
        rooms[match.group(1)] = Room(lists["ROOMS"], lists["LIBS"], line_of(text, match.start()))
    if rooms:
        rooms["cli"] = Room(rooms, [], 1)
    return rooms
